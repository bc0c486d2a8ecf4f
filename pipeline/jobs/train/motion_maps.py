"""What carries latents along by motion: fitted to a finished codec and counted on clips, once a stage has ended.

Maps are those of one g_a, so they are fitted again after stage `codec`, and kept by stage `video`, which leaves g_a as
it is. They take two minutes of the first process, too long for each export between. Fitting needs pictures alone, crops
of which are moved by 64 steps; how often something moves is counted on what the encoder finds in clips.

Letters in shapes: N crops, C channels that are carried.
"""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.dicm.codec import DicmCodec, grid_of, load_dicm
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.layouts import BACKGROUND_VERSION, INTRA_VERSION, VIDEO_LAYOUTS
from framevault.codecs.dicm.motion import STEPS, Motion, MotionField
from framevault.codecs.dicm.motion_checkpoint import export_motion, motion_names
from framevault.codecs.dicm.motion_fit import STILL, MapFit, counted_motion, first_motion, step_pixels
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.spec import CODECS, DEFAULT_QUALITY, CodecSpec
from framevault.configs.train import TrainDicmJob
from framevault.pipeline.jobs.train.crops import random_crops
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import Batch, StageSetup
from framevault.pipeline.jobs.train.video_stage import draw_clips

MOST_CROPS = 300
"""That maps are fitted to: two minutes on one CPU thread with crops of 192 pixels. With 150, predicted frames of four
clips that were not trained on took 1 to 4 % more bytes."""

CROPS_PER_PICTURE = 4
"""At most: more of the same say little that is new."""

REACH = 8
"""Pixels around a crop that it is moved by, in each direction."""

CROPS_AT_ONCE = STEPS
"""In one pass through the networks."""

CLIP_QUALITIES = (2, 3, 4, 5, 6, 7)
"""What moves is counted at these in turn."""

NUM_CLIP_BATCHES = 2 * len(CLIP_QUALITIES)
"""Batches of clips that it is counted on."""

CARRIED_SLICES = CODECS["dicm"].usual_slices[BACKGROUND_VERSION][DEFAULT_QUALITY - 1]
"""The first ones, whose channels are carried: what most predicted frames hold."""

Clip = list[MotionField | None]
"""The motion of a clip's frames in order, None where nothing moved."""


def renew_motion(path: Path, setup: StageSetup[TrainDicmJob]) -> None:
    """Give a checkpoint maps that fit its g_a, in the place of those that it may have; none without video mode.

    Args:
        path: The codec's checkpoint.
        setup: Of the stage that exported it.
    """
    codec = _load(path, device=setup.device)
    if codec.video is not None:
        _write(path, _counted(codec, codec.video.motion, _fit_maps(codec, setup), setup))


def complete_motion(path: Path, setup: StageSetup[TrainDicmJob]) -> None:
    """Count a checkpoint's tables of motion, and give it maps if it has none.

    Args:
        path: The codec's checkpoint, with video mode.
        setup: Of the stage that exported it.
    """
    codec = _load(path, device=setup.device)
    assert codec.video is not None
    known = codec.video.motion
    _write(path, _counted(codec, known, _fit_maps(codec, setup) if known is None else known.maps, setup))


def _load(path: Path, *, device: torch.device | str) -> DicmCodec:
    """Load a codec at the quality that maps are fitted at, in the version that every checkpoint has."""
    weights, quality = str(path), DEFAULT_QUALITY
    return load_dicm(
        CodecSpec(name="dicm", quality=quality, weights=weights, device=str(device), bitstream_version=INTRA_VERSION)
    )


def _write(path: Path, motion: Motion) -> None:
    """Write maps and tables into a checkpoint; those that it had go."""
    video = _load(path, device="cpu").video
    assert video is not None
    tensors, config_json = load_checkpoint(path, codec="dicm")
    had = motion_names(DicmConfig.from_json(config_json))
    config_json["motion"] = motion.num_channels
    added = export_motion(video, DicmConfig.from_json(config_json), motion)
    kept = {name: tensor for name, tensor in tensors.items() if name not in had}
    save_checkpoint(path, {**kept, **added}, codec="dicm", config=config_json)


