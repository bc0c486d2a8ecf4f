"""Frames coded against the frame before them: with the shipped checkpoint where pictures matter, by hand elsewhere."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.dicm.skipping import SkipRule, find_changes, round_to_zero
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.temporal_model import change_of, gather_neighbourhoods
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.entropy.latents import MEAN_STEPS, context_of
from framevault.codecs.errors import BitstreamError, CheckpointError, CodecError
from framevault.codecs.spec import CodecSpec
from framevault.codecs.testing import smooth_frames
from tests.codecs.dicm.toy import save_toy

SIZE = {"height": 96, "width": 160}
GRID = LatentGrid(6, 10)


@pytest.fixture(scope="module", params=[9, 13])
def codec(request: pytest.FixtureRequest) -> DicmCodec:
    return load_dicm(CodecSpec(name="dicm", quality=4, bitstream_version=request.param))


def still_frames(num_frames: int) -> Tensor:
    return smooth_frames(1, **SIZE).expand(num_frames, -1, -1, -1).contiguous()


def test_a_still_scene_costs_a_few_bytes_a_frame_and_keeps_its_features(codec: DicmCodec) -> None:
    streams = codec.encoder(**SIZE).encode(still_frames(8))

    features = codec.decoder(**SIZE).decode(streams)

    assert [codec.is_independent(stream) for stream in streams] == [True] + 7 * [False]
    # What rounding left over may be coded once; then nothing is.
    assert max(len(stream) for stream in streams[2:]) <= 4
    torch.testing.assert_close(features[-1], features[2], rtol=0, atol=1e-4)


def test_how_frames_are_cut_into_calls_changes_no_symbol(codec: DicmCodec) -> None:
    streams = codec.encoder(**SIZE).encode(smooth_frames(6, **SIZE))
    assert codec.video is not None

    together = codec.video.decode(SegmentState(), streams, GRID, device="cpu")
    state = SegmentState()
    apart = torch.cat([codec.video.decode(state, streams[k : k + 2], GRID, device="cpu") for k in (0, 2, 4)])

    assert torch.equal(together, apart)


def test_errors_do_not_add_up_over_a_long_segment(codec: DicmCodec) -> None:
    frames = smooth_frames(24, **SIZE)
    rule = SkipRule()
    assert codec.video is not None
    y_nchw, z_nchw = codec.latents(frames)

    streams = codec.video.encode(SegmentState(), y_nchw, z_nchw, rule=rule)
    latent_nchw = codec.video.decode(SegmentState(), streams, GRID, device="cpu") / MEAN_STEPS

    worst_n = (latent_nchw - y_nchw).abs().amax(dim=(1, 2, 3))
    # Left alone up to the largest change; coded to half a step of it. Means are clamped to sixteenths.
    assert float(worst_n[1:].max()) <= rule.largest_change + 1 / MEAN_STEPS


def test_moving_frames_take_fewer_bytes_than_by_themselves(codec: DicmCodec) -> None:
    alone = load_dicm(CodecSpec(name="dicm", quality=4, bitstream_version=1))
    frames = still_frames(6)
    for number in range(6):
        frames[number, :, 32:64, 16 * number : 16 * number + 32] = 200

    predicted = codec.encoder(**SIZE).encode(frames)
    intra = alone.encoder(**SIZE).encode(frames)

    assert sum(map(len, predicted[1:])) < 0.5 * sum(map(len, intra[1:]))


def test_a_scene_cut_is_coded_by_itself(codec: DicmCodec) -> None:
    noise = torch.randint(0, 256, (1, 3, SIZE["height"], SIZE["width"]), generator=torch.Generator().manual_seed(0))
    frames = torch.cat([still_frames(2), noise.byte(), noise.byte()])

    streams = codec.encoder(**SIZE).encode(frames)

    assert [codec.is_independent(stream) for stream in streams] == [True, False, True, False]


def test_a_predicted_frame_needs_the_one_before_it(codec: DicmCodec) -> None:
    streams = codec.encoder(**SIZE).encode(smooth_frames(3, **SIZE))

    with pytest.raises(BitstreamError, match="stream 0 of the call: it is coded against the frame before it"):
        codec.decoder(**SIZE).decode(streams[1:])


def test_a_damaged_frame_costs_those_that_lean_on_it_and_no_other(codec: DicmCodec) -> None:
    frames = smooth_frames(3, **SIZE)
    streams = codec.encoder(**SIZE).encode(frames)
    fresh = codec.encoder(**SIZE).encode(frames[:1])
    decoder = codec.decoder(**SIZE)
    decoder.decode(streams[:1])

    with pytest.raises(BitstreamError, match="stream 0 of the call"):
        decoder.decode([streams[1][:-5] + b"\x00"])
    with pytest.raises(BitstreamError, match="which was not decoded"):
        decoder.decode(streams[2:])

    again = decoder.decode(fresh)
    torch.testing.assert_close(again, codec.decoder(**SIZE).decode(streams[:1]), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_without_video_mode_says_what_to_do(tmp_path: Path) -> None:
    path = save_toy(tmp_path / "toy.safetensors")

    with pytest.raises(CheckpointError, match=r"toy\.safetensors has no networks for predicted frames: .*--intra"):
        load_dicm(CodecSpec(name="dicm", weights=str(path), bitstream_version=2))


def test_rounding_goes_up_from_the_dead_zone_on() -> None:
    x = torch.tensor([-1.7, -0.7, -0.5, 0.0, 0.49, 0.5, 0.69, 0.7, 1.69, 1.71])

    assert round_to_zero(x, dead_zone=0.5).tolist() == [-2, -1, -1, 0, 0, 1, 1, 1, 2, 2]
    assert round_to_zero(x, dead_zone=0.7).tolist() == pytest.approx([-2, -1, 0, 0, 0, 0, 0, 1, 1, 2])


def test_a_position_is_coded_for_what_it_saves_or_for_one_large_change() -> None:
    previous16_mhw = torch.zeros(3, 1, 4)
    # Nothing; three small changes that coding would undo (0.8 -> -0.2: 0.6 saved each); one of them; one large change.
    y_mhw = torch.tensor([[0.4, 0.8, 0.8, 2.0], [0.4, 0.8, 0.0, 0.0], [0.4, 0.8, 0.0, 0.0]])[:, None]
    rule = SkipRule(dead_zone=0.5, least_gain=1.7, largest_change=1.5)

    assert find_changes(y_mhw, previous16_mhw, rule=rule).tolist() == [[False, True, False, True]]


def test_neighbourhoods_are_what_unfold_gives() -> None:
    random = torch.Generator().manual_seed(1)
    previous16_mhw = torch.randint(-3000, 3000, (2, 4, 5), generator=random).float()
    coded_hw = torch.rand(4, 5, generator=random) < 0.5
    positions = torch.nonzero(coded_hw.flatten())[:, 0]

    found = gather_neighbourhoods(previous16_mhw, coded_hw, positions)

    planes = torch.cat([context_of(previous16_mhw), 127 * coded_hw[None].float()])
    expected = functional.unfold(planes[None], 3, padding=1)[0][:, positions]
    assert torch.equal(found[0, :, 0], expected)


def test_the_context_of_a_change_is_in_halves() -> None:
    latent16, previous16 = torch.tensor([[[[16.0, -24.0]]]]), torch.tensor([[[[12.0, -8.0]]]])

    # 1.0 is two halves, -1.5 is minus three; the changes, 0.25 and -1.0, are half a half (up) and minus two.
    assert change_of(latent16, previous16).flatten(1).tolist() == [[2, -3, 1, -2]]


def test_frames_in_which_nothing_moved_are_decoded_once(codec: DicmCodec) -> None:
    frames = torch.cat([still_frames(4), smooth_frames(3, **SIZE)[2:].expand(3, -1, -1, -1)])
    streams = codec.encoder(**SIZE).encode(frames)
    every = codec.decoder(**SIZE).decode(streams)
    decoder = codec.decoder(**SIZE)

    parts = [decoder.decode_changes(streams[:3]), decoder.decode_changes(streams[3:])]

    starts = [0, len(parts[0].decoded)]
    rows = [start + row for start, part in zip(starts, parts, strict=True) for row in part.rows]
    distinct = torch.cat([part.decoded for part in parts])
    assert len(rows) == len(streams)
    assert len(distinct) < len(streams)
    torch.testing.assert_close(distinct[rows], every, rtol=1e-4, atol=1e-4)


def test_a_call_in_which_nothing_moved_gives_no_features(codec: DicmCodec) -> None:
    streams = codec.encoder(**SIZE).encode(still_frames(8))
    decoder = codec.decoder(**SIZE)
    decoder.decode(streams[:6])

    changes = decoder.decode_changes(streams[6:])

    assert changes.rows == (-1, -1)
    assert changes.decoded.shape == (0, 24, 24, 40)


def test_values_that_are_no_numbers_are_refused_in_predicted_frames_too(codec: DicmCodec) -> None:
    y_nchw, z_nchw = codec.latents(still_frames(2))
    y_nchw = y_nchw.clone()
    y_nchw[1, 0, 0, 0] = torch.nan
    assert codec.video is not None

    with pytest.raises(CodecError, match="no numbers"):
        codec.video.encode(SegmentState(), y_nchw, z_nchw, rule=SkipRule())
