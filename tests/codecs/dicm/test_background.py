"""What settles behind what moves: worked out by hand, and the same for encoder, decoder and thinner."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from framevault.codecs.dicm.background import SETTLED, Background
from framevault.codecs.dicm.codec import DicmCodec, grid_of, load_dicm
from framevault.codecs.dicm.layouts import INTRA, MOVED
from framevault.codecs.dicm.motion import MotionField
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.thinning import VideoThinner
from framevault.codecs.dicm.video import DecodedFrame, SegmentState
from framevault.codecs.spec import CodecSpec, thinned
from tests.codecs.dicm.moving_toy import random_segment
from tests.codecs.dicm.test_motion import kinds_of
from tests.codecs.dicm.toy import texture

NOTHING = np.zeros((1, 3), np.bool_)
"""Positions that changed, of three in a row: none."""


def latent_of(*values: float) -> Tensor:
    """Return two channels of a row, the second of them 100 more."""
    row = torch.tensor([[values]])
    return torch.cat([row, row + 100])


def changed(*positions: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    flags_hw = NOTHING.copy()
    flags_hw[0, list(positions)] = True
    return flags_hw


def assert_shows(background: Background, *values: float) -> None:
    assert torch.equal(background.latent16_mhw, latent_of(*values))


def test_an_intra_frame_is_all_that_is_known_of_what_is_behind() -> None:
    background = Background.of_intra(latent_of(1, 2, 3))

    assert_shows(background, 1, 2, 3)
    assert background.still_hw.tolist() == [[0, 0, 0]]


def test_a_position_settles_after_exactly_eight_frames_and_once() -> None:
    """All of its channels do. Latents go on here, as they can't, to tell of which frame they are."""
    background = Background.of_intra(latent_of(1, 2, 3))

    for number in range(1, 8):
        background = background.after(latent_of(10 + number, 20 + number, 30 + number), NOTHING)
        assert_shows(background, 1, 2, 3)
    background = background.after(latent_of(18, 28, 38), NOTHING)

    assert_shows(background, 18, 28, 38)
    for number in range(9, 20):
        background = background.after(latent_of(10 + number, 20 + number, 30 + number), NOTHING)
        assert_shows(background, 18, 28, 38)
    assert background.still_hw.tolist() == [[SETTLED] * 3]


@pytest.mark.parametrize("restarted_at", [1, 7, 8])
def test_what_changes_waits_for_eight_frames_again(restarted_at: int) -> None:
    """The others don't; and what was known stays until then."""
    background = Background.of_intra(latent_of(1, 2, 3))

    for number in range(1, restarted_at + 8):
        changed_hw = changed(1) if number == restarted_at else NOTHING
        background = background.after(latent_of(10 + number, 20 + number, 30 + number), changed_hw)
        shown = [18, 38] if number >= 8 else [1, 3]
        assert_shows(background, shown[0], 2, shown[1])
    background = background.after(latent_of(90, 91, 92), NOTHING)

    assert_shows(background, 18, 91, 38)


def test_what_settled_may_settle_again_as_something_else() -> None:
    background = Background.of_intra(latent_of(1, 2, 3))
    for _ in range(8):
        background = background.after(latent_of(4, 5, 6), NOTHING)

    background = background.after(latent_of(7, 8, 9), changed(0, 2))
    for _ in range(7):
        background = background.after(latent_of(7, 8, 9), NOTHING)
    assert_shows(background, 4, 5, 6)
    background = background.after(latent_of(7, 8, 9), NOTHING)

    assert_shows(background, 7, 5, 9)


GRID = LatentGrid(3, 4)


def vector_field(*vectors: tuple[int, int], at: tuple[int, int]) -> MotionField:
    """Return the field of a position that has the last of some vectors."""
    number_hw = np.zeros((GRID.height, GRID.width), np.uint8)
    number_hw[at] = len(vectors)
    return MotionField(vectors_k2=np.array(vectors, np.int32), number_hw=number_hw)


def frame_of(latent16_mhw: Tensor, *, motion: MotionField | None = None) -> DecodedFrame:
    return DecodedFrame(latent16_mhw=latent16_mhw, motion=motion)


FEW = SkipRule(least_gain=1e9, largest_change=4000.0, moved_gain=1e9, moved_change=4000.0)
"""Nothing is coded but what changes by more than 4000 steps."""


