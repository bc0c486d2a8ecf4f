"""The second reader decodes what coder and dicm write, from FORMAT.md alone, and refuses what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.dicm.layouts import MOVED
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.entropy.coder import SymbolDecoder, SymbolEncoder
from framevault.codecs.errors import BitstreamError
from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.spec import CODECS, CodecSpec, thinned
from tests.codecs.dicm.moving_toy import random_field, random_segment, save_moving_toy, save_video_toy
from tests.codecs.dicm.toy import random_latents, save_toy
from tests.codecs.entropy.programs import Program, PushedSymbols, contents, decode, encode, programs
from tests.codecs.hsc.toy import random_latents as random_hsc_latents
from tests.codecs.hsc.toy import save_toy as save_toy_hsc
from tests.storage.independent.checkpoints import parse_checkpoint
from tests.storage.independent.dicm import DicmReader
from tests.storage.independent.documents import FormatError
from tests.storage.independent.entropy import StreamReader, Tables
from tests.storage.independent.hsc import HscReader

EXAMPLE = Tables.parse(
    np.array([[0, 16384, 49152, 65280, 65536], [0, 65000, 65536, 65536, 65536]]), np.array([5, 3]), np.array([-1, 0])
)
"""Of FORMAT.md."""


def read(stream: bytes, program: Program) -> list[list[int]]:
    """Read what a program pushes, flattened, with the independent reader."""
    reader, values = StreamReader(stream), []
    for item in program:
        if isinstance(item, PushedSymbols):
            tables = Tables.parse(*(each.astype(np.int64) for each in tensors_of(item)))
            values.append(reader.symbols(item.numbers.tolist(), tables, skip_below=item.skip_below))
        else:
            flags_hw = reader.flags(item.previous_hw.tolist(), item.table.probabilities.tolist())
            values.append([int(flag) for row in flags_hw for flag in row])
    reader.finish()
    return values


def tensors_of(item: PushedSymbols) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int32]], ...]:
    return item.tables.cumulative, item.tables.lengths, item.tables.offsets


@pytest.mark.parametrize(
    ("stream", "numbers", "symbols"),
    [
        ("00902302", [0, 0, 0, 0], [0, 1, -1, 2]),
        ("93bf0bb31f0ffd2242ab", [0, 0, 1, 0, 1], [0, -3, 0, 1_000_000, 0]),
        ("", [], []),
    ],
)
def test_the_examples_of_the_format_page_are_true(stream: str, numbers: list[int], symbols: list[int]) -> None:
    reader = StreamReader(bytes.fromhex(stream))

    assert reader.symbols(numbers, EXAMPLE) == symbols
    reader.finish()


def test_the_example_of_flags_on_the_format_page_is_true() -> None:
    probabilities = [6554] * 512
    probabilities[0], probabilities[1], probabilities[16] = 2000, 30000, 40000
    reader = StreamReader(bytes.fromhex("fee7b9"))

    flags_hw = reader.flags([[False, False, False], [True, False, False]], probabilities)

    assert flags_hw == [[True, False, False], [True, True, False]]
    reader.finish()


@pytest.mark.parametrize("stream", ["00", "ff0f", "0010", "011000" + "00" * 12])
def test_streams_that_nobody_writes_are_refused(stream: str) -> None:
    with pytest.raises(FormatError, match="a state as nobody writes it"):
        StreamReader(bytes.fromhex(stream))


def test_streams_that_are_refused_for_what_was_expected() -> None:
    early, late = StreamReader(bytes.fromhex("0540")), StreamReader(bytes.fromhex("0510"))

    with pytest.raises(FormatError, match="ends early"):
        early.symbols([0], EXAMPLE)
    late.symbols([0], EXAMPLE)
    with pytest.raises(FormatError, match="does not end here"):
        late.finish()


@settings(max_examples=100)
@given(program=programs)
def test_whatever_was_pushed_is_read(program: Program) -> None:
    assert read(encode(SymbolEncoder(), program), program) == contents(program)


@settings(max_examples=150)
@given(
    program=programs,
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=2),
    cut=st.integers(-9, 9),
)
def test_both_refuse_the_same_damaged_streams_and_read_the_same_from_others(
    program: Program, edits: list[tuple[int, int]], cut: int
) -> None:
    stream = bytearray(encode(SymbolEncoder(), program))
    for position, value in edits:
        if stream:
            stream[position % len(stream)] = value
    damaged = bytes(stream[:cut]) if cut < 0 else bytes(stream) + bytes(range(cut))
    product: list[list[int]] | None
    independent: list[list[int]] | None
    try:
        product = decode(SymbolDecoder(damaged), program)
    except BitstreamError:
        product = None
    try:
        independent = read(damaged, program)
    except FormatError:
        independent = None

    assert independent == product


@pytest.fixture(scope="module")
def toy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("dicm") / "toy.safetensors")


@pytest.fixture(scope="module")
def toy(toy_path: Path) -> DicmCodec:
    return load_dicm(CodecSpec(name="dicm", weights=str(toy_path), bitstream_version=1))


def test_the_golden_vectors_of_checkpoints_decode(toy_path: Path) -> None:
    shipped = CodecSpec(name="dicm").checkpoint_path
    assert shipped is not None
    assert CODECS["dicm"].bitstream_versions == (1, 2, 9, 13)

    for path in (shipped, toy_path):
        checkpoint = parse_checkpoint(path.read_bytes())

        assert checkpoint.codec == "dicm"
        DicmReader(checkpoint).check_golden()


@settings(max_examples=15)
@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_dicm_streams_of_any_size_decode_to_the_same_latents(
    toy: DicmCodec, toy_path: Path, height: int, width: int, seed: int
) -> None:
    grid = LatentGrid(height, width)
    y_nchw, z_nchw = random_latents(toy.networks.config, 3, grid=grid, seed=seed)
    streams = toy.bitstream.encode(y_nchw, z_nchw)
    reader = DicmReader(parse_checkpoint(toy_path.read_bytes()))

    latent16_nchw = toy.bitstream.decode(streams, grid, device="cpu")

    for stream, latent16_chw in zip(streams, latent16_nchw, strict=True):
        found_chw = reader.decode(stream, coded_height=16 * height - 15, coded_width=16 * width)
        assert torch.equal(torch.from_numpy(found_chw).float(), latent16_chw)


@pytest.fixture(scope="module")
def video_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy with video mode."""
    return save_video_toy(tmp_path_factory.mktemp("video") / "toy.safetensors")


