"""What a checkpoint holds for moved frames, beside what `video_checkpoint.py` has for predicted ones.

| names | what they hold |
| --- | --- |
| `motion.maps` | maps of 3x3 latents to one, for each of the 64 steps within a position, in 64ths: int8 [64, C, 9 C] |
| `tables.moved`, `tables.choices` | how likely a position moved, and has a vector, for each context: int32 [512] |
| `golden.motion.latent16` | decoded latents of three small frames, the second and third moved: int32 [3, M, 7, 5] |
| `golden.motion.streams`, `golden.motion.lengths` | their streams, one after another: uint8; lengths: int32 [3] |

C is `motion` in the configuration; 0: there is none of this, and no frame is moved.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.checkpoint import check_names, check_tensor
from framevault.codecs.dicm.checkpoint import GOLDEN_GRID
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.golden_streams import GoldenVideo, golden_tensors, read_golden
from framevault.codecs.dicm.layouts import MOTION_VERSION, VIDEO_LAYOUTS
from framevault.codecs.dicm.motion import STEPS, Motion, MotionField
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.temporal_model import NEIGHBOURHOOD
from framevault.codecs.dicm.video import DecodedFrame, SegmentState, VideoBitstream
from framevault.codecs.entropy.latents import MEAN_STEPS
from framevault.codecs.entropy.tables import FlagTable

GOLDEN = "golden.motion"

_NAMES = {
    "motion.maps",
    "tables.moved",
    "tables.choices",
    f"{GOLDEN}.latent16",
    f"{GOLDEN}.lengths",
    f"{GOLDEN}.streams",
}


def export_motion(video: VideoBitstream, config: DicmConfig, motion: Motion) -> dict[str, Tensor]:
    """Return the tensors of moved frames.

    Args:
        video: The same checkpoint's predicted frames, on the CPU.
        config: The checkpoint's, with `motion` channels.
        motion: Fitted and counted, on the CPU.
    """
    moving = dataclasses.replace(video, motion=motion, layout=VIDEO_LAYOUTS[MOTION_VERSION])
    return {
        "motion.maps": motion.maps.to(torch.int8),
        "tables.moved": motion.moved_table.to_tensor(),
        "tables.choices": motion.choice_table.to_tensor(),
        **golden_tensors(GOLDEN, _make_golden(moving, config)),
    }


def motion_names(config: DicmConfig) -> set[str]:
    """Return the names of all tensors of moved frames; none without them."""
    return set(_NAMES) if config.motion else set()


def read_motion(tensors: Mapping[str, Tensor], config: DicmConfig) -> tuple[Motion, GoldenVideo]:
    """Read what a checkpoint with moved frames holds, on the CPU.

    Raises:
        RuntimeError, TypeError, ValueError: Tensors are missing or of other shapes; the message names one.
    """
    check_names({name: tensor for name, tensor in tensors.items() if name in _NAMES}, _NAMES)
    shape = (STEPS * STEPS, config.motion, NEIGHBOURHOOD * config.motion)
    check_tensor("motion.maps", tensors["motion.maps"], dtype=torch.int8, shape=shape)
    motion = Motion(
        maps=tensors["motion.maps"].to(torch.float64),
        moved_table=FlagTable.from_tensor(tensors["tables.moved"]),
        choice_table=FlagTable.from_tensor(tensors["tables.choices"]),
    )
    return motion, read_golden(GOLDEN, tensors, config, num_frames=3)


def _make_golden(video: VideoBitstream, config: DicmConfig) -> GoldenVideo:
    """Code a frame of random latents, and two that moved: by several vectors, far and near, and beyond the border."""
    random = torch.Generator().manual_seed(20261129)
    shape = (config.latent, GOLDEN_GRID.height, GOLDEN_GRID.width)
    z_nchw = torch.zeros(1, config.hyper, GOLDEN_GRID.hyper_height, GOLDEN_GRID.hyper_width)
    numbers_hw = torch.arange(shape[1] * shape[2]).reshape(shape[1:])
    fields = (
        None,
        MotionField(
            vectors_k2=np.array([[1, -3], [-4, 3], [-21, 40]], np.int32),
            number_hw=(numbers_hw % 4).to(torch.uint8).numpy(),
        ),
        MotionField(vectors_k2=np.array([[0, 2]], np.int32), number_hw=(numbers_hw % 5 == 0).to(torch.uint8).numpy()),
    )
    state, streams = SegmentState(), []
    for field in fields:
        latent16_mhw = torch.round(4 * MEAN_STEPS * torch.randn(shape, generator=random))
        frame = DecodedFrame(latent16_mhw=latent16_mhw, z_nchw=z_nchw if field is None else None, motion=field)
        streams.append(video.encode_again(state, frame, rule=SkipRule(least_gain=4000.0, largest_change=40.0)))
    latents = video.decode(SegmentState(), streams, GOLDEN_GRID, device="cpu")
    return GoldenVideo(latent16_nmhw=latents, streams=tuple(streams))