def test_a_vector_of_nothing_brings_back_all_channels_and_counts_as_moved(settling: DicmCodec) -> None:
    """In the moved frame itself, the background is that of the frame before it."""
    (lead,), coded_nmhw = random_segment(settling, 1, grid=GRID, seed=1)
    video, state, ground16_mhw = settling.video, SegmentState(), coded_nmhw[0]
    assert video is not None
    video.decode(state, [lead], GRID, device="cpu")
    covering16_mhw = ground16_mhw.clone()
    covering16_mhw[:, 1, 2] += 80_000

    video.encode_again(state, frame_of(covering16_mhw), rule=FEW)
    covered16_mhw = state.latent16_mhw
    motion = vector_field((5, 9), (0, 0), at=(1, 2))
    video.encode_again(state, frame_of(ground16_mhw, motion=motion), rule=FEW)

    assert covered16_mhw is not None
    assert state.latent16_mhw is not None
    assert bool((covered16_mhw != ground16_mhw)[:, 1, 2].all())
    assert not state.coded_hw.any()
    assert torch.equal(state.latent16_mhw, ground16_mhw)
    assert state.background is not None
    assert state.background.still_hw.tolist() == [[2] * 4, [2, 2, 0, 2], [2] * 4]


@pytest.mark.parametrize(("num_still", "settles"), [(7, False), (8, True)])
def test_what_stays_for_eight_frames_is_brought_back(settling: DicmCodec, num_still: int, settles: bool) -> None:
    """Else it is what was there before, also if something else was there in between."""
    (lead,), coded_nmhw = random_segment(settling, 1, grid=GRID, seed=1)
    video, state, ground16_mhw = settling.video, SegmentState(), coded_nmhw[0]
    assert video is not None
    video.decode(state, [lead], GRID, device="cpu")
    parked16_mhw, passing16_mhw = ground16_mhw.clone(), ground16_mhw.clone()
    parked16_mhw[:, 1, 2] += 80_000
    passing16_mhw[:, 1, 2] -= 80_000

    video.encode_again(state, frame_of(parked16_mhw), rule=FEW)
    parked_as_coded16_mhw = state.latent16_mhw
    for _ in range(num_still):
        video.encode_again(state, frame_of(parked16_mhw), rule=FEW)
    video.encode_again(state, frame_of(passing16_mhw), rule=FEW)
    seen16_mhw = parked_as_coded16_mhw if settles else ground16_mhw
    assert seen16_mhw is not None
    video.encode_again(state, frame_of(seen16_mhw, motion=vector_field((0, 0), at=(1, 2))), rule=FEW)

    assert state.latent16_mhw is not None
    assert not state.coded_hw.any()
    assert torch.equal(state.latent16_mhw, seen16_mhw)


def test_an_intra_frame_forgets_what_was_behind(settling: DicmCodec) -> None:
    streams, coded_nmhw = random_segment(settling, 1, grid=GRID, seed=1)
    other, other_nmhw = random_segment(settling, 1, grid=GRID, seed=2)
    state = SegmentState()
    assert settling.video is not None
    settling.video.decode(state, streams, GRID, device="cpu")
    for _ in range(5):
        settling.video.encode_again(state, frame_of(coded_nmhw[0]), rule=FEW)

    settling.video.decode(state, other, GRID, device="cpu")

    assert state.background is not None
    assert torch.equal(state.background.latent16_mhw, other_nmhw[0])
    assert not state.background.still_hw.any()


def test_older_versions_have_none(moving: DicmCodec) -> None:
    streams, _ = random_segment(moving, 12, grid=GRID, seed=1)
    state = SegmentState()
    assert moving.video is not None

    moving.video.decode(state, streams, GRID, device="cpu")

    assert state.background is None


def assert_same_state(one: SegmentState, other: SegmentState) -> None:
    """Check all that the next frame is coded against."""
    assert one.latent16_mhw is not None
    assert other.latent16_mhw is not None
    assert torch.equal(one.latent16_mhw, other.latent16_mhw)
    assert np.array_equal(one.coded_hw, other.coded_hw)
    assert np.array_equal(one.moved_hw, other.moved_hw)
    assert one.background is not None
    assert other.background is not None
    assert torch.equal(one.background.latent16_mhw, other.background.latent16_mhw)
    assert np.array_equal(one.background.still_hw, other.background.still_hw)


SIZE = {"height": 96, "width": 160}


