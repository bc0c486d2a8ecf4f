"""Small frames that lean on each other, whose streams and latents a checkpoint holds: a machine is tried on them.

| names, after those of the kind | what they hold |
| --- | --- |
| `.latent16` | decoded latents: int32 [N, M, 7, 5] |
| `.streams`, `.lengths` | their streams, one after the other (uint8), and lengths (int32 [N]) |
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.checkpoint import check_tensor
from framevault.codecs.dicm.checkpoint import GOLDEN_GRID
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import SegmentState, VideoBitstream
from framevault.codecs.entropy.integer import check_layers
from framevault.codecs.errors import CodecError, GoldenMismatchError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoldenVideo:
    """Small frames whose streams are known."""

    latent16_nmhw: Tensor
    """Their decoded latents in sixteenths, whole numbers in float32 [N, M, 7, 5]."""
    streams: tuple[bytes, ...]
    """What they are coded as; each but the first is coded against the one before."""


def golden_tensors(kind: str, golden: GoldenVideo) -> dict[str, Tensor]:
    """Return what a checkpoint holds of them."""
    return {
        f"{kind}.latent16": golden.latent16_nmhw.int(),
        f"{kind}.lengths": torch.tensor([len(stream) for stream in golden.streams], dtype=torch.int32),
        f"{kind}.streams": torch.from_numpy(np.frombuffer(b"".join(golden.streams), np.uint8).copy()),
    }


def read_golden(kind: str, tensors: Mapping[str, Tensor], config: DicmConfig, *, num_frames: int) -> GoldenVideo:
    """Read them.

    Raises:
        TypeError, ValueError: A tensor is of another shape; the message names it.
    """
    expected = {
        "latent16": (torch.int32, (num_frames, config.latent, GOLDEN_GRID.height, GOLDEN_GRID.width)),
        "lengths": (torch.int32, (num_frames,)),
        "streams": (torch.uint8, (tensors[f"{kind}.streams"].numel(),)),
    }
    for part, (dtype, shape) in expected.items():
        check_tensor(f"{kind}.{part}", tensors[f"{kind}.{part}"], dtype=dtype, shape=shape)
    payload = tensors[f"{kind}.streams"].numpy().tobytes()
    lengths = tensors[f"{kind}.lengths"].tolist()
    if min(lengths) < 0 or sum(lengths) != len(payload):
        raise ValueError(f"{kind}.lengths must sum up to the streams' {len(payload)} bytes, got {lengths}")
    starts = [0, *itertools.accumulate(lengths)]
    streams = tuple(payload[start:end] for start, end in itertools.pairwise(starts))
    return GoldenVideo(latent16_nmhw=tensors[f"{kind}.latent16"].float(), streams=streams)


def check_golden_video(video: VideoBitstream, golden: GoldenVideo, *, name: str, device: str) -> None:
    """Decode the golden frames, and compare.

    Args:
        video: On its device.
        golden: Of the same checkpoint.
        name: The checkpoint's, for messages.
        device: The torch device.

    Raises:
        GoldenMismatchError: Something else came out: what is encoded here could not be decoded elsewhere.
    """
    grid = LatentGrid(*golden.latent16_nmhw.shape[2:])
    try:
        check_layers(video.networks)
        decoded_nmhw = video.decode(SegmentState(), golden.streams, grid, device=device).cpu()
    except (CodecError, RuntimeError) as error:
        raise GoldenMismatchError(
            f"the golden video of {name} can't be decoded on device {device!r} with torch {torch.__version__}: {error}"
        ) from error
    if not torch.equal(decoded_nmhw, golden.latent16_nmhw):
        raise GoldenMismatchError(
            f"the golden video of {name} decodes to other symbols on device {device!r} with torch {torch.__version__}: "
            "what it encoded could not be decoded elsewhere. Run on another device (device: cpu), or install the "
            "versions that framevault is pinned to"
        )
