"""Points of rate and accuracy: frames through coders, real bytes counted, decoded features scored.

Letters in shapes: N frames, C channels, H and W pixels, h and w positions, P pictures.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framevault.pipeline.jobs.bench.bd_rate import BdRate, Interval, PictureCurve, bd_rate, bootstrap_bd_rate
from framevault.pipeline.jobs.bench.coders import UNCOMPRESSED, Coder
from framevault.pipeline.jobs.bench.material import Material
from framevault.pipeline.jobs.bench.tallies import Scored, Tally

T = TypeVar("T")

OURS = "dicm"
"""First word of the names of the codecs that are compared with the others."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Point:
    """One codec with one setting."""

    codec: str
    """The codec."""
    setting: str
    """Its setting."""
    is_intra: bool
    """Whether it codes every frame by itself."""
    sizes_p: NDArray[np.float64]
    """Bytes of each frame; of codecs that predict, only their sum means something."""
    num_pixels: int
    """Of all frames."""
    scored: Scored
    """What the network made of it."""

    @property
    def bytes_per_frame(self) -> float:
        """Real bytes of the streams over the number of frames."""
        return float(self.sizes_p.mean())

    @property
    def bits_per_pixel(self) -> float:
        """Real bits over pixels."""
        return 8 * float(self.sizes_p.sum()) / self.num_pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A codec against an anchor."""

    codec: str
    """The codec."""
    anchor: str
    """What it is compared with."""
    metric: str
    """In which accuracy."""
    bd_rate: BdRate
    """Bytes at equal accuracy."""
    interval: Interval | None
    """How sure that is; None where frames depend on one another, or the metric is no mean over pictures."""


def measure_points(
    material: Material[T],
    coders: Iterable[Coder],
    *,
    head: Callable[[Tensor], Tensor],
    new_tally: Callable[[], Tally[T]],
) -> Iterator[Point]:
    """Measure coders on the same frames, and yield each point as it comes.

    Args:
        material: The frames.
        coders: What codes them.
        head: Gives the features [N, C, h, w] of pixels, uint8 [N, 3, H, W].
        new_tally: Starts to score a form of the frames.
    """
    for coder in coders:
        yield _measure(material, coder, head=head, tally=new_tally())


def compare(points: Sequence[Point]) -> list[Comparison]:
    """Compare each of our codecs with each anchor of its kind, intra with intra and predicting with predicting."""
    curves: dict[str, list[Point]] = {}
    for point in points:
        if point.codec != UNCOMPRESSED:
            curves.setdefault(point.codec, []).append(point)
    ours = [curve for codec, curve in curves.items() if codec.split()[0] == OURS]
    anchors = [curve for codec, curve in curves.items() if codec.split()[0] != OURS]
    return [
        _compare(curve, anchor, metric)
        for curve in ours
        for anchor in anchors
        if curve[0].is_intra == anchor[0].is_intra
        for metric in curve[0].scored.metrics
    ]


def _measure(material: Material[T], coder: Coder, *, head: Callable[[Tensor], Tensor], tally: Tally[T]) -> Point:
    sizes: list[int] = []
    # Pictures have no rate, but encoders want one.
    for coded in coder.code(material.runs, fps=material.fps or 25.0):
        frames = material.frames[len(sizes) : len(sizes) + len(coded.decoded_nchw)]
        sizes.extend(coded.sizes)
        chosen = [number for number, frame in enumerate(frames) if frame.target is not None]
        if chosen:
            decoded_nchw = coded.decoded_nchw[chosen]
            features_nchw = head(decoded_nchw) if decoded_nchw.dtype == torch.uint8 else decoded_nchw
            tally.add([frames[number] for number in chosen], features_nchw)
    assert len(sizes) == material.num_frames, f"{coder.codec} gave {len(sizes)} of {material.num_frames} frames"
    return Point(
        codec=coder.codec,
        setting=coder.setting,
        is_intra=coder.is_intra,
        sizes_p=np.asarray(sizes, np.float64),
        num_pixels=material.num_pixels,
        scored=tally.result(),
    )


def _compare(curve: Sequence[Point], anchor: Sequence[Point], metric: str) -> Comparison:
    ours, theirs = (
        [(point.bytes_per_frame, point.scored.metrics[metric]) for point in points] for points in (curve, anchor)
    )
    found = bd_rate(ours, theirs)
    has_interval = not found.reason and metric in curve[0].scored.values_p
    interval = bootstrap_bd_rate(_by_picture(curve, metric), _by_picture(anchor, metric)) if has_interval else None
    return Comparison(codec=curve[0].codec, anchor=anchor[0].codec, metric=metric, bd_rate=found, interval=interval)


def _by_picture(points: Sequence[Point], metric: str) -> PictureCurve:
    return PictureCurve(
        sizes_kp=np.stack([point.sizes_p for point in points]),
        values_kp=np.stack([point.scored.values_p[metric] for point in points]),
    )
