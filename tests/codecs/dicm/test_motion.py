"""Vectors, and the latents that they carry along: cases worked out by hand, and fields that nobody writes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.dicm.layouts import INTRA, MOVED, PREDICTED, VIDEO_LAYOUTS
from framevault.codecs.dicm.motion import (
    LATENT_LIMIT,
    LONGEST_VECTOR,
    VECTOR_TABLE,
    Motion,
    MotionField,
    count_table,
)
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.entropy.coder import SymbolDecoder, SymbolEncoder
from framevault.codecs.entropy.tables import FlagTable
from framevault.codecs.errors import BitstreamError
from framevault.codecs.spec import CODECS, CodecSpec, thinned
from framevault.codecs.testing import torch_threads
from tests.codecs.dicm.moving_toy import (
    NUM_CARRIED,
    random_field,
    random_motion,
    random_segment,
    save_video_toy,
)

MIDDLE, RIGHT = 4, 5
"""Neighbours of a position: itself, and the next in its row."""

NOT_ONE = np.zeros((3, 4), np.bool_)
"""Flags of which none is set."""

MOST_VECTORS = sorted({layout.most_vectors for layout in VIDEO_LAYOUTS.values()} - {0})
"""That frames may have, in one version or another."""


def step_number(down: int, right: int) -> int:
    """Return the number of a step's map."""
    return 8 * (down + 4) + right + 4


def motion_of(weights: dict[tuple[int, int, int, int], int], *, num_channels: int = 1) -> Motion:
    """Return maps of given weights (by number of the map, channel out, channel in, neighbour), 0 elsewhere."""
    maps = torch.zeros(64, num_channels, num_channels, 9, dtype=torch.float64)
    for place, weight in weights.items():
        maps[place] = weight
    table = FlagTable(probabilities=np.full(512, 20_000, np.int32))
    return Motion(maps=maps.flatten(2), moved_table=table, choice_table=table)


def field_of(vectors: list[tuple[int, int]], number_hw: list[list[int]]) -> MotionField:
    return MotionField(vectors_k2=np.array(vectors, np.int32), number_hw=np.array(number_hw, np.uint8))


def latents(*rows: list[float]) -> Tensor:
    """Return one channel, float32 [1, h, w]."""
    return torch.tensor(rows)[None]


IDENTITY = motion_of({(step_number(0, 0), 0, 0, MIDDLE): 64})
"""Takes over what is there, for vectors of whole positions."""


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        ((0, 0), [[1, 2, 3], [4, 5, 6]]),
        ((8, 0), [[4, 5, 6], [4, 5, 6]]),
        ((0, 8), [[2, 3, 3], [5, 6, 6]]),
        ((-8, -16), [[1, 1, 1], [1, 1, 1]]),
        ((8 * 400, -8 * 400), [[4, 4, 4], [4, 4, 4]]),
    ],
)
def test_whole_positions_are_an_index_and_beyond_the_border_lies_the_border(
    vector: tuple[int, int], expected: list[list[float]]
) -> None:
    carried = IDENTITY.carry(latents([1.0, 2, 3], [4, 5, 6]), field_of([vector], [[1, 1, 1], [1, 1, 1]]))

    assert carried.dtype == torch.float32
    assert carried[0].tolist() == expected


def test_only_what_moved_is_carried_and_all_of_it_at_once() -> None:
    """What was carried to a place is not carried on from there."""
    field = field_of([(0, 8), (0, -8), (8, 0)], [[1, 2, 0], [1, 2, 3]])

    carried = IDENTITY.carry(latents([1.0, 2, 3], [4, 5, 6]), field)

    assert carried[0].tolist() == [[2, 1, 3], [5, 4, 6]]


