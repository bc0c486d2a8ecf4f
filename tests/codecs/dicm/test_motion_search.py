"""What the encoder finds, with the shipped checkpoint and pictures that move by known vectors."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec, grid_of, load_dicm
from framevault.codecs.dicm.layouts import INTRA, MOVED, PREDICTED
from framevault.codecs.dicm.motion import MotionField
from framevault.codecs.dicm.motion_search import find_motion, half_brightness
from framevault.codecs.dicm.skipping import SkipRule, find_changes
from framevault.codecs.dicm.video import DecodedFrame, SegmentState
from framevault.codecs.spec import CodecSpec, thinned
from framevault.codecs.testing import smooth_frames, torch_threads
from tests.codecs.dicm.test_motion import kinds_of
from tests.codecs.dicm.toy import texture

SIZE = {"height": 96, "width": 160}
GRID = grid_of(**SIZE)


@cache
def codec_of(version: int) -> DicmCodec:
    return load_dicm(CodecSpec(name="dicm", quality=4, bitstream_version=version))


@pytest.fixture(scope="module", params=[9, 13])
def codec(request: pytest.FixtureRequest) -> DicmCodec:
    return codec_of(request.param)


def shifted_frames(num_frames: int, *, down: int, right: int) -> Tensor:
    """Cut frames of `SIZE` out of a picture, each so many pixels further down and right than the one before."""
    picture = texture(1, 96 + 120, 160 + 120)
    places = [(60 + down * number, 60 + right * number) for number in range(num_frames)]
    return torch.stack([picture[:, y : y + 96, x : x + 160] for y, x in places])


def decode_all(codec: DicmCodec, streams: list[bytes]) -> list[DecodedFrame]:
    assert codec.video is not None
    state = SegmentState()
    return [codec.video.decode_all(state, stream, GRID, device="cpu") for stream in streams]


def search(codec: DicmCodec, frames: Tensor) -> MotionField | None:
    """Look for what moved between two frames, of which the first is known as well as can be."""
    assert codec.video is not None
    assert codec.video.motion is not None
    y_nchw, _ = codec.latents(frames)
    previous16_mhw, rule = torch.round(16 * y_nchw[0]), SkipRule()
    brightness_nyx = half_brightness(frames)
    return find_motion(
        y_nchw[1],
        previous16_mhw,
        find_changes(y_nchw[1], previous16_mhw, rule=rule),
        motion=codec.video.motion,
        brightness_yx=brightness_nyx[1],
        previous_yx=brightness_nyx[0],
        rule=rule,
        most_vectors=codec.video.layout.most_vectors,
    )


@pytest.mark.parametrize(("down", "right"), [(0, 6), (-4, 0), (10, -2), (0, -24), (16, 8)])
def test_a_shift_is_found(codec: DicmCodec, down: int, right: int) -> None:
    """What is cut out further right was further right in the frame before, too."""
    field = search(codec, shifted_frames(2, down=down, right=right))

    assert field is not None
    shares = np.bincount(field.number_hw.ravel(), minlength=len(field.vectors_k2) + 1)[1:] / field.number_hw.size
    assert field.vectors_k2[shares.argmax()].tolist() == [down / 2, right / 2]
    assert shares.max() > 0.3
    assert shares.min() > 0
    assert codec.video is not None
    assert len(field.vectors_k2) <= codec.video.layout.most_vectors


def test_two_parts_that_move_apart_have_two_vectors(codec: DicmCodec) -> None:
    up, other = shifted_frames(2, down=0, right=8), shifted_frames(2, down=6, right=-6)
    frames = torch.cat([up[:, :, :, :80], other[:, :, :, 80:]], dim=3)

    field = search(codec, frames)

    assert field is not None
    vectors = field.vectors_k2.tolist()
    left, right = field.number_hw[:, :4], field.number_hw[:, 6:]
    assert vectors[np.bincount(left[left > 0]).argmax() - 1] == [0, 4]
    assert vectors[np.bincount(right[right > 0]).argmax() - 1] == [3, -3]


@pytest.mark.parametrize("size", [(1, 1), (1, 150), (17, 33), (16, 16), (35, 64)])
def test_frames_of_any_size_are_searched(codec: DicmCodec, size: tuple[int, int]) -> None:
    picture = texture(2, size[0] + 12, size[1] + 12)
    frames = torch.stack([picture[:, 6:, 6:], picture[:, :-6, :-6]])[:, :, : size[0], : size[1]]
    coder = codec.encoder(height=size[0], width=size[1])

    streams = coder.encode(frames)

    decoded = codec.decoder(height=size[0], width=size[1]).decode(streams)
    assert len(decoded) == 2


def test_what_does_not_change_is_not_searched(codec: DicmCodec) -> None:
    assert search(codec, texture(1, 96, 160).expand(2, -1, -1, -1)) is None


@pytest.mark.parametrize("version", [9, 13])
def test_noise_in_which_nothing_moves_costs_what_it_did_without_motion(version: int) -> None:
    noise = torch.randint(0, 256, (4, 3, 96, 160), generator=torch.Generator().manual_seed(0)).byte()

    before, after = (sum(map(len, codec_of(each).encoder(**SIZE).encode(noise))) for each in (2, version))

    assert after < 1.02 * before


def test_half_of_the_brightness_is_the_mean_of_four_pixels_and_their_colours() -> None:
    frames = torch.tensor([[[[0, 4, 9], [8, 12, 9], [1, 3, 7]]] * 2 + [[[6, 10, 15], [14, 18, 15], [7, 9, 13]]]])

    brightness_nyx = half_brightness(frames.byte())

    # Half of 0, 4, 8, 12 is 6; the third colour has 6 more. The last row and column count twice.
    assert brightness_nyx.tolist() == [[[8, 11], [4, 9]]]


def test_a_shifted_frame_takes_far_fewer_bytes_than_without_motion(codec: DicmCodec) -> None:
    """All the fewer when moved positions are left alone as readily as others are."""
    frames, rule = shifted_frames(4, down=0, right=6), SkipRule()
    readily = dataclasses.replace(rule, moved_gain=rule.least_gain, moved_change=rule.largest_change)
    y_nchw, z_nchw = codec.latents(frames)
    assert codec.video is not None

    before = codec_of(2).encoder(**SIZE).encode(frames)
    usual = codec.encoder(**SIZE).encode(frames)
    fewest = codec.video.encode(SegmentState(), y_nchw, z_nchw, rule=readily, brightness_nyx=half_brightness(frames))

    assert kinds_of(codec, usual) == kinds_of(codec, fewest) == [INTRA, MOVED, MOVED, MOVED]
    assert sum(map(len, usual[1:])) < 0.8 * sum(map(len, before[1:]))
    assert sum(map(len, fewest[1:])) < 0.5 * sum(map(len, before[1:]))


def test_encoder_and_decoder_have_the_same_latent_of_frames_that_moved(codec: DicmCodec) -> None:
    frames = shifted_frames(5, down=2, right=-6)
    encoder = codec.encoder(**SIZE)
    assert codec.video is not None
    state = SegmentState()

    for frame_chw in frames:
        (stream,) = encoder.encode(frame_chw[None])
        decoded_nmhw = codec.video.decode(state, [stream], GRID, device="cpu")

        assert encoder.state.latent16_mhw is not None
        assert torch.equal(decoded_nmhw[0], encoder.state.latent16_mhw)
        assert np.array_equal(encoder.state.moved_hw, state.moved_hw)
        assert np.array_equal(encoder.state.coded_hw, state.coded_hw)


def test_errors_do_not_add_up_where_frames_move(codec: DicmCodec) -> None:
    frames = shifted_frames(9, down=0, right=3)
    y_nchw, z_nchw = codec.latents(frames)
    rule = SkipRule(most_coded=1.1)
    assert codec.video is not None

    streams = codec.video.encode(SegmentState(), y_nchw, z_nchw, rule=rule, brightness_nyx=half_brightness(frames))

    assert kinds_of(codec, streams) == [INTRA] + 8 * [MOVED]
    worst_n = (codec.video.decode(SegmentState(), streams, GRID, device="cpu") / 16 - y_nchw).abs().amax(dim=(1, 2, 3))
    # Left alone up to the largest change; coded to half a step of it. Means are clamped to sixteenths.
    assert float(worst_n[1:].max()) <= rule.largest_change + 1 / 16


def test_a_still_scene_costs_as_few_bytes_as_without_motion(codec: DicmCodec) -> None:
    frames = smooth_frames(1, **SIZE).expand(8, -1, -1, -1).contiguous()

    streams = codec.encoder(**SIZE).encode(frames)

    assert kinds_of(codec, streams) == [INTRA] + 7 * [PREDICTED]
    assert max(map(len, streams[2:])) <= 4
    assert sum(map(len, streams)) <= sum(map(len, codec_of(2).encoder(**SIZE).encode(frames))) + 8


@pytest.mark.parametrize("frames_a_call", [1, 2, 5])
def test_how_frames_are_cut_into_calls_changes_no_byte(codec: DicmCodec, frames_a_call: int) -> None:
    """The encoder keeps the last frame's brightness, too. Latents may differ in the last decimals."""
    frames = shifted_frames(8, down=-2, right=6)
    y_nchw, z_nchw = codec.latents(frames)
    brightness_nyx = half_brightness(frames)
    assert codec.video is not None
    expected = codec.video.encode(SegmentState(), y_nchw, z_nchw, rule=SkipRule(), brightness_nyx=brightness_nyx)
    state, streams = SegmentState(), []

    for first in range(0, 8, frames_a_call):
        call = slice(first, first + frames_a_call)
        streams += codec.video.encode(
            state, y_nchw[call], z_nchw[call], rule=SkipRule(), brightness_nyx=brightness_nyx[call]
        )

    assert MOVED in kinds_of(codec, streams)
    assert streams == expected