@pytest.fixture(scope="module")
def moving_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy with maps of motion, too."""
    return save_moving_toy(tmp_path_factory.mktemp("motion") / "toy.safetensors")


def load_moving(path: Path, version: int, *, slices: int | None) -> DicmCodec:
    """Load a toy for streams of a version, thinned or not."""
    whole = CodecSpec(name="dicm", weights=str(path), bitstream_version=version)
    return load_dicm(whole if slices is None else thinned(whole, slices=slices))


def test_the_golden_vectors_of_video_checkpoints_decode(video_path: Path, moving_path: Path) -> None:
    for path in (video_path, moving_path):
        DicmReader(parse_checkpoint(path.read_bytes())).check_golden()


@settings(max_examples=15)
@given(height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
def test_video_streams_of_any_size_decode_to_the_same_latents(
    video_path: Path, height: int, width: int, seed: int
) -> None:
    codec = load_dicm(CodecSpec(name="dicm", weights=str(video_path), bitstream_version=2))
    assert codec.video is not None
    grid, random = LatentGrid(height, width), np.random.default_rng(seed)
    y_nchw, z_nchw = random_latents(codec.networks.config, 6, grid=grid, seed=seed)
    kept_hw = torch.from_numpy(random.random((height, width)) < random.random())
    for number in range(1, 6):  # some positions stay as they were, and those that move do it by a little or a lot
        y_nchw[number] = torch.where(kept_hw, y_nchw[number - 1], y_nchw[number])
    streams = codec.video.encode(SegmentState(), y_nchw, z_nchw, rule=SkipRule(most_coded=random.choice([0.4, 1.1])))

    latent16_nchw = codec.video.decode(SegmentState(), streams, grid, device="cpu")

    found = DicmReader(parse_checkpoint(video_path.read_bytes())).decode_segment(streams, height=height, width=width)
    assert torch.equal(torch.from_numpy(np.stack(found)).float(), latent16_nchw)


def test_a_predicted_frame_without_one_before_it_is_refused(video_path: Path) -> None:
    reader = DicmReader(parse_checkpoint(video_path.read_bytes()))

    for version in (2, 9, 13):
        with pytest.raises(FormatError, match="kind 0, after 0 frames"):
            reader.decode_segment([b""], height=2, width=2, version=version)


@settings(max_examples=25)
@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    version=st.sampled_from([9, 13]),
    slices=st.sampled_from([None, 0, 1, 2]),
    seed=st.integers(0, 2**32 - 1),
)
def test_moved_frames_of_any_size_and_slices_decode_to_the_same_latents(
    moving_path: Path, height: int, width: int, version: int, slices: int | None, seed: int
) -> None:
    codec = load_moving(moving_path, version, slices=slices)
    assert codec.video is not None
    grid, version = LatentGrid(height, width), codec.spec.bitstream_version
    streams, coded_nchw = random_segment(codec, 6 if version <= 10 else 14, grid=grid, seed=seed)
    reader = DicmReader(parse_checkpoint(moving_path.read_bytes()))

    latent16_nchw = codec.video.decode(SegmentState(), streams, grid, device="cpu")

    found = reader.decode_segment(streams, height=height, width=width, slices=slices, version=version)
    assert torch.equal(latent16_nchw, coded_nchw)
    assert torch.equal(torch.from_numpy(np.stack(found)).float(), latent16_nchw)


@pytest.mark.parametrize("version", [9, 13])
def test_a_moved_frame_without_slices_is_what_was_carried(moving_path: Path, version: int) -> None:
    """Framevault writes none, but other writers may."""
    codec = load_moving(moving_path, version, slices=0)
    assert codec.video is not None
    assert codec.video.motion is not None
    grid = LatentGrid(4, 5)
    (lead,), latent_nchw = random_segment(codec, 1, grid=grid, seed=1)
    most_vectors, flags_hw = codec.video.layout.most_vectors, np.random.default_rng(3).random((4, 5)) < 0.5
    field = random_field(grid, np.random.default_rng(2), most_vectors=most_vectors)
    encoder = SymbolEncoder()
    encoder.push(np.array([MOVED], np.int32), np.zeros(1, np.uint8), codec.video.layout.kind_table)
    codec.video.motion.push(encoder, field, np.zeros((4, 5), np.bool_), most_vectors=most_vectors)
    encoder.push_flags(flags_hw, np.zeros((4, 5), np.bool_), codec.video.flag_table)
    streams = [lead, encoder.finish()]

    latent16_nchw = codec.video.decode(SegmentState(), streams, grid, device="cpu")

    reader = DicmReader(parse_checkpoint(moving_path.read_bytes()))
    found = reader.decode_segment(streams, height=4, width=5, slices=0, version=version + 1)
    background16_mhw = latent_nchw[0] if codec.video.layout.has_background else None
    carried_mhw = codec.video.motion.carry(latent_nchw[0], field, background16_mhw=background16_mhw)
    assert torch.equal(latent16_nchw[1], carried_mhw)
    assert torch.equal(torch.from_numpy(np.stack(found)).float(), latent16_nchw)


@settings(max_examples=100)
@given(
    version=st.sampled_from([9, 13]),
    seed=st.integers(0, 2**32 - 1),
    edit=st.tuples(st.integers(0, 10_000), st.integers(0, 255)),
)
def test_both_refuse_the_same_damaged_moved_frames(
    moving_path: Path, version: int, seed: int, edit: tuple[int, int]
) -> None:
    codec = load_moving(moving_path, version, slices=1)
    assert codec.video is not None
    grid = LatentGrid(3, 4)
    streams, _ = random_segment(codec, 4, grid=grid, seed=seed)
    damaged = bytearray(streams[3])
    if damaged:
        damaged[edit[0] % min(len(damaged), 12)] = edit[1]
    streams[3] = bytes(damaged)
    reader = DicmReader(parse_checkpoint(moving_path.read_bytes()))
    product: Tensor | None
    independent: Tensor | None
    try:
        product = codec.video.decode(SegmentState(), streams, grid, device="cpu")
    except BitstreamError:
        product = None
    try:
        found = reader.decode_segment(streams, height=3, width=4, slices=1, version=version + 1)
        independent = torch.from_numpy(np.stack(found)).float()
    except FormatError:
        independent = None

    assert (product is None) == (independent is None)
    assert product is None or independent is None or torch.equal(product, independent)


@pytest.fixture(scope="module")
def hsc_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_hsc(tmp_path_factory.mktemp("hsc") / "toy.safetensors")


def test_the_golden_vectors_of_hsc_checkpoints_decode(hsc_path: Path) -> None:
    shipped = CodecSpec(name="hsc").checkpoint_path
    assert shipped is not None

    for path in (hsc_path, *([shipped] if shipped.exists() else [])):
        checkpoint = parse_checkpoint(path.read_bytes())

        assert checkpoint.codec == "hsc"
        HscReader(checkpoint).check_golden()


@settings(max_examples=10)
@given(slices=st.sampled_from([None, 0, 1, 2]), seed=st.integers(0, 2**32 - 1))
def test_hsc_streams_of_any_number_of_slices_decode_to_the_same_symbols(
    hsc_path: Path, slices: int | None, seed: int
) -> None:
    codec = load_hsc(CodecSpec(name="hsc", weights=str(hsc_path), slices=slices))
    streams = [*codec.bitstream.encode(*random_hsc_latents(codec.networks.config, 5, seed=seed)), b""]
    reader = HscReader(parse_checkpoint(hsc_path.read_bytes()))

    decoded = codec.bitstream.decode(streams, device="cpu")

    for stream, core_k, latent16_mgg in zip(streams, *decoded, strict=True):
        found_k, found_mgg = reader.decode(stream, quality=codec.spec.quality, slices=slices)
        assert torch.equal(torch.from_numpy(found_k).float(), core_k)
        assert torch.equal(torch.from_numpy(found_mgg).float(), latent16_mgg)
