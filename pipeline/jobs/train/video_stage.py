"""Stage `video`: the networks that code a frame against the one before it, around a codec that stays as it is.

Clips of a few frames are coded as the encoder would (closed loop: each frame against what was decoded of the one
before), and the networks learn to spend fewer bits at the positions that are coded. Latents are rounded plainly, though
the encoder weighs bits (`codecs/dicm/quantising.py`): networks that learn from what it takes for 0 expect ever more of
it, and save 6 to 8 % of the bytes for 3 to 6 % more error, which is no gain. Last, it is counted how often
positions are coded at all, which gives the table of flags.

Letters in shapes: N clips, M latent channels, m those of one slice, h and w positions of the latent grid, P coded
positions.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.dicm.layouts import VIDEO_VERSION
from framevault.codecs.dicm.networks import NUM_QUALITIES
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.temporal_model import TemporalNetworks
from framevault.codecs.dicm.video_checkpoint import export_video, video_names
from framevault.codecs.entropy.quantisation import RoundedConv2d
from framevault.codecs.entropy.tables import BoolArray, flag_table_from_examples
from framevault.codecs.spec import CODECS
from framevault.configs.train import TrainDicmJob
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.codec_start import read_start, spread_temporal
from framevault.pipeline.jobs.train.crops import normalised, random_clips
from framevault.pipeline.jobs.train.frozen_backbone import start_path
from framevault.pipeline.jobs.train.optimisation import (
    Descent,
    RunningAverage,
    cosine_rate,
    sized_groups,
)
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.predicted import code_clip
from framevault.pipeline.jobs.train.stages import Batch, Row, StageSetup, State

NUM_FRAMES = 4
"""Frames of a clip: the first is coded by itself."""

TEMPORAL_CHANNELS = 128
"""T, where the start has no networks of this kind."""

SCRATCH_RATE, TUNING_RATE = 3e-3, 4e-4
"""Learning rates relative to each tensor's size, from random networks and from a checkpoint's."""

USUAL_SLICES = CODECS["dicm"].usual_slices[VIDEO_VERSION]
"""What `compress` keeps of predicted frames at each quality: networks that learn from whole ones alone expect later
slices of the frame before to be up to date, and take 1 to 5 % more bits at qualities 1 to 5, 14 to 18 % at 7."""

WHOLE_SHARE = 0.25
"""Of the clips, that are coded with all slices."""

FLAG_BATCHES = 8
"""Batches that flags are counted on."""


def draw_clips(job: TrainDicmJob, pictures: PictureSet, rng: np.random.Generator) -> Batch:
    """Cut random clips of `NUM_FRAMES` frames, as many as make a batch."""
    num_clips = max(1, job.batch_size // NUM_FRAMES)
    return Batch(views=random_clips(pictures, rng, num_clips=num_clips, num_frames=NUM_FRAMES, side=job.crop))


class VideoStage:
    """Trains the temporal networks."""

    starts_from: Path | None = None
    """What it begins with is measured by stage `codec`."""

    def __init__(self, setup: StageSetup[TrainDicmJob]) -> None:
        """Load the codec: what stage `codec` exported, or else the start.

        Raises:
            CodecError: A file is missing, damaged or another's.
            PreflightError: There are no frames that follow one another.
        """
        if not setup.pictures.clips:
            raise PreflightError("stage video needs videos, sampled so that frames follow one another: raise video_fps")
        self._job = setup.job
        self._device = setup.device
        path = setup.earlier.get("codec") or start_path(setup.job)
        if path is None:
            raise PreflightError(f"stage video needs a codec of {setup.job.architecture}: train stage codec before it")
        self._codec_path = path
        start = read_start(self._codec_path)
        self._codec = start.models.networks.requires_grad_(False).to(self._device)
        self._config = dataclasses.replace(
            self._codec.config, temporal=self._codec.config.temporal or TEMPORAL_CHANNELS
        )
        self._motion = None if start.video is None else start.video.motion
        if start.video is None:
            networks, rate = TemporalNetworks(self._config, RoundedConv2d), SCRATCH_RATE
            spread_temporal(networks)
        else:
            networks, rate = start.video.networks, TUNING_RATE
        self._networks = networks.to(self._device)
        setup.world.copy_first([self._networks])
        self._average = RunningAverage(self._networks, decay=self._job.average_decay)
        self._descent = Descent(
            sized_groups(self._networks, rate=rate),
            clip_norm=self._job.clip_norm,
            world=setup.world,
            max_bad_steps=self._job.max_bad_steps,
        )
        self._samples = setup.draw_samples(self.draw, FLAG_BATCHES)

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        """Cut random clips."""
        return draw_clips(self._job, pictures, rng)

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from a batch of clips at random qualities."""
        bits, num_positions = torch.zeros((), device=self._device), 0
        for latents_nmhw, num_slices in self._latents(batch):
            coded = code_clip(self._networks, latents_nmhw, rule=SkipRule(), num_slices=num_slices)
            bits = bits + coded.bits
            num_positions += sum(int(flags_hw.sum()) for flags_hw in coded.flags)
        if not num_positions:
            return {"positions": 0.0}
        loss = bits / num_positions
        # In units of some fifty bits, so that clipping cuts what is unusual only.
        descended = self._descent.step(loss / 50, rate=cosine_rate(progress))
        if descended.is_finite:
            self._average.follow(self._networks)
        return {
            "loss": float(loss.detach()),
            "positions": float(num_positions),
            "gradient": descended.gradient_norm,
            "skipped_not_finite": float(not descended.is_finite),
        }

    def state_dict(self) -> State:
        """Return networks, running average and optimiser."""
        return {
            "networks": dict(self._networks.state_dict()),
            "average": self._average.state_dict(),
            "descent": self._descent.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave."""
        networks, average, descent = state["networks"], state["average"], state["descent"]
        assert isinstance(networks, dict)
        assert isinstance(average, dict)
        assert isinstance(descent, dict)
        self._networks.load_state_dict(networks)
        self._average.load_state_dict(average)
        self._descent.load_state_dict(descent)

    def export(self, path: Path) -> None:
        """Write the codec's checkpoint with these networks for its video mode; its maps of motion stay as they are."""
        networks = self._average.module
        assert isinstance(networks, TemporalNetworks)
        flag_table = flag_table_from_examples(self._flags(networks))
        tensors, config_json = load_checkpoint(self._codec_path, codec="dicm")
        of_video = video_names(self._codec.config)
        kept = {name: tensor for name, tensor in tensors.items() if name not in of_video}
        bitstream = read_start(self._codec_path).bitstream
        added = export_video(bitstream, self._config, networks.cpu(), flag_table, motion=self._motion)
        networks.to(self._device)
        config = {**config_json, "temporal": self._config.temporal}
        save_checkpoint(path, {**kept, **added}, codec="dicm", config=config)

    def validate(self, exported: Path, pictures: PictureSet, qualities: Sequence[int]) -> list[Row]:
        """Measure nothing: held-out pictures do not follow one another."""
        return []

    @torch.no_grad()
    def _latents(self, batch: Batch) -> list[tuple[Tensor, int]]:
        """Return each clip's latents in steps, [frames, M, h, w], at a random quality, and how many slices are kept."""
        quality_n = torch.randint(0, NUM_QUALITIES, (batch.num_crops,)).to(self._device)
        frames = [
            self._codec.analyse(self._codec.head(normalised(view, self._device)), quality_n) for view in batch.views
        ]
        is_whole_n = torch.rand(batch.num_crops) < WHOLE_SHARE
        num_all = len(self._config.slices)
        kept = [
            num_all if is_whole else min(USUAL_SLICES[quality], num_all)
            for is_whole, quality in zip(is_whole_n.tolist(), quality_n.tolist(), strict=True)
        ]
        return list(zip(torch.stack(frames, dim=1), kept, strict=True))

    @torch.no_grad()
    def _flags(self, networks: TemporalNetworks) -> Iterator[tuple[BoolArray, BoolArray]]:
        """Yield the maps of coded positions of some clips, each with the map before."""
        torch.manual_seed(self._job.seed)
        for batch in self._samples:
            for latents_nmhw, num_slices in self._latents(batch):
                flags = code_clip(networks, latents_nmhw, rule=SkipRule(), num_slices=num_slices).flags
                before = np.zeros_like(flags[0])
                for flags_hw in flags:
                    yield flags_hw, before
                    before = flags_hw