def passing_frames(num_frames: int, *, seed: int = 1, side: int = 32, step: int = 16) -> Tensor:
    """Draw a textured square that passes over textured ground from left to right, and comes again."""
    ground, square = texture(seed, 96, 160), texture(seed + 8, side, side)
    frames_nchw = ground[None].repeat(num_frames, 1, 1, 1)
    for number in range(num_frames):
        left = step * number % 160
        shown = min(side, 160 - left)
        frames_nchw[number, :, 32 : 32 + side, left : left + shown] = square[:, :, :shown]
    return frames_nchw


@pytest.fixture(scope="module")
def shipped() -> DicmCodec:
    return load_dicm(CodecSpec(name="dicm", quality=4, bitstream_version=13))


def test_what_is_uncovered_is_taken_from_the_background_and_costs_less(shipped: DicmCodec) -> None:
    """The square moves by a position a frame; what was behind it in the first frame nobody has seen."""
    frames, grid = passing_frames(10), grid_of(**SIZE)
    assert shipped.video is not None
    state = SegmentState()
    uncovered: list[set[tuple[int, int]]] = []

    streams = shipped.encoder(**SIZE).encode(frames)
    for stream in streams:
        motion = shipped.video.decode_all(state, stream, grid, device="cpu").motion
        if motion is None:
            uncovered.append(set())
            continue
        is_nothing = np.concatenate([[False], ~motion.vectors_k2.any(axis=1)])
        uncovered.append({(int(row), int(column)) for row, column in np.argwhere(is_nothing[motion.number_hw])})

    assert uncovered[:3] == [set(), set(), set()]
    for number in range(3, 10):
        # Rows 2 and 3 hold the square; it is at columns `number` and `number` + 1.
        assert {(2, number - 1), (3, number - 1)} <= uncovered[number]
        assert {column for _, column in uncovered[number]} == {number - 1}
    before = load_dicm(dataclasses.replace(shipped.spec, bitstream_version=9)).encoder(**SIZE).encode(frames)
    assert streams[0] == before[0]
    assert sum(map(len, streams[3:])) < 0.7 * sum(map(len, before[3:]))


def test_encoder_and_decoder_have_the_same_background_over_a_long_segment(shipped: DicmCodec) -> None:
    """With another scene in the middle."""
    frames = torch.cat([passing_frames(26), passing_frames(26, seed=40, step=10)])
    encoder, state = shipped.encoder(**SIZE), SegmentState()
    assert shipped.video is not None
    streams = []

    for frame_chw in frames:
        streams += encoder.encode(frame_chw[None])
        shipped.video.decode(state, streams[-1:], grid_of(**SIZE), device="cpu")

        assert_same_state(encoder.state, state)

    kinds = kinds_of(shipped, streams)
    assert [number for number, kind in enumerate(kinds) if kind == INTRA] == [0, 26]
    assert kinds.count(MOVED) > 20
    assert state.background is not None
    assert state.background.still_hw.max() == SETTLED


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_streams_that_no_encoder_would_write_leave_the_same_background(settling: DicmCodec, seed: int) -> None:
    grid = LatentGrid(6, 8)
    streams, coded_nmhw = random_segment(settling, 40, grid=grid, seed=seed)
    state = SegmentState()
    assert settling.video is not None
    num_brought_back = num_settled = 0

    for number, stream in enumerate(streams):
        before = state.background
        frame = settling.video.decode_all(state, stream, grid, device="cpu")

        assert torch.equal(frame.latent16_mhw, coded_nmhw[number])
        assert state.background is not None
        num_settled += int((state.background.still_hw == SETTLED).sum())
        if frame.motion is not None:
            brought_hw = frame.motion.moved_hw & ~frame.motion.displaced_hw & ~state.coded_hw
            num_brought_back += int(brought_hw.sum())
            assert before is not None
            assert torch.equal(frame.latent16_mhw[:, brought_hw], before.latent16_mhw[:, brought_hw])
    assert min(num_settled, num_brought_back) > 0


@pytest.mark.parametrize("slices", [0, 1, 2])
def test_the_decoder_of_thinned_streams_has_the_background_of_the_thinner(settling: DicmCodec, slices: int) -> None:
    grid, size = LatentGrid(6, 8), {"height": 96, "width": 128}
    streams, _ = random_segment(settling, 30, grid=grid, seed=3)
    reader, thinner = load_dicm(thinned(settling.spec, slices=slices)), settling.thinner(**size, slices=slices)
    state = SegmentState()
    assert reader.video is not None
    assert isinstance(thinner, VideoThinner)

    for stream in streams:
        reader.video.decode(state, thinner.thin([stream]), grid, device="cpu")

        assert_same_state(thinner.coded, state)
    assert reader.spec.bitstream_version == 14