@pytest.mark.parametrize(
    ("vector", "step", "place"),
    [
        ((0, 3), (0, 3), (1, 1)),
        ((0, 4), (0, -4), (1, 2)),
        ((3, -4), (3, -4), (1, 1)),
        ((4, -5), (-4, 3), (2, 0)),
        ((-5, 11), (3, 3), (0, 2)),
    ],
)
def test_the_map_is_that_of_the_step_within_the_nearest_position(
    vector: tuple[int, int], step: tuple[int, int], place: tuple[int, int]
) -> None:
    motion = motion_of({(step_number(*step), 0, 0, MIDDLE): 64})
    previous16_1hw = torch.arange(1.0, 10.0).reshape(1, 3, 3)

    carried = motion.carry(previous16_1hw, field_of([vector], [[0, 0, 0], [0, 1, 0], [0, 0, 0]]))

    assert float(carried[0, 1, 1]) == float(previous16_1hw[0, place[0], place[1]])


def test_sums_are_rounded_half_up_and_kept_within_the_limit() -> None:
    # Half of the position and half of the next one in its row; in the other map as much as there can be.
    half = motion_of(
        {
            (step_number(0, 3), 0, 0, MIDDLE): 32,
            (step_number(0, 3), 0, 0, RIGHT): 32,
            (step_number(0, 2), 0, 0, MIDDLE): 127,
        }
    )
    large = float(LATENT_LIMIT - 10)

    carried = half.carry(latents([1.0, 2, -4, -7, large, -large]), field_of([(0, 3), (0, 2)], [[1, 1, 1, 0, 2, 2]]))

    # 1.5 -> 2, -1 -> -1, -5.5 -> -5.
    assert carried[0, 0].tolist() == [2, -1, -5, -7, LATENT_LIMIT, -LATENT_LIMIT]