def _fit_maps(codec: DicmCodec, setup: StageSetup[TrainDicmJob]) -> Tensor:
    """Return maps fitted to crops of the training pictures, on the CPU; see `MapFit.solve`."""
    side, num_crops = setup.job.crop + 2 * REACH, min(MOST_CROPS, CROPS_PER_PICTURE * len(setup.pictures))
    has_room = any(min(rgb_hwc.shape[:2]) >= side for rgb_hwc in setup.pictures.rgb_hwc)
    text = f"motion: maps are fitted to {num_crops} crops"
    setup.say(text if has_room else f"{text}, enlarged, since no picture is as large as {side} x {side} pixels")

    def draw(pictures: PictureSet, rng: np.random.Generator) -> Batch:
        return Batch(views=(random_crops(pictures, rng, num_crops=1, side=side),))

    fit = MapFit(sum(codec.networks.config.slices[:CARRIED_SLICES]), device=setup.device)
    for batch in setup.draw_samples(draw, num_crops):
        moved = list(_moved_latents(codec, batch.rgb_nchw, side=setup.job.crop))
        fit.add(moved[STILL], moved)
    return fit.solve()


def _moved_latents(codec: DicmCodec, rgb_1chw: Tensor, *, side: int) -> Iterator[Tensor]:
    """Yield the latents [M, h, w] of the middle of a picture moved by each of the 64 steps, in order."""
    moved = []
    for number in range(STEPS * STEPS):
        down, right = (REACH + pixels for pixels in step_pixels(number))
        moved.append(rgb_1chw[:, :, down : down + side, right : right + side])
    for crops_nchw in torch.split(torch.cat(moved), CROPS_AT_ONCE):
        yield from codec.latent(crops_nchw)


def _counted(codec: DicmCodec, known: Motion | None, maps: Tensor, setup: StageSetup[TrainDicmJob]) -> Motion:
    """Return motion with tables counted on clips; with known ones, or those that know nothing, if nothing moves there.

    Args:
        codec: With video mode, on its device.
        known: What the checkpoint has, perhaps with other maps.
        maps: Those to count with.
        setup: The stage's.
    """
    before = first_motion(maps) if known is None else dataclasses.replace(known, maps=maps.cpu())
    clips = _find_motion(codec, before, setup) if setup.pictures.clips else []
    if any(field is not None for clip in clips for field in clip):
        return counted_motion(before.maps, clips)
    which = "that know nothing" if known is None else "of the start"
    setup.say(f"motion: nothing is seen to move in {len(clips)} clips, so it has the tables {which}")
    return before


def _find_motion(codec: DicmCodec, motion: Motion, setup: StageSetup[TrainDicmJob]) -> list[Clip]:
    """Return what the encoder finds to move in random clips."""
    moving = _with_motion(codec, motion.to(setup.device))
    clips = []
    for number, batch in enumerate(setup.draw_samples(partial(draw_clips, setup.job), NUM_CLIP_BATCHES)):
        coder = _at_quality(moving, CLIP_QUALITIES[number % len(CLIP_QUALITIES)])
        clips += [_motion_of(coder, clip_nchw) for clip_nchw in torch.stack(batch.views, dim=1)]
    return clips


def _with_motion(codec: DicmCodec, motion: Motion) -> DicmCodec:
    """Return a codec that writes moved frames by means of these maps and tables."""
    assert codec.video is not None
    video = dataclasses.replace(codec.video, motion=motion, layout=VIDEO_LAYOUTS[BACKGROUND_VERSION])
    return dataclasses.replace(
        codec, spec=dataclasses.replace(codec.spec, bitstream_version=BACKGROUND_VERSION), video=video
    )


def _at_quality(codec: DicmCodec, quality: int) -> DicmCodec:
    """Return a codec at a quality, with the slices that are usual there."""
    spec = dataclasses.replace(codec.spec, quality=quality)
    slices = CODECS["dicm"].usual_slices[BACKGROUND_VERSION][quality - 1]
    return dataclasses.replace(codec, spec=spec).restricted_to(min(slices, codec.num_slices))


def _motion_of(codec: DicmCodec, clip_nchw: Tensor) -> Clip:
    """Return what moves in a clip, RGB uint8 [N, 3, H, W]."""
    height, width = clip_nchw.shape[2:]
    assert codec.video is not None
    streams = codec.encoder(height=height, width=width).encode(clip_nchw)
    state, grid = SegmentState(), grid_of(height, width)
    return [codec.video.decode_all(state, stream, grid, device=codec.spec.device).motion for stream in streams]
