"""The hsc codec with a toy checkpoint: the protocols, any size of frame, and what is outside its domain."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from framevault.codecs.base import SupportsDomainCheck, SupportsEditing, SupportsThinning
from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.errors import BitstreamError, CheckpointError, CodecError
from framevault.codecs.hsc.calibration import find_limits
from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.hsc.distortion import NO_LIMITS, DomainLimits
from framevault.codecs.hsc.encoder_networks import EncoderNetworks
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec, codec_fingerprint, thinned
from framevault.codecs.testing import CodecTests, smooth_frames
from tests.codecs.hsc.toy import TOY_CONFIG, save_toy

SIDE = TOY_CONFIG.resolution


class TestHscCodec(CodecTests):
    """The protocol's tests."""

    tolerance = 1.0

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def spec_of_toy(cls, toy_hsc_path: Path) -> None:
        cls.spec = CodecSpec(name="hsc", weights=str(toy_hsc_path))


class TestThinnedHscCodec(CodecTests):
    """The same with streams of core symbols and one slice."""

    tolerance = 1.0

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def spec_of_toy(cls, toy_hsc_path: Path) -> None:
        cls.spec = CodecSpec(name="hsc", weights=str(toy_hsc_path), slices=1)


@pytest.fixture
def frames() -> Tensor:
    return smooth_frames(3, SIDE, SIDE)


def encode(codec: HscCodec, frames_nchw: Tensor) -> list[bytes]:
    return codec.encoder(height=frames_nchw.shape[2], width=frames_nchw.shape[3]).encode(frames_nchw)


def test_it_has_the_abilities_of_its_protocols(toy_hsc: HscCodec) -> None:
    assert isinstance(toy_hsc, SupportsThinning)
    assert isinstance(toy_hsc.encoder(height=8, width=8), SupportsDomainCheck)
    assert isinstance(toy_hsc.decoder(height=8, width=8), SupportsEditing)


def test_the_registry_loads_it_and_every_frame_is_independent(toy_hsc: HscCodec, frames: Tensor) -> None:
    codec = load_codec(toy_hsc.spec)

    assert isinstance(codec, HscCodec)
    assert all(codec.is_independent(stream) for stream in encode(codec, frames))


def test_without_shipped_weights_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(CodecSpec, "checkpoint_path", property(lambda _: tmp_path / "face128.safetensors"))

    with pytest.raises(CheckpointError, match=r"ships no weights of codec 'hsc' \(.*face128.*\): name some"):
        load_codec(CodecSpec(name="hsc"))
    with pytest.raises(CheckpointError, match=r"weights of codec 'hsc' can't be read: .*ships none: name one"):
        codec_fingerprint(CodecSpec(name="hsc"))


def test_decoding_is_rendering_what_was_decoded(toy_hsc: HscCodec, frames: Tensor) -> None:
    streams = encode(toy_hsc, frames)
    decoder = toy_hsc.decoder(height=40, width=SIDE)

    semantics = decoder.decode_latents(streams)

    config = TOY_CONFIG
    assert semantics.styles_nld.shape == (3, config.num_styles, config.style)
    assert semantics.feature_nchw.shape == (3, config.split_channels, config.split, config.split)
    assert torch.equal(decoder.decode_core(streams), semantics.core_nk)
    assert torch.equal(decoder.render(semantics.styles_nld, semantics.feature_nchw), decoder.decode(streams))


@pytest.mark.parametrize("slices", range(len(TOY_CONFIG.slices)))
def test_thinned_streams_decode_as_the_first_slices_of_whole_ones(
    toy_hsc: HscCodec, frames: Tensor, slices: int
) -> None:
    whole = encode(toy_hsc, frames)
    few = load_hsc(thinned(toy_hsc.spec, slices=slices))

    thin = toy_hsc.thinner(height=SIDE, width=SIDE, slices=slices).thin(whole)

    found = few.decoder(height=SIDE, width=SIDE).decode_latents(thin)
    expected = toy_hsc.decoder(height=SIDE, width=SIDE).decode_latents(whole, slices=slices)
    assert few.num_slices == slices
    assert sum(map(len, thin)) < sum(map(len, whole))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_thinning_in_steps_is_thinning_at_once(toy_hsc: HscCodec, frames: Tensor) -> None:
    whole = encode(toy_hsc, frames)
    two = load_hsc(thinned(toy_hsc.spec, slices=2))

    in_steps = two.thinner(height=8, width=8, slices=0).thin(toy_hsc.thinner(height=8, width=8, slices=2).thin(whole))

    assert in_steps == toy_hsc.thinner(height=8, width=8, slices=0).thin(whole)