def test_every_neighbour_of_every_channel_counts_and_other_channels_stay() -> None:
    random = torch.Generator().manual_seed(1)
    motion = random_motion(3)
    previous16_mhw = torch.randint(-3000, 3000, (5, 4, 6), generator=random).float()
    number_hw = np.zeros((4, 6), np.uint8)
    number_hw[1, 2] = 1

    carried = motion.carry(previous16_mhw, field_of([(9, -3)], number_hw.tolist()))

    # 9 + 4 = 13: a row further, step 5; -3 + 4 = 1: the same column, step 1.
    around = previous16_mhw[:3, 1:4, 1:4].flatten().tolist()
    weights_cn = motion.maps[8 * 5 + 1].tolist()
    expected = [sum(w * x for w, x in zip(row, around, strict=True)) for row in weights_cn]
    assert carried[:3, 1, 2].tolist() == [(int(total) + 32) // 64 for total in expected]
    carried[:3, 1, 2] = previous16_mhw[:3, 1, 2]
    assert torch.equal(carried, previous16_mhw)


def test_a_vector_of_nothing_has_a_map_as_any_other_or_takes_all_channels_of_the_background() -> None:
    motion = motion_of({(step_number(0, 0), 0, 0, MIDDLE): 32, (step_number(0, 0), 0, 0, RIGHT): 64})
    previous16_mhw = torch.tensor([[[2.0, 4, 6]], [[20.0, 40, 60]]])
    background16_mhw = torch.tensor([[[-1.0, -2, -3]], [[-4.0, -5, -6]]])
    field = field_of([(0, 0), (0, 8), (0, 0)], [[1, 2, 3]])

    as_any_other = motion.carry(previous16_mhw, field)
    from_behind = motion.carry(previous16_mhw, field, background16_mhw=background16_mhw)

    # Half of the position and all of the next one in its row; of the second channel there is no map.
    assert as_any_other.tolist() == [[[5, 9, 9]], [[20, 40, 60]]]
    assert from_behind.tolist() == [[[-1, 9, -3]], [[-4, 40, -6]]]


def test_what_has_a_vector_of_nothing_is_moved_but_not_displaced() -> None:
    field = field_of([(0, 0), (0, -3), (2, 0)], [[0, 1, 2], [3, 0, 1]])

    assert field.moved_hw.tolist() == [[False, True, True], [True, False, True]]
    assert field.displaced_hw.tolist() == [[False, False, True], [True, False, False]]


def test_tables_are_those_of_the_format_page() -> None:
    frequencies = np.diff(VECTOR_TABLE.cumulative[0])

    assert frequencies[:-1].tolist() == [9000 // (abs(n) + 1) for n in range(-32, 33)]
    assert (frequencies[-1], VECTOR_TABLE.offsets[0]) == (952, -32)
    assert count_table(8).cumulative[0].tolist() == [*(8191 * n for n in range(9)), 65536]
    assert count_table(16).cumulative[0].tolist() == [*(4095 * n for n in range(17)), 65536]
    assert count_table(8).offsets[0] == count_table(16).offsets[0] == 1


@settings(max_examples=60)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    most_vectors=st.sampled_from(MOST_VECTORS),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_field_survives_the_stream(height: int, width: int, most_vectors: int, seed: int) -> None:
    random, motion = np.random.default_rng(seed), random_motion(1)
    field = random_field(LatentGrid(height, width), random, most_vectors=most_vectors)
    previous_hw = random.random((height, width)) < 0.5
    encoder = SymbolEncoder()

    motion.push(encoder, field, previous_hw, most_vectors=most_vectors)
    decoder = SymbolDecoder(encoder.finish())
    found = motion.pull(decoder, previous_hw, most_vectors=most_vectors)

    decoder.finish()
    assert np.array_equal(found.vectors_k2, field.vectors_k2)
    assert np.array_equal(found.number_hw, field.number_hw)
    assert np.array_equal(found.moved_hw, field.number_hw > 0)


@pytest.mark.parametrize("most_vectors", MOST_VECTORS)
def test_the_longest_vectors_and_as_many_as_may_be_survive(most_vectors: int) -> None:
    vectors = [(LONGEST_VECTOR, -LONGEST_VECTOR)] * most_vectors
    field = field_of(vectors, [[0, 1, 2, 3], [4, 5, 6, 7], [most_vectors, most_vectors, 1, most_vectors - 1]])
    encoder = SymbolEncoder()

    IDENTITY.push(encoder, field, NOT_ONE, most_vectors=most_vectors)

    found = IDENTITY.pull(SymbolDecoder(encoder.finish()), NOT_ONE, most_vectors=most_vectors)
    assert found.vectors_k2.tolist() == [list(vector) for vector in vectors]
    assert np.array_equal(found.number_hw, field.number_hw)


def push_symbols(encoder: SymbolEncoder, count: int, numbers: list[int], *, most_vectors: int) -> None:
    encoder.push(np.array([count], np.int32), np.zeros(1, np.uint8), count_table(most_vectors))
    encoder.push(np.array(numbers, np.int32), np.zeros(len(numbers), np.uint8), VECTOR_TABLE)


@pytest.mark.parametrize(
    ("most_vectors", "count"), [(most, count) for most in MOST_VECTORS for count in (0, most + 1, -(2**31), 2**31 - 1)]
)
def test_fields_of_no_or_too_many_vectors_are_refused(most_vectors: int, count: int) -> None:
    encoder = SymbolEncoder()
    push_symbols(encoder, count, [], most_vectors=most_vectors)

    with pytest.raises(BitstreamError, match=f"a frame must have 1 to {most_vectors} vectors, got {count}"):
        IDENTITY.pull(SymbolDecoder(encoder.finish()), NOT_ONE, most_vectors=most_vectors)


@pytest.mark.parametrize("step", [LONGEST_VECTOR + 1, -LONGEST_VECTOR - 1, -(2**31), 2**31 - 1])
def test_vectors_that_are_too_long_are_refused(step: int) -> None:
    encoder = SymbolEncoder()
    push_symbols(encoder, 2, [0, 1, 2, step], most_vectors=8)

    with pytest.raises(BitstreamError, match=rf"a vector must have at most 4096 steps, got \[\[0, 1\], \[2, {step}"):
        IDENTITY.pull(SymbolDecoder(encoder.finish()), NOT_ONE, most_vectors=8)


@pytest.mark.parametrize("is_of_another", [False, True])
def test_a_vector_of_what_did_not_move_or_has_another_is_refused(is_of_another: bool) -> None:
    moved_hw, first_hw, second_hw = NOT_ONE.copy(), NOT_ONE.copy(), NOT_ONE.copy()
    moved_hw[0] = first_hw[0, 1] = True
    second_hw[(0, 1) if is_of_another else (2, 2)] = True
    left_hw = moved_hw & ~first_hw
    encoder = SymbolEncoder()
    push_symbols(encoder, 3, [0, 1] * 3, most_vectors=8)
    for flags_hw, before_hw in ((moved_hw, NOT_ONE), (first_hw, moved_hw), (second_hw, left_hw)):
        encoder.push_flags(flags_hw, before_hw, IDENTITY.moved_table)

    with pytest.raises(BitstreamError, match="vector 2 must be of positions that moved and have none before it"):
        IDENTITY.pull(SymbolDecoder(encoder.finish()), NOT_ONE, most_vectors=8)


GRID = LatentGrid(6, 8)
SIZE = {"height": 90, "width": 120}


@pytest.fixture(scope="module", params=[9, 13])
def moving(request: pytest.FixtureRequest, moving_path: Path) -> DicmCodec:
    """The toy with moved frames, of each version that has them."""
    return load_dicm(CodecSpec(name="dicm", weights=str(moving_path), bitstream_version=request.param))


def kinds_of(codec: DicmCodec, streams: list[bytes]) -> list[int]:
    assert codec.video is not None
    table = codec.video.layout.kind_table
    return [int(SymbolDecoder(stream).pull(np.zeros(1, np.uint8), table)[0]) for stream in streams]


def test_segments_have_all_kinds_of_frames_and_decode_to_what_was_coded(moving: DicmCodec) -> None:
    streams, coded_nmhw = random_segment(moving, 20, grid=GRID, seed=4)
    assert moving.video is not None

    decoded_nmhw = moving.video.decode(SegmentState(), streams, GRID, device="cpu")

    assert set(kinds_of(moving, streams)) == {PREDICTED, INTRA, MOVED}
    assert [moving.is_independent(stream) for stream in streams] == [
        kind == INTRA for kind in kinds_of(moving, streams)
    ]
    assert torch.equal(decoded_nmhw, coded_nmhw)


@pytest.mark.parametrize("num_threads", [1, 2, 4])
@pytest.mark.parametrize("frames_a_call", [1, 3, 20])
def test_threads_and_calls_change_no_bit(moving: DicmCodec, num_threads: int, frames_a_call: int) -> None:
    streams, coded_nmhw = random_segment(moving, 20, grid=GRID, seed=5)
    assert moving.video is not None
    state = SegmentState()

    with torch_threads(num_threads):
        again, _ = random_segment(moving, 20, grid=GRID, seed=5)
        decoded = [
            moving.video.decode(state, streams[first : first + frames_a_call], GRID, device="cpu")
            for first in range(0, 20, frames_a_call)
        ]

    assert again == streams
    assert torch.equal(torch.cat(decoded), coded_nmhw)


def test_thinning_keeps_kinds_and_takes_fewer_bytes(moving: DicmCodec) -> None:
    streams, _ = random_segment(moving, 12, grid=GRID, seed=6)

    for slices in (1, 2):
        thin_streams = moving.thinner(**SIZE, slices=slices).thin(streams)
        reader = load_dicm(thinned(moving.spec, slices=slices))

        assert kinds_of(reader, thin_streams) == kinds_of(moving, streams)
        assert sum(map(len, thin_streams)) < sum(map(len, streams))
        assert bool(reader.decoder(**SIZE).decode(thin_streams).isfinite().all())


def test_without_a_slice_nothing_is_moved(moving: DicmCodec) -> None:
    streams, _ = random_segment(moving, 12, grid=GRID, seed=6)

    thin_streams = moving.thinner(**SIZE, slices=0).thin(streams)

    kinds = kinds_of(moving, streams)
    assert kinds_of(moving, thin_streams) == [INTRA if kind == INTRA else PREDICTED for kind in kinds]


def test_a_moved_frame_needs_one_before_it_and_maps(moving: DicmCodec, tmp_path: Path) -> None:
    weights = str(save_video_toy(tmp_path / "toy.safetensors"))
    without = load_dicm(dataclasses.replace(moving.spec, weights=weights))
    streams, _ = random_segment(moving, 20, grid=GRID, seed=4)
    moved = kinds_of(moving, streams).index(MOVED)
    decoder = without.decoder(**SIZE)

    with pytest.raises(BitstreamError, match="stream 0 of the call: it is coded against the frame before it"):
        moving.decoder(**SIZE).decode(streams[moved:])
    decoder.decode(streams[:1])
    with pytest.raises(BitstreamError, match="its latents are moved, for which the checkpoint has no maps"):
        decoder.decode(streams[moved:])


@pytest.mark.parametrize("version", [9, 13])
def test_a_checkpoint_without_maps_moves_nothing(tmp_path: Path, version: int) -> None:
    weights = str(save_video_toy(tmp_path / "toy.safetensors"))
    codec = load_dicm(CodecSpec(name="dicm", weights=weights, bitstream_version=version))
    frames = torch.randint(0, 256, (1, 3, 90, 120), generator=torch.Generator().manual_seed(1)).byte()

    streams = codec.encoder(**SIZE).encode(torch.cat([frames.roll(6 * number, dims=3) for number in range(3)]))

    assert codec.video is not None
    assert not codec.video.has_moved_frames
    assert MOVED not in kinds_of(codec, streams)
    assert len(codec.decoder(**SIZE).decode(streams)) == 3


@pytest.mark.parametrize(
    ("version", "kind", "known"),
    [(version, kind, "0, 1") for version in (2, 4) for kind in (2, -1)]
    + [(version, kind, "0, 1, 2") for version in (9, 10, 13, 14) for kind in (3, -1)],
)
def test_unknown_kinds_are_refused(moving_path: Path, version: int, kind: int, known: str) -> None:
    slices = 1 if version in CODECS["dicm"].thinned_versions.values() else None
    codec = load_dicm(CodecSpec(name="dicm", weights=str(moving_path), bitstream_version=version, slices=slices))
    assert codec.video is not None
    encoder = SymbolEncoder()
    encoder.push(np.array([kind], np.int32), np.zeros(1, np.uint8), codec.video.layout.kind_table)

    with pytest.raises(BitstreamError, match=f"a frame's kind must be one of {known}, got {kind}"):
        codec.decoder(**SIZE).decode([encoder.finish()])


def test_a_damaged_field_is_named_and_costs_those_that_lean_on_it(moving: DicmCodec) -> None:
    streams, _ = random_segment(moving, 3, grid=GRID, seed=4)
    assert moving.video is not None
    encoder = SymbolEncoder()
    encoder.push(np.array([MOVED], np.int32), np.zeros(1, np.uint8), moving.video.layout.kind_table)
    most_vectors = moving.video.layout.most_vectors
    push_symbols(encoder, most_vectors + 1, [], most_vectors=most_vectors)
    decoder = moving.decoder(**SIZE)
    decoder.decode(streams[:1])

    message = f"stream 0 of the call: a frame must have 1 to {most_vectors} vectors, got {most_vectors + 1}"
    with pytest.raises(BitstreamError, match=message):
        decoder.decode([encoder.finish()])
    with pytest.raises(BitstreamError, match="which was not decoded"):
        decoder.decode(streams[1:])


def test_maps_go_to_a_device_and_carry_the_same_there() -> None:
    motion = random_motion(NUM_CARRIED)

    moved = motion.to("cpu")

    assert moved.num_channels == NUM_CARRIED
    assert torch.equal(moved.maps, motion.maps)
    assert moved.moved_table is motion.moved_table