@pytest.mark.parametrize("num_threads", [2, 3, 4])
def test_threads_change_no_latent_of_streams(codec: DicmCodec, num_threads: int) -> None:
    with torch_threads(1):
        streams = codec.encoder(**SIZE).encode(shifted_frames(4, down=0, right=6))
        expected = [frame.latent16_mhw for frame in decode_all(codec, streams)]

    with torch_threads(num_threads):
        found = [frame.latent16_mhw for frame in decode_all(codec, streams)]

    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


# Of version 13, a quality at which the last slice holds something: at 4 it holds a byte less than nothing.
@pytest.mark.parametrize(("version", "quality"), [(9, 4), (13, 2)])
@pytest.mark.parametrize("slices", [0, 1, 2, 3])
def test_thinned_streams_keep_their_kinds_and_motion_and_are_smaller(version: int, quality: int, slices: int) -> None:
    codec = load_dicm(CodecSpec(name="dicm", quality=quality, bitstream_version=version))
    streams = codec.encoder(**SIZE).encode(shifted_frames(5, down=0, right=6))
    reader = load_dicm(thinned(codec.spec, slices=slices))

    thin_streams = codec.thinner(**SIZE, slices=slices).thin(streams)

    before, after = decode_all(codec, streams), decode_all(reader, thin_streams)
    assert reader.spec.bitstream_version == codec.spec.bitstream_version + 1
    assert [codec.is_independent(stream) for stream in streams] == [
        reader.is_independent(stream) for stream in thin_streams
    ]
    assert sum(map(len, thin_streams)) < sum(map(len, streams))
    if slices > 0:
        assert kinds_of(reader, thin_streams) == kinds_of(codec, streams)
        assert [frame.motion is not None and frame.motion.number_hw.tolist() for frame in after] == [
            frame.motion is not None and frame.motion.number_hw.tolist() for frame in before
        ]


def test_an_encoder_of_few_slices_finds_motion_too(codec: DicmCodec) -> None:
    few = load_dicm(thinned(codec.spec, slices=2))

    streams = few.encoder(**SIZE).encode(shifted_frames(4, down=0, right=6))

    assert kinds_of(few, streams) == [INTRA, MOVED, MOVED, MOVED]
    assert len(few.decoder(**SIZE).decode(streams)) == 4