def test_no_bytes_are_the_mean_picture_and_stay_no_bytes(toy_hsc: HscCodec, frames: Tensor) -> None:
    decoder = toy_hsc.decoder(height=SIDE, width=SIDE)
    streams = [b"", *encode(toy_hsc, frames[:1]), b""]

    found, mean = decoder.decode_latents(streams), decoder.mean_latents(2)

    assert torch.equal(found.core_nk[::2], mean.core_nk)
    torch.testing.assert_close(found.feature_nchw[::2], mean.feature_nchw)
    assert not torch.equal(found.core_nk[1], mean.core_nk[0])
    thin = toy_hsc.thinner(height=8, width=8, slices=1).thin(streams)
    assert [bool(stream) for stream in thin] == [False, True, False]
    assert toy_hsc.thinner(height=8, width=8, slices=1).thin([]) == []


@pytest.mark.parametrize("slices", [-1, 3, 4])
def test_slices_out_of_range_are_refused(toy_hsc: HscCodec, slices: int) -> None:
    with pytest.raises(CodecError, match=f"slices must be 0 to 2, fewer than the 3 of the streams, got {slices}"):
        toy_hsc.thinner(height=8, width=8, slices=slices)


def test_more_slices_than_the_checkpoint_has_are_refused(toy_hsc: HscCodec) -> None:
    with pytest.raises(CodecError, match="slices must be 0 to 2"):
        load_hsc(dataclasses.replace(toy_hsc.spec, slices=9, bitstream_version=2))


@pytest.mark.parametrize("slices", [-1, 2])
def test_more_slices_than_the_streams_have_are_refused(toy_hsc: HscCodec, frames: Tensor, slices: int) -> None:
    one = load_hsc(thinned(toy_hsc.spec, slices=1))

    with pytest.raises(CodecError, match=f"slices must be 0 to 1, as many as the streams have, got {slices}"):
        one.decoder(height=8, width=8).decode_latents(encode(one, frames), slices=slices)


def test_damage_in_a_stream_that_is_thinned_is_named(toy_hsc: HscCodec, frames: Tensor) -> None:
    streams = encode(toy_hsc, frames)
    streams[1] = streams[1][:-8]

    with pytest.raises(BitstreamError, match="stream 1 of the call"):
        toy_hsc.thinner(height=8, width=8, slices=1).thin(streams)


def test_core_symbols_end_early_with_the_stream(toy_hsc: HscCodec, frames: Tensor) -> None:
    streams = encode(toy_hsc, frames)

    with pytest.raises(BitstreamError, match="stream 2 of the call: the stream ends early"):
        toy_hsc.decoder(height=8, width=8).decode_core([*streams[:2], streams[2][:3]])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (1, 64), (64, 1), (128, 32), (300, 200)])
def test_frames_of_any_size_are_coded_as_squares(toy_hsc: HscCodec, height: int, width: int) -> None:
    frames_nchw = smooth_frames(2, height, width)

    streams = encode(toy_hsc, frames_nchw)

    for size in ((height, width), (SIDE, SIDE)):
        decoded = toy_hsc.decoder(height=size[0], width=size[1]).decode(streams)
        assert tuple(decoded.shape) == (2, 3, *size)


def test_grey_frames_are_taken(toy_hsc: HscCodec) -> None:
    grey = smooth_frames(2, SIDE, SIDE)[:, :1].expand(-1, 3, -1, -1)

    assert len(encode(toy_hsc, grey)) == 2


def test_each_quality_has_streams_of_its_own_for_the_same_core_symbols(toy_hsc: HscCodec, frames: Tensor) -> None:
    best = toy_hsc.at_quality(8)
    decoders = [codec.decoder(height=SIDE, width=SIDE) for codec in (toy_hsc, best)]
    streams, best_streams = encode(toy_hsc, frames), encode(best, frames)

    assert best_streams != streams
    assert torch.equal(decoders[0].decode_core(streams), decoders[1].decode_core(best_streams))
    assert best_streams == encode(load_hsc(dataclasses.replace(toy_hsc.spec, quality=8)), frames)


