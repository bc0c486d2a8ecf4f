"""Streams without their last slices: the shipped checkpoint's, of both kinds."""

import dataclasses

import pytest
import torch
from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec, grid_of, load_dicm
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.thinning import IntraThinner, VideoThinner
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.spec import CodecSpec, thinned
from framevault.codecs.testing import CodecTests, ThinningTests, smooth_frames

SIZE = {"height": 96, "width": 160}
INTRA = CodecSpec(name="dicm", quality=8, bitstream_version=1)
VIDEO = CodecSpec(name="dicm", quality=8, bitstream_version=2)
MOTION = CodecSpec(name="dicm", quality=8, bitstream_version=9)
BACKGROUND = CodecSpec(name="dicm", quality=8, bitstream_version=13)


class TestFramesByThemselves(ThinningTests):
    """Version 1 becomes 3."""

    spec = INTRA


class TestPredictedFrames(ThinningTests):
    """Version 2 becomes 4."""

    spec = VIDEO


class TestMovedFrames(ThinningTests):
    """Version 9 becomes 10."""

    spec = MOTION


class TestFramesWithABackground(ThinningTests):
    """Version 13 becomes 14."""

    spec = BACKGROUND


class TestTheCodecOfThinnedFrames(CodecTests):
    """Version 3 with nothing but the hyper-latent is a codec as any other."""

    spec = thinned(INTRA, slices=0)


class TestTheCodecOfThinnedVideo(CodecTests):
    """So is version 4."""

    spec = thinned(VIDEO, slices=2)


class TestTheCodecOfThinnedMotion(CodecTests):
    """And version 10."""

    spec = thinned(MOTION, slices=2)


class TestTheCodecOfThinnedBackgrounds(CodecTests):
    """And version 14."""

    spec = thinned(BACKGROUND, slices=2)


@pytest.fixture(scope="module")
def intra() -> DicmCodec:
    return load_dicm(INTRA)


@pytest.fixture(scope="module", params=[VIDEO, MOTION, BACKGROUND], ids=["predicted", "moved", "background"])
def video(request: pytest.FixtureRequest) -> DicmCodec:
    return load_dicm(request.param)


def latents_of(codec: DicmCodec, streams: list[bytes]) -> Tensor:
    if not codec.is_video:
        return codec.bitstream.decode(streams, grid_of(**SIZE), device="cpu")
    assert codec.video is not None
    return codec.video.decode(SegmentState(), streams, grid_of(**SIZE), device="cpu")


def test_kept_latents_of_single_frames_stay_what_they_are(intra: DicmCodec) -> None:
    streams = intra.encoder(**SIZE).encode(smooth_frames(2, **SIZE))

    thin_streams = intra.thinner(**SIZE, slices=2).thin(streams)

    kept = sum(intra.bitstream.networks.slices[:2])
    found = latents_of(intra.restricted_to(2), thin_streams)
    assert torch.equal(found[:, :kept], latents_of(intra, streams)[:, :kept])
    assert not torch.equal(found[:, kept:], latents_of(intra, streams)[:, kept:])


def test_single_frames_thinned_in_two_steps_are_those_thinned_at_once(intra: DicmCodec) -> None:
    streams = intra.encoder(**SIZE).encode(smooth_frames(2, **SIZE))

    between = intra.thinner(**SIZE, slices=3).thin(streams)

    assert load_dicm(thinned(INTRA, slices=3)).thinner(**SIZE, slices=1).thin(between) == intra.thinner(
        **SIZE, slices=1
    ).thin(streams)


def test_thinning_is_what_an_encoder_of_few_slices_does_to_single_frames(intra: DicmCodec) -> None:
    frames = smooth_frames(2, **SIZE)

    thin_streams = intra.thinner(**SIZE, slices=1).thin(intra.encoder(**SIZE).encode(frames))

    assert thin_streams == load_dicm(thinned(INTRA, slices=1)).encoder(**SIZE).encode(frames)


def test_the_decoder_of_thinned_video_sees_what_the_thinner_coded_against(video: DicmCodec) -> None:
    streams = video.encoder(**SIZE).encode(smooth_frames(8, **SIZE))
    thinner = video.thinner(**SIZE, slices=2)
    assert isinstance(thinner, VideoThinner)

    coded = []
    thin_streams = []
    for stream in streams:
        thin_streams += thinner.thin([stream])
        assert thinner.coded.latent16_mhw is not None
        coded.append(thinner.coded.latent16_mhw)

    assert [video.is_independent(stream) for stream in thin_streams] == [True] + 7 * [False]
    assert torch.equal(latents_of(video.restricted_to(2), thin_streams), torch.stack(coded))


def test_errors_of_thinned_video_do_not_add_up(video: DicmCodec) -> None:
    """Each kept latent is within a step of what it was, however late in the segment."""
    streams = video.encoder(**SIZE).encode(smooth_frames(24, **SIZE))
    kept = sum(video.bitstream.networks.slices[:2])

    found = latents_of(video.restricted_to(2), video.thinner(**SIZE, slices=2).thin(streams))

    change16_nmhw = (found - latents_of(video, streams))[:, :kept].abs()
    largest = SkipRule().largest_change * 16
    assert float(change16_nmhw.max()) <= largest
    # In sixteenths: a mean of one, or one and a half times what it was at first.
    assert float(change16_nmhw[-6:].mean()) <= 1.5 * float(change16_nmhw[1:7].mean()) + 1


def test_a_still_scene_costs_no_more_than_before(video: DicmCodec) -> None:
    frames = smooth_frames(1, **SIZE).expand(6, -1, -1, -1).contiguous()

    thin_streams = video.thinner(**SIZE, slices=2).thin(video.encoder(**SIZE).encode(frames))

    assert max(map(len, thin_streams[2:])) <= 4


def test_a_frame_after_a_damaged_one_is_refused_until_the_next_that_stands_alone(video: DicmCodec) -> None:
    streams = video.encoder(**SIZE).encode(smooth_frames(3, **SIZE))
    thinner = video.thinner(**SIZE, slices=1)
    thinner.thin(streams[:1])

    with pytest.raises(ValueError, match="stream 0 of the call"):
        thinner.thin([b"\x00" * 99])
    with pytest.raises(ValueError, match="stream 0 of the call: it is coded against the frame before it"):
        thinner.thin(streams[2:])

    assert len(thinner.thin(streams[:1])) == 1


def test_checkpoints_without_video_mode_thin_single_frames(intra: DicmCodec) -> None:
    streams = intra.encoder(**SIZE).encode(smooth_frames(1, **SIZE))

    thinner = dataclasses.replace(intra, video=None).thinner(**SIZE, slices=1)

    assert isinstance(thinner, IntraThinner)
    assert thinner.thin(streams) == intra.thinner(**SIZE, slices=1).thin(streams)
