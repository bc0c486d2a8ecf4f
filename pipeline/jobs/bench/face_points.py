"""Points of rate and likeness: faces through coders, real bytes counted, pictures compared with the originals.

Letters in shapes: N pictures, H and W pixels.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytorch_msssim
import torch
from numpy.typing import NDArray
from torch import Tensor

from framevault.pipeline.jobs.bench.bd_rate import BdRate, Interval, PictureCurve, bd_rate, bootstrap_bd_rate
from framevault.pipeline.jobs.bench.face_coders import OURS, FaceCoder
from framevault.pipeline.jobs.bench.face_features import BATCH_SIZE, Reference

Counted = Literal["file_bytes", "payload_bytes"]
"""Whose bytes: of files as they are written, or without containers and headers; `face_coders.py` has a table."""

COUNTED: tuple[Counted, ...] = ("file_bytes", "payload_bytes")
"""Both."""

PSNR, MS_SSIM = "psnr_db", "ms_ssim"
"""Metrics that are higher for pictures more alike; all others are lower."""

LARGEST_PSNR_DB = 99.0
"""Of equal pictures."""

MS_SSIM_WINDOW, MS_SSIM_HALVINGS = 11, 4
"""Side of the original paper's window (Wang et al., Asilomar 2003), and how often a picture is halved."""

NUM_SHOWN = 6
"""Faces of which pictures are kept for contact sheets, evenly spread."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FacePoint:
    """One codec with one setting."""

    codec: str
    """The codec."""
    setting: str
    """Its setting."""
    sizes_n: Mapping[Counted, NDArray[np.float64]]
    """Bytes of each picture."""
    metrics: Mapping[str, float]
    """All metrics, over all pictures."""
    values_n: Mapping[str, NDArray[np.float64]]
    """Those that are means over pictures, of each picture."""
    shown_nchw: Tensor
    """Decoded pictures for contact sheets, uint8 [n, 3, H, W]."""
    shown_sizes: Mapping[Counted, tuple[int, ...]]
    """Their bytes."""

    def bytes_per_face(self, counted: Counted) -> float:
        """Return the mean over all pictures."""
        return float(self.sizes_n[counted].mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceComparison:
    """HSC against an anchor at an equal metric."""

    anchor: str
    """The other codec."""
    metric: str
    """What is equal."""
    counted: Counted
    """Whose bytes."""
    bd_rate: BdRate
    """Its range is of the metric's negative where lower is better."""
    interval: Interval | None
    """How sure that is; None where the metric is no mean over pictures."""


