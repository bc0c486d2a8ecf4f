"""Aligned faces through the codec, to what directions are found in: decoded values, and attributes of pixels.

Letters in shapes: N faces, H and W pixels, L styles of D values, C channels of a feature of s x s positions, R the side
of the domain's pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framevault.codecs.base import Semantics
from framevault.codecs.hsc.attributes import ATTRIBUTES
from framevault.codecs.hsc.codec import HscCodec
from framevault.codecs.hsc.contrasts import JointValues
from framevault.codecs.hsc.geometry import to_square
from framevault.configs.directions import DirectionsJob
from framevault.pipeline.events import Note
from framevault.pipeline.executors.base import EventSink
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.candidates import find_candidates
from framevault.pipeline.jobs.train.pictures import load_pictures
from framevault.pipeline.sources import expand_inputs
from framevault.workers.limits import DecodeLimits

VIDEO_FPS = 1.0
"""Frames that are taken from a second of video."""

NOTE_EVERY = 500
"""Faces between two lines about them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Faces:
    """What is known of some faces."""

    names: list[str]
    """What people know each by."""
    rgb_hwc: tuple[NDArray[np.uint8], ...]
    """RGB uint8 [H, W, 3] each."""
    values: JointValues
    """Decoded styles S^ and features f^: those that an edit moves, rounding and all; features in half precision."""
    attributes: dict[str, Tensor]
    """Each attribute of the pixels, [N]."""


def load_faces(job: DirectionsJob, codec: HscCodec, *, on_event: EventSink) -> Faces:
    """Decode pictures and encode them.

    Raises:
        InputError: A source is not there.
        PreflightError: Nothing can be read.
    """
    resolution = codec.networks.config.resolution
    limits = DecodeLimits(**job.limits.model_dump())
    found = find_candidates(expand_inputs(job.data), video_fps=VIDEO_FPS, short_side=resolution, limits=limits)
    numbers = np.linspace(0, len(found.candidates) - 1, min(job.faces, len(found.candidates))).round().astype(int)
    loaded = load_pictures(
        [found.candidates[number] for number in numbers],
        cache_dir=None,
        num_threads=job.data_threads,
        limits=limits,
        on_progress=lambda _: None,
    )
    unreadable = (*found.unreadable, *loaded.unreadable)
    if not len(loaded.pictures):
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in unreadable[:3])
        raise PreflightError(f"data: expected pictures of faces, none can be read: {reasons}")
    on_event(Note(text=f"data: {len(loaded.pictures)} faces; {len(unreadable)} can't be read"))
    return _encode(codec, list(loaded.pictures.names), loaded.pictures.rgb_hwc, job.batch_size, on_event)


def _encode(
    codec: HscCodec, names: list[str], rgb_hwc: Sequence[NDArray[np.uint8]], batch_size: int, on_event: EventSink
) -> Faces:
    styles: list[Tensor] = []
    features: list[Tensor] = []
    attributes: dict[str, list[Tensor]] = {name: [] for name in ATTRIBUTES}
    for first in range(0, len(rgb_hwc), batch_size):
        square_nchw = torch.cat([_square(codec, each_hwc) for each_hwc in rgb_hwc[first : first + batch_size]])
        latents = _decoded(codec, square_nchw)
        styles.append(latents.styles_nld.cpu())
        features.append(latents.feature_nchw.to(torch.float16).cpu())
        for name, (measure, _) in ATTRIBUTES.items():
            attributes[name].append(measure((square_nchw + 1) / 2).cpu())
        if first // NOTE_EVERY != (first + batch_size) // NOTE_EVERY:
            on_event(Note(text=f"encoded {min(first + batch_size, len(rgb_hwc))} of {len(rgb_hwc)} faces"))
    return Faces(
        names=names,
        rgb_hwc=tuple(rgb_hwc),
        values=JointValues(torch.cat(styles), torch.cat(features)),
        attributes={name: torch.cat(values) for name, values in attributes.items()},
    )


def _decoded(codec: HscCodec, square_nchw: Tensor) -> Semantics:
    """Return what the streams of square pictures, RGB in -1..1 [N, 3, R, R], decode to."""
    analysis = codec.analyse(square_nchw)
    symbols = codec.bitstream.find_symbols(analysis.core_nk, analysis.y_nmgg)
    return codec.semantics(analysis.core_nk, symbols.latent16_nmgg)


def _square(codec: HscCodec, rgb_hwc: NDArray[np.uint8]) -> Tensor:
    frames_1chw = torch.from_numpy(np.ascontiguousarray(rgb_hwc)).permute(2, 0, 1)[None]
    return to_square(frames_1chw, resolution=codec.networks.config.resolution, device=codec.spec.device)
