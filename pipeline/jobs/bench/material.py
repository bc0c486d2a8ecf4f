"""What a comparison of codecs runs on: frames in memory, and what is known about each.

Every codec gets the same pixels: upright RGB, scaled if that is asked for, and cut to even sides, which 4:2:0 demands.
Letters in shapes: N frames, H rows, W columns.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.sampling import RgbBatch, read_batches, split_calls
from framevault.pipeline.probing import ProbedSource

MIN_SIDE = 64
"""Pixels; x265 and SVT-AV1 take no smaller frames."""

T = TypeVar("T")

Run = tuple[Tensor, ...]
"""Batches of frames of one size, uint8 [N, 3, H, W], as many as go through the networks together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame(Generic[T]):
    """What is known of one frame."""

    target: T | None
    """What it shows; None for frames that are coded but not scored."""
    source_size: tuple[int, int]
    """Width and height in the source, before it was scaled and cut."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material(Generic[T]):
    """Frames, and what is known about them."""

    runs: tuple[Run, ...]
    """Of a video: its segments, in order. Of pictures: those of one size together."""
    frames: tuple[Frame[T], ...]
    """What is known of each, in the order of the runs."""
    size: tuple[int, int] | None
    """Width and height that they were scaled to; None if they were not."""
    fps: float | None
    """Frames a second; None for pictures, which have nothing to do with one another."""

    @property
    def is_video(self) -> bool:
        """Whether the frames follow one another."""
        return self.fps is not None

    @property
    def num_frames(self) -> int:
        """All frames, scored or not."""
        return len(self.frames)

    @property
    def num_scored(self) -> int:
        """Frames that are scored."""
        return sum(frame.target is not None for frame in self.frames)

    @property
    def num_pixels(self) -> int:
        """Of all frames."""
        return sum(len(batch) * batch.shape[2] * batch.shape[3] for run in self.runs for batch in run)


def read_video(
    probed: ProbedSource,
    targets: Mapping[int, T],
    *,
    num_frames: int,
    frame_step: int,
    score_step: int,
    size: tuple[int, int] | None,
    segment_frames: int,
) -> Material[T]:
    """Read frames 0, S, 2S... of a video.

    Args:
        probed: The video.
        targets: What is known of frames, by their number in the video.
        num_frames: Only the first so many frames of the video are looked at.
        frame_step: S.
        score_step: Of the frames read, those with a target are scored that are at least so many frames of the video
            after the last one scored.
        size: Width and height to scale to; None leaves them.
        segment_frames: Frames of a run.

    Raises:
        PreflightError: It can't be read, or the frames have several sizes or are too small.
    """
    chosen = range(0, min(num_frames, probed.info.num_frames), frame_step)
    scored = _choose_scored([number for number in chosen if number in targets], score_step)
    prepared: list[Tensor] = []
    frames: list[Frame[T]] = []
    for batch in read_batches(probed, chosen):
        prepared.append(_prepare(batch, size=size))
        for number in batch.frame_numbers:
            frames.append(
                Frame(target=targets[number] if number in scored else None, source_size=_size(batch.rgb_nchw))
            )
    sizes = sorted({_size(rgb_nchw) for rgb_nchw in prepared})
    if len(sizes) != 1:
        got = ", ".join(f"{width}x{height}" for width, height in sizes)
        raise PreflightError(f"{probed.info.url}: expected frames of one size, got {got}")
    _check_side(sizes[0], name=probed.info.url)
    frames_nchw = torch.cat(prepared)
    starts = range(0, len(frames_nchw), segment_frames)
    return Material(
        runs=tuple(tuple(split_calls(frames_nchw[start : start + segment_frames])) for start in starts),
        frames=tuple(frames),
        size=size,
        fps=probed.info.fps / frame_step,
    )


def read_pictures(probed: ProbedSource, targets: Sequence[T], *, size: tuple[int, int] | None) -> Material[T]:
    """Read all pictures of a source, sorted by size.

    Args:
        probed: The pictures.
        targets: What is known of each, in the source's order.
        size: Width and height to scale to; None leaves them.

    Raises:
        PreflightError: One can't be read, or is too small.
    """
    by_size: dict[tuple[int, int], list[tuple[Tensor, Frame[T]]]] = {}
    for batch in read_batches(probed, range(len(targets))):
        prepared_nchw = _prepare(batch, size=size)
        _check_side(_size(prepared_nchw), name=f"picture {batch.frame_numbers[0]} of {probed.info.url}")
        for number, rgb_chw in zip(batch.frame_numbers, prepared_nchw, strict=True):
            frame = Frame(target=targets[number], source_size=_size(batch.rgb_nchw))
            by_size.setdefault(_size(prepared_nchw), []).append((rgb_chw, frame))
    groups = [by_size[each] for each in sorted(by_size)]
    return Material(
        runs=tuple(tuple(split_calls(torch.stack([rgb_chw for rgb_chw, _ in group]))) for group in groups),
        frames=tuple(frame for group in groups for _, frame in group),
        size=size,
        fps=None,
    )


def spread(items: Sequence[T], most: int | None) -> list[T]:
    """Return at most so many items, evenly spread; all of them for None."""
    if most is None or len(items) <= most:
        return list(items)
    return [items[position * len(items) // most] for position in range(most)]


def cut_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return a width and height with odd sides made one less."""
    return size[0] // 2 * 2, size[1] // 2 * 2


def rgb_frames(batches: Iterable[Tensor]) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Yield the frames of batches [N, 3, H, W] as [H, W, 3]."""
    for batch_nchw in batches:
        yield from batch_nchw.permute(0, 2, 3, 1).numpy()


def _choose_scored(labelled: Sequence[int], score_step: int) -> set[int]:
    chosen: list[int] = []
    for number in labelled:
        if not chosen or number - chosen[-1] >= score_step:
            chosen.append(number)
    return set(chosen)


def _prepare(batch: RgbBatch, *, size: tuple[int, int] | None) -> Tensor:
    """Scale and cut a batch; returns uint8 [N, 3, H, W]."""
    rgb_nchw = batch.rgb_nchw
    if size is not None and _size(rgb_nchw) != size:
        pictures = [Image.fromarray(rgb_hwc).resize(size, Image.Resampling.BOX) for rgb_hwc in rgb_frames([rgb_nchw])]
        rgb_nchw = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
    width, height = cut_size(_size(rgb_nchw))
    return rgb_nchw[:, :, :height, :width].contiguous()


def _size(rgb_nchw: Tensor) -> tuple[int, int]:
    return rgb_nchw.shape[3], rgb_nchw.shape[2]


def _check_side(size: tuple[int, int], *, name: str) -> None:
    if min(size) < MIN_SIDE:
        raise PreflightError(f"{name}: expected {MIN_SIDE}x{MIN_SIDE} pixels or more, got {size[0]}x{size[1]}")
