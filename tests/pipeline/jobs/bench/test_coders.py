"""Tests of the codecs behind one protocol: real bytes, in order, begun anew where they should."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.coders import (
    Coded,
    Coder,
    DicmCoder,
    PixelCoder,
    SvtAv1InterCoder,
    X265InterCoder,
    X265IntraCoder,
    require_encoder,
)
from framevault.pipeline.jobs.bench.material import Run
from framevault.pipeline.svt_av1 import SvtAv1Settings
from framevault.pipeline.x265 import X265Settings
from tests.media import test_pattern as draw_pattern


def draw(numbers: Sequence[int]) -> Tensor:
    frames = [torch.from_numpy(draw_pattern(number, width=96, height=64)) for number in numbers]
    return torch.stack(frames).permute(0, 3, 1, 2).contiguous()


RUNS: tuple[Run, ...] = ((draw(range(4)), draw([4])), (draw([5, 6]),))
FRAMES = draw(range(7))


def dicm(version: int) -> DicmCoder:
    return DicmCoder(dicm=load_dicm(CodecSpec(name="dicm", quality=3, bitstream_version=version)))


X265_INTRA = X265IntraCoder(settings=X265Settings(qp=20, is_intra=True, preset="ultrafast"))
X265_INTER = X265InterCoder(settings=X265Settings(crf=12, is_intra=False, preset="ultrafast", keyframe_distance=5))
SVT_AV1 = SvtAv1InterCoder(settings=SvtAv1Settings(crf=15, preset=10, keyframe_distance=5), preset_name="medium")


def run(coder: Coder) -> list[Coded]:
    return list(coder.code(RUNS, fps=25))


@pytest.mark.parametrize(
    ("coder", "codec", "setting"),
    [
        (PixelCoder(), "uncompressed", ""),
        (X265_INTRA, "x265-intra ultrafast", "qp 20"),
        (X265_INTER, "x265-inter ultrafast", "crf 12"),
        (SVT_AV1, "svtav1-inter medium", "crf 15"),
    ],
)
def test_pixels_come_back_in_order_and_no_yield_spans_two_runs(coder: Coder, codec: str, setting: str) -> None:
    coded = run(coder)

    assert (coder.codec, coder.setting, coder.is_intra) == (codec, setting, "inter" not in codec)
    assert [len(one.decoded_nchw) for one in coded] == [len(one.sizes) for one in coded] == [4, 1, 2]
    decoded_nchw = torch.cat([one.decoded_nchw for one in coded])
    assert decoded_nchw.dtype == torch.uint8
    distance_nm = (FRAMES[:, None].int() - decoded_nchw[None].int()).abs().float().mean(dim=(2, 3, 4))
    assert distance_nm.argmin(dim=0).tolist() == list(range(7))
    assert all(size > 0 for one in coded for size in one.sizes)


def test_uncompressed_frames_take_three_bytes_a_pixel() -> None:
    assert run(PixelCoder())[2].sizes == (96 * 64 * 3,) * 2


def test_features_of_single_frames_do_not_depend_on_the_run() -> None:
    coder = dicm(1)

    coded = run(coder)

    assert (coder.codec, coder.setting, coder.is_intra) == ("dicm intra", "quality 3", True)
    alone = next(iter(coder.code(((draw([5, 6]),),), fps=25)))
    assert coded[2].sizes == alone.sizes
    assert torch.equal(coded[2].decoded_nchw, alone.decoded_nchw)
    assert coded[2].decoded_nchw.shape == (2, 24, 16, 24)


def test_prediction_begins_anew_with_each_run() -> None:
    coder = dicm(2)
    still = (draw([0, 0]),)

    first, second = coder.code((still, still), fps=25)

    assert (coder.codec, coder.is_intra) == ("dicm video", False)
    assert first.sizes == second.sizes
    assert first.sizes[1] < first.sizes[0] / 4


def test_parameter_sets_are_nobodys_bytes() -> None:
    """A picture takes as much alone as with others; black ones would take a hundred bytes more."""
    coded = run(X265_INTRA)
    alone = next(iter(X265_INTRA.code(((draw([1]),),), fps=25)))

    assert coded[0].sizes[1] == alone.sizes[0]
    black = (torch.zeros(1, 3, 64, 96, dtype=torch.uint8),)
    for coder in (X265_INTRA, X265_INTER, SVT_AV1):
        assert sum(next(iter(coder.code((black,), fps=25))).sizes) < 60


def test_a_missing_encoder_is_named() -> None:
    require_encoder("libx265")

    with pytest.raises(PreflightError, match=r"has no encoder libnone: install .*, or leave it out with --anchors"):
        require_encoder("libnone")