def test_encoder_networks_in_float32_are_the_trained_ones_with_norms_folded(toy_hsc: HscCodec) -> None:
    networks = load_hsc(toy_hsc.spec).networks
    random = torch.Generator().manual_seed(3)
    for name, buffer in networks.inversion.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5, generator=random)
    running = EncoderNetworks(networks, torch.float32)
    rgb_nchw = torch.rand(2, 3, SIDE, SIDE, generator=random) * 2 - 1

    styles_nld, feature_nchw = running.invert(rgb_nchw)

    expected_nld, expected_nchw = networks.inversion(rgb_nchw)
    # Folding multiplies weights by another float.
    torch.testing.assert_close(styles_nld, expected_nld, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(feature_nchw, expected_nchw, rtol=1e-4, atol=1e-4)
    quality_n = torch.tensor([0, 7])
    own_nchw = torch.rand(feature_nchw.shape, generator=random)
    torch.testing.assert_close(
        running.analyse(feature_nchw, own_nchw, quality_n),
        networks.feature_codec.analyse(feature_nchw, own_nchw, quality_n),
        rtol=1e-4,
        atol=1e-4,
    )


def limited(codec: HscCodec, **limits: float) -> HscCodec:
    return dataclasses.replace(
        codec, limits=dataclasses.replace(NO_LIMITS, **{name: (value,) * 8 for name, value in limits.items()})
    )


def test_checking_frames_changes_no_stream(toy_hsc: HscCodec, frames: Tensor) -> None:
    checked = toy_hsc.encoder(height=SIDE, width=SIDE).encode_checked(frames)

    assert checked.streams == encode(toy_hsc, frames)
    assert checked.are_outside == [False] * 3


@pytest.mark.parametrize("measure", ["psnr_db", "ssim"])
def test_frames_beyond_either_limit_are_outside(toy_hsc: HscCodec, frames: Tensor, measure: str) -> None:
    encoder = toy_hsc.encoder(height=SIDE, width=SIDE)
    found = encoder.measure(frames)
    values = {"psnr_db": found.psnr_db_n, "ssim": found.ssim_n}[measure].tolist()
    codec = limited(toy_hsc, **{measure: sorted(values)[1]})

    outside = codec.encoder(height=SIDE, width=SIDE).encode_checked(frames).are_outside

    assert outside == [value < sorted(values)[1] for value in values]
    assert sum(outside) == 1


def test_checking_no_frames_gives_none(toy_hsc: HscCodec) -> None:
    nothing = torch.zeros((0, 3, 8, 8), dtype=torch.uint8)

    assert toy_hsc.encoder(height=8, width=8).encode_checked(nothing) == ([], [])


def test_wrong_frames_are_refused_by_the_check_too(toy_hsc: HscCodec) -> None:
    with pytest.raises(CodecError, match=r"frames must be uint8 \[N, 3, 8, 8\]"):
        toy_hsc.encoder(height=8, width=8).encode_checked(torch.zeros((1, 3, 8, 9), dtype=torch.uint8))


def test_found_limits_are_kept_by_the_pictures_that_they_were_found_on(toy_hsc: HscCodec) -> None:
    faces = smooth_frames(8, SIDE, SIDE)

    limits = find_limits(toy_hsc, faces)

    assert len(limits.psnr_db) == len(limits.ssim) == 8
    codec = dataclasses.replace(toy_hsc, limits=limits)
    # The quantile lies between the worst and the next: at most the worst is outside.
    assert sum(codec.encoder(height=SIDE, width=SIDE).encode_checked(faces).are_outside) <= 2
    strict = dataclasses.replace(toy_hsc, limits=DomainLimits(psnr_db=(99.5,) * 8, ssim=limits.ssim))
    assert strict.encoder(height=SIDE, width=SIDE).encode_checked(faces).are_outside == [True] * 8


def test_limits_come_with_the_checkpoint(tmp_path: Path, frames: Tensor) -> None:
    path = save_toy(tmp_path / "strict.safetensors", limits=DomainLimits(psnr_db=(50.0,) * 8, ssim=(0.5,) * 8))

    codec = load_hsc(CodecSpec(name="hsc", weights=str(path)))

    assert codec.limits == DomainLimits(psnr_db=(50.0,) * 8, ssim=(0.5,) * 8)
    assert codec.encoder(height=SIDE, width=SIDE).encode_checked(frames).are_outside == [True] * 3


def test_another_codecs_checkpoint_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "dicm.safetensors", {"a": torch.zeros(1)}, codec="dicm", config={})

    with pytest.raises(CheckpointError, match="must be a checkpoint of codec 'hsc', got 'dicm'"):
        load_hsc(CodecSpec(name="hsc", weights=str(tmp_path / "dicm.safetensors")))
