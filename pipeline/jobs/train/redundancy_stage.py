"""Stage `re`: redundancy elimination learns by itself to give the features back at few bits.

The paper's warm-up: rate + 128 L1(f1, f2), on the frozen head, or on what stage `pretrain` made of head and RE.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.dicm.redundancy import (
    REDUNDANCY_ROWS,
    RedundancyElimination,
    RedundancyLosses,
    eliminate_redundancy,
)
from framevault.configs.train import TrainDicmJob
from framevault.pipeline.jobs.train.backbone_parts import PARTS_CODEC, load_parts, read_parts
from framevault.pipeline.jobs.train.codec_start import make_density
from framevault.pipeline.jobs.train.crops import normalised, random_crops
from framevault.pipeline.jobs.train.frozen_backbone import make_backbone
from framevault.pipeline.jobs.train.optimisation import Descent, ParameterGroup, RunningAverage, cosine_rate
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import Batch, Row, StageSetup, State

RATE = 5e-4
"""Learning rate, if none is given."""


class RedundancyStage:
    """Trains RE and the density of its bottleneck."""

    starts_from: Path | None = None
    """Nothing to compare with."""

    def __init__(self, setup: StageSetup[TrainDicmJob]) -> None:
        """Build RE, with what stage `pretrain` learnt if it ran before.

        Raises:
            CodecError: A file is missing, damaged or another's.
        """
        self._job = setup.job
        self._device = setup.device
        self._head = make_backbone(setup).head.to(self._device)
        config = REDUNDANCY_ROWS[self._job.architecture]
        self._parts = nn.ModuleDict(
            {"redundancy": RedundancyElimination(config), "density": make_density(config.widths[-1])}
        )
        if "pretrain" in setup.earlier:
            tensors = read_parts(setup.earlier["pretrain"])
            for name, part in self._parts.items():
                load_parts(part, name, tensors)
        self._parts.to(self._device)
        setup.world.copy_first([self._parts])
        self._average = RunningAverage(self._parts, decay=self._job.average_decay)
        self._descent = Descent(
            [
                ParameterGroup(
                    parameters=tuple(p for p in self._parts.parameters() if p.requires_grad),
                    learning_rate=self._job.learning_rate or RATE,
                )
            ],
            clip_norm=self._job.clip_norm,
            world=setup.world,
            max_bad_steps=self._job.max_bad_steps,
        )

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        """Cut random crops."""
        return Batch(views=(random_crops(pictures, rng, num_crops=self._job.batch_size, side=self._job.crop),))

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from a batch."""
        losses = self._losses(batch)
        loss = losses.total().mean()
        descended = self._descent.step(loss, rate=cosine_rate(progress))
        if descended.is_finite:
            self._average.follow(self._parts)
        return {
            "loss": float(loss.detach()),
            "gradient": descended.gradient_norm,
            "skipped_not_finite": float(not descended.is_finite),
            "rate_bpp": float(losses.rate_bpp.detach().mean()),
            "features": float(losses.features.detach().mean()),
        }

    def state_dict(self) -> State:
        """Return networks, running average and optimiser."""
        return {
            "parts": dict(self._parts.state_dict()),
            "average": self._average.state_dict(),
            "descent": self._descent.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave."""
        parts, average, descent = state["parts"], state["average"], state["descent"]
        assert isinstance(parts, dict)
        assert isinstance(average, dict)
        assert isinstance(descent, dict)
        self._parts.load_state_dict(parts)
        self._average.load_state_dict(average)
        self._descent.load_state_dict(descent)

    def export(self, path: Path) -> None:
        """Write the running average of RE and its density."""
        save_checkpoint(path, dict(self._average.module.state_dict()), codec=PARTS_CODEC, config={})

    def validate(self, exported: Path, pictures: PictureSet, qualities: Sequence[int]) -> list[Row]:
        """Measure nothing: RE has no bitstream of its own."""
        return []

    def _losses(self, batch: Batch) -> RedundancyLosses:
        rgb_nchw = normalised(batch.rgb_nchw, self._device)
        with torch.no_grad():
            features_nchw = self._head(rgb_nchw)
        redundancy, density = self._parts["redundancy"], self._parts["density"]
        assert isinstance(redundancy, RedundancyElimination)
        _, losses = eliminate_redundancy(
            redundancy,
            density.train(),
            features_nchw=features_nchw,
            num_pixels=rgb_nchw.shape[2] * rgb_nchw.shape[3],
        )
        return losses