def shown_faces(num_faces: int) -> list[int]:
    """Return which faces go onto contact sheets."""
    count = min(NUM_SHOWN, num_faces)
    return [position * num_faces // count for position in range(count)]


def measure_faces(
    coders: Iterable[FaceCoder], originals_nchw: Tensor, references: Sequence[Reference]
) -> Iterator[FacePoint]:
    """Measure coders on the same faces, uint8 [N, 3, H, W], and yield each point as it comes."""
    for coder in coders:
        yield _measure(coder, originals_nchw, references)


def compare_faces(points: Sequence[FacePoint]) -> list[FaceComparison]:
    """Compare HSC's qualities with each anchor, at each metric and for either way to count bytes."""
    curves: dict[str, list[FacePoint]] = {}
    for point in points:
        curves.setdefault(point.codec, []).append(point)
    anchors = [curve for codec, curve in curves.items() if codec.split()[0] != OURS]
    return [
        _compare(curves[OURS], anchor, metric, counted)
        for anchor in anchors
        for metric in anchor[0].metrics
        for counted in COUNTED
    ]


def is_higher_better(metric: str) -> bool:
    """Say whether more of a metric means pictures more alike."""
    return metric in (PSNR, MS_SSIM)


def msssim_window(side: int) -> int:
    """Return the largest odd window, at most the paper's, that fits a picture's smallest scale."""
    largest = ((side - 1) >> MS_SSIM_HALVINGS) + 1
    return min(MS_SSIM_WINDOW, largest - 1 + largest % 2)


@torch.inference_mode()
def pixel_metrics(decoded_nchw: Tensor, originals_nchw: Tensor) -> dict[str, Tensor]:
    """Compare pictures, uint8 [N, 3, H, W]; returns metrics of each, [N]."""
    one_nchw, other_nchw = decoded_nchw.float(), originals_nchw.float()
    error_n = (one_nchw - other_nchw).square().mean(dim=(1, 2, 3))
    psnr_n = 10 * torch.log10(255**2 / error_n.clamp_min(255**2 * 10 ** (-LARGEST_PSNR_DB / 10)))
    window = msssim_window(min(originals_nchw.shape[2:]))
    msssim_n: Tensor = pytorch_msssim.ms_ssim(one_nchw, other_nchw, data_range=255, size_average=False, win_size=window)
    return {PSNR: psnr_n, MS_SSIM: msssim_n}


def _measure(coder: FaceCoder, originals_nchw: Tensor, references: Sequence[Reference]) -> FacePoint:
    coded = list(coder.code(originals_nchw))
    decoded_nchw = torch.cat([each.decoded_nchw for each in coded])
    assert decoded_nchw.shape == originals_nchw.shape, f"{coder.codec} gave {tuple(decoded_nchw.shape)}"
    sizes: dict[Counted, list[int]] = {
        "file_bytes": [size for each in coded for size in each.file_bytes],
        "payload_bytes": [size for each in coded for size in each.payload_bytes],
    }
    values = _pixel_metrics(decoded_nchw, originals_nchw)
    together: dict[str, float] = {}
    for reference in references:
        of_each, of_all = reference.score(decoded_nchw)
        values |= of_each
        together |= of_all
    shown = shown_faces(len(originals_nchw))
    return FacePoint(
        codec=coder.codec,
        setting=coder.setting,
        sizes_n={counted: np.asarray(each, np.float64) for counted, each in sizes.items()},
        metrics={name: float(each_n.double().mean()) for name, each_n in values.items()} | together,
        values_n={name: each_n.double().numpy() for name, each_n in values.items()},
        shown_nchw=decoded_nchw[shown],
        shown_sizes={counted: tuple(each[number] for number in shown) for counted, each in sizes.items()},
    )


def _pixel_metrics(decoded_nchw: Tensor, originals_nchw: Tensor) -> dict[str, Tensor]:
    pairs = zip(torch.split(decoded_nchw, BATCH_SIZE), torch.split(originals_nchw, BATCH_SIZE), strict=True)
    batches = [pixel_metrics(decoded, original) for decoded, original in pairs]
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def _compare(ours: Sequence[FacePoint], anchor: Sequence[FacePoint], metric: str, counted: Counted) -> FaceComparison:
    sign = 1 if is_higher_better(metric) else -1
    mine, theirs = (
        [(point.bytes_per_face(counted), sign * point.metrics[metric]) for point in points] for points in (ours, anchor)
    )
    found = bd_rate(mine, theirs)
    if found.reason:
        found = replace(found, reason=f"no equal values: {_reach(ours, metric)}, {_reach(anchor, metric)}")
    has_interval = not math.isnan(found.percent) and metric in ours[0].values_n
    interval = None
    if has_interval:
        interval = bootstrap_bd_rate(*(_by_picture(points, metric, counted, sign) for points in (ours, anchor)))
    return FaceComparison(anchor=anchor[0].codec, metric=metric, counted=counted, bd_rate=found, interval=interval)


def _reach(points: Sequence[FacePoint], metric: str) -> str:
    values = sorted(point.metrics[metric] for point in points)
    return f"{points[0].codec} has {values[0]:.4g} to {values[-1]:.4g} in {len(points)} settings"


def _by_picture(points: Sequence[FacePoint], metric: str, counted: Counted, sign: int) -> PictureCurve:
    return PictureCurve(
        sizes_kp=np.stack([point.sizes_n[counted] for point in points]),
        values_kp=sign * np.stack([point.values_n[metric] for point in points]),
    )
