"""Stage `inversion`: the encoder learns to find styles and feature of a picture in front of a frozen generator.

The paper's losses (Li et al., HSC, arXiv 2502.16799, stage 1): squared error 1, perceptual 0.2, identity 0.1, feature
0.01; half of the pictures are the generator's own, whose feature is known. We differ in the networks behind two of
them: both losses read MobileNetV2's features (`perceptual.py`), under names of their own.

Letters in shapes: N pictures, L styles of D values, C channels of the feature, s its side.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.hsc.networks import HscNetworks
from framevault.configs.train_hsc import TrainHscJob
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.hsc.perceptual import Levels, feature_distance, make_perceptual, unlikeness
from framevault.pipeline.jobs.train.hsc.squares import random_squares, signed
from framevault.pipeline.jobs.train.hsc.start import export_parts, make_mapping, make_start
from framevault.pipeline.jobs.train.optimisation import Descent, ParameterGroup, RunningAverage, cosine_rate
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.precision import choose_precision, reduced
from framevault.pipeline.jobs.train.stages import Batch, Row, StageSetup, State, as_mapping

SQUARED_WEIGHT, PERCEPTUAL_WEIGHT, UNLIKENESS_WEIGHT, FEATURE_WEIGHT = 1.0, 0.2, 0.1, 0.01
"""The paper's."""

RATE = 5e-4
"""Learning rate, if none is given."""


class InversionStage:
    """Trains the inversion encoder."""

    starts_from: Path | None = None
    """Nothing to compare with: there is no bitstream yet."""

    def __init__(self, setup: StageSetup[TrainHscJob]) -> None:
        """Load the generator.

        Raises:
            CodecError: A file is missing, damaged or another's.
            PreflightError: There is no trained generator.
        """
        self._job, self._device = setup.job, setup.device
        start = make_start(setup)
        if not start.has_generator:
            raise PreflightError(
                "stage inversion needs a trained generator: name one (--generator), train stage generator before it, "
                "or train stage autoencoder instead"
            )
        self._networks: HscNetworks = start.models.networks
        self._networks.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        self._networks.generator.eval().requires_grad_(False)
        self._config = self._networks.config
        self._others = start.others
        self._mapping = make_mapping(start.others)
        if self._mapping is None:
            setup.say("stage inversion: real pictures alone, since the generator came without its mapping network")
        else:
            self._mapping.to(self._device)
        setup.world.copy_first([self._networks])
        self._average = RunningAverage(self._networks.inversion, decay=self._job.average_decay)
        self._precision = choose_precision(self._job, self._device)
        self._perceptual = make_perceptual(self._job.backbone, precision=self._precision).to(self._device)
        setup.say(f"perceptual loss and likeness: features of {self._perceptual.name}")
        self._descent = Descent(
            [
                ParameterGroup(
                    parameters=tuple(self._networks.inversion.parameters()),
                    learning_rate=self._job.learning_rate or RATE,
                    weight_decay=self._job.weight_decay,
                )
            ],
            clip_norm=self._job.clip_norm,
            world=setup.world,
            max_bad_steps=self._job.max_bad_steps,
        )

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        """Take whole pictures; the generator makes the other half."""
        num_real = self._job.batch_size if self._mapping is None else (self._job.batch_size + 1) // 2
        squares_nchw = random_squares(pictures, rng, num_squares=num_real, side=self._config.resolution)
        return Batch(views=(squares_nchw,))

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from real and generated pictures."""
        rgb_nchw, known_nchw = self._add_generated(signed(batch.rgb_nchw, self._device))
        restored_nchw, feature_nchw, own_nchw = self._restore(rgb_nchw)
        # What the feature should be: of generated pictures it is known, of real ones the generator's own is near it.
        num_real = batch.num_crops
        target_nchw = torch.cat([own_nchw[:num_real], known_nchw.to(own_nchw)])
        with torch.no_grad():
            target: Levels = self._perceptual(rgb_nchw, is_deep=True)
        found: Levels = self._perceptual(restored_nchw, is_deep=True)
        terms = {
            "squared": (SQUARED_WEIGHT, (restored_nchw - rgb_nchw).square().mean()),
            "perceptual": (PERCEPTUAL_WEIGHT, feature_distance(found, target).mean()),
            "unlikeness": (UNLIKENESS_WEIGHT, unlikeness(found, target).mean()),
            "feature": (
                FEATURE_WEIGHT,
                (feature_nchw - target_nchw).square().mean() / target_nchw.detach().var(),
            ),
        }
        loss = torch.stack([weight * term for weight, term in terms.values()]).sum()
        descended = self._descent.step(loss, rate=cosine_rate(progress))
        if descended.is_finite:
            self._average.follow(self._networks.inversion)
        return {
            "loss": float(loss.detach()),
            "gradient": descended.gradient_norm,
            "skipped_not_finite": float(not descended.is_finite),
            "skipped_outlier": float(descended.is_outlier),
            **{name: float(term.detach()) for name, (_, term) in terms.items()},
        }

    def state_dict(self) -> State:
        """Return encoder, running average and optimiser."""
        return {
            "inversion": dict(self._networks.inversion.state_dict()),
            "average": self._average.state_dict(),
            "descent": self._descent.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave."""
        self._networks.inversion.load_state_dict(as_mapping(state["inversion"]))
        self._average.load_state_dict(as_mapping(state["average"]))
        self._descent.load_state_dict(as_mapping(state["descent"]))

    def export(self, path: Path) -> None:
        """Write the encoder's running average beside the generator."""
        networks = copy.deepcopy(self._networks).cpu()
        networks.inversion.load_state_dict(self._average.module.state_dict())
        export_parts(path, networks, self._others)

    def validate(self, exported: Path, pictures: PictureSet, qualities: Sequence[int]) -> list[Row]:
        """Measure nothing: it has no bitstream."""
        return []

    @torch.no_grad()
    def _add_generated(self, real_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return real pictures and then generated ones, and the features of the latter."""
        num_generated = 0 if self._mapping is None else self._job.batch_size - len(real_nchw)
        if self._mapping is None or num_generated == 0:
            side, channels = self._config.split, self._config.split_channels
            return real_nchw, real_nchw.new_zeros(0, channels, side, side)
        generator = self._networks.generator
        z_nz = torch.randn(num_generated, self._mapping.width).to(self._device)
        styles_nld = self._mapping.styles(z_nz, num_styles=self._config.num_styles)
        with reduced(self._device, self._precision):
            own_nchw, colours_nchw = generator.lower(styles_nld)
            # Real pictures are within -1..1, so the generated ones are, too.
            made_nchw = generator.tail(own_nchw, colours_nchw, styles_nld).float().clamp(-1, 1)
        both_nchw = torch.cat([real_nchw, made_nchw]).contiguous(memory_format=torch.channels_last)
        return both_nchw, own_nchw.float()

    def _restore(self, rgb_nchw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pictures of the styles and features that are found, these features, and F(S); float32."""
        generator = self._networks.generator
        with reduced(self._device, self._precision):
            styles_nld, feature_nchw = self._networks.inversion(rgb_nchw)
            own_nchw, colours_nchw = generator.lower(styles_nld)
            restored_nchw = generator.tail(feature_nchw, colours_nchw, styles_nld)
        return restored_nchw.float(), feature_nchw.float(), own_nchw.float()
