"""Aligned faces for measurements, with the names of their files.

Letters in shapes: N pictures, R pixels of the codec's square.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import torch
from torch import Tensor

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.material import MIN_SIDE, spread
from framevault.pipeline.jobs.bench.sampling import locate_source, probe, read_batches
from framevault.pipeline.sources import SourceLocation

FEWEST_FACES = 2
"""A spread needs two: Frechet distances and feature variances have none of one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Faces:
    """Pictures and what they are called."""

    names: tuple[str, ...]
    """File names, without folders; numbers, of a video's frames."""
    rgb_nchw: Tensor
    """uint8 [N, 3, R, R]."""


def read_faces(folder: str, *, side: int, num_faces: int | None = None, names: Sequence[str] | None = None) -> Faces:
    """Read a folder's pictures.

    Args:
        folder: Where they are.
        side: R, what they must measure: the codec would scale others, and the other codecs would not.
        num_faces: Most of them, evenly spread; None for all.
        names: Only those with these file names, in this order; None for all.

    Raises:
        InputError: There is no such folder, or no picture in it.
        PreflightError: A picture is missing, can't be read or has another size, or there are fewer than two.
    """
    if side < MIN_SIDE:
        raise PreflightError(f"x265 needs faces of {MIN_SIDE} pixels or more, the checkpoint's are of {side}")
    location = locate_source(folder)
    if names is not None:
        location = replace(location, files=_choose(location, names))
    probed = probe(location)
    chosen = spread(range(probed.info.num_frames), num_faces)
    if len(chosen) < FEWEST_FACES:
        raise PreflightError(f"{folder}: expected {FEWEST_FACES} pictures or more, found {len(chosen)}")
    batches = []
    for batch in read_batches(probed, chosen):
        height, width = batch.rgb_nchw.shape[2:]
        if (width, height) != (side, side):
            name = _name(location, batch.frame_numbers[0])
            raise PreflightError(
                f"picture {name} of {folder}: expected an aligned face of {side}x{side} pixels, as the checkpoint's, "
                f"got {width}x{height}"
            )
        batches.append(batch.rgb_nchw)
    return Faces(names=tuple(_name(location, n) for n in chosen), rgb_nchw=torch.cat(batches))


def _name(location: SourceLocation, number: int) -> str:
    return PurePath(location.files[number]).name if location.files else str(number)


def _choose(location: SourceLocation, names: Sequence[str]) -> tuple[str, ...]:
    files = {PurePath(file).name: file for file in location.files}
    if missing := [name for name in names if name not in files]:
        raise PreflightError(f"{location.url}: there is no picture {missing[0]}, and {len(missing) - 1} others")
    return tuple(files[name] for name in names)
