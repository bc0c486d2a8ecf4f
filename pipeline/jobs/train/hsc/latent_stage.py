"""Stage `codec`: style and feature codec behind frozen encoder and generator, on cached styles and features.

The paper's stage 2 (Li et al., HSC, arXiv 2502.16799): rate and squared error in the latent domain, so no picture is
made. Three things differ. Errors are over the variances of S and f; the weight that the paper sets by hand (its lambda)
is the inverse of each quality's rate weight, which is steered to the bytes that were asked for. And the feature codec
learns beside S^, what the decoder has, where the published code trains it beside S.

Letters in shapes: N pictures, L styles of D values, C channels of the feature, s its side.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.hsc.training import Coded, code_batch
from framevault.configs.train_hsc import TrainHscJob
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.hsc.latent_cache import find_latents
from framevault.pipeline.jobs.train.hsc.measure import measure_checkpoint
from framevault.pipeline.jobs.train.hsc.perceptual import make_perceptual
from framevault.pipeline.jobs.train.hsc.rates import PictureRates, fresh_steering, measured_steering
from framevault.pipeline.jobs.train.hsc.start import HscStart, make_start
from framevault.pipeline.jobs.train.hsc.trained_parts import TrainedParts, codec_groups
from framevault.pipeline.jobs.train.optimisation import Descent, cosine_rate
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.precision import choose_precision, reduced
from framevault.pipeline.jobs.train.stages import Batch, Row, StageSetup, State, as_mapping
from framevault.pipeline.jobs.train.steering import RateSteering

RATE, SIZED_RATE = 8e-4, 3e-3
"""Learning rates if none is given: of the codecs, and of the entropy model relative to each tensor's size."""

STYLES_WEIGHT = 0.5
"""Of the styles' error beside the feature's."""

FIRST_RAMP, RAMP = 0.1, 0.3
"""Share of their weights that rates begin with, and of the training over which a whole weight is added to that."""

STEER_START = 0.12
"""Share of the training before rates are steered."""

NUM_PROBE_BATCHES = 4
"""Batches that a start's own rates and errors are measured on."""


class LatentStage:
    """Trains both codecs and the entropy model."""

    def __init__(self, setup: StageSetup[TrainHscJob]) -> None:
        """Load encoder and generator, and find the training pictures' styles and features.

        Raises:
            CodecError: A file is missing, damaged or another's.
            PreflightError: There is no trained encoder and generator.
        """
        self._job, self._device, self._world = setup.job, setup.device, setup.world
        start = make_start(setup)
        if not start.has_inversion:
            raise PreflightError(
                "stage codec needs a trained inversion encoder and generator: train stage inversion before it, name "
                "what that exported (--init), or train stage autoencoder instead"
            )
        self._is_tuning = start.is_codec
        self.starts_from = start.path
        """The checkpoint that it began with."""
        self._parts = TrainedParts(setup, start)
        self._models = self._parts.models
        networks = self._models.networks
        frozen = (networks.inversion, networks.generator)
        for module in frozen:
            module.eval().requires_grad_(False)
        self._config = networks.config
        self._precision = choose_precision(self._job, self._device)
        self._perceptual = make_perceptual(self._job.backbone, precision=self._precision).to(self._device)
        self._cache = find_latents(
            networks,
            setup.pictures,
            device=self._device,
            precision=self._precision,
            room_bytes=self._job.cache_bytes,
        )
        setup.say(f"styles and features of {len(self._cache)} pictures, half of them mirrored")
        self._rates = PictureRates(self._make_steering(setup, start), self._config, self._device)
        rate = self._job.learning_rate or RATE
        self._descent = Descent(
            codec_groups(self._models, self._job, rate=rate, sized_rate=SIZED_RATE * rate / RATE, frozen=frozen),
            clip_norm=self._job.clip_norm,
            world=self._world,
            max_bad_steps=self._job.max_bad_steps,
        )

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        """Take styles and features from the cache."""
        return Batch(views=self._cache.draw(rng, num_pictures=self._job.batch_size))

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from a batch at random qualities and numbers of slices."""
        quality_n, slices_n = self._rates.draw(batch.num_crops)
        coded, errors = self._code(batch, quality_n, slices_n)
        bpp_n = self._rates.bits_per_pixel(coded.symbol_bits_n)
        estimate_n = self._rates.bits_per_pixel(coded.core_bits_n + coded.latent_bits_n)
        ramp = 1.0 if self._is_tuning else min(1.0, FIRST_RAMP + progress / RAMP)
        weight_n = self._rates.steering.weights(quality_n) * ramp
        loss = ((_distortion(errors) + weight_n * estimate_n) * self._rates.loss_factor(quality_n)).mean()
        descended = self._descent.step(loss, rate=cosine_rate(progress))
        if descended.is_finite:
            self._parts.follow()
        whole_n = self._rates.whole(slices_n)
        self._rates.steering.learn(quality_n[whole_n], bpp_n[whole_n], progress=progress, world=self._world)
        return {
            "loss": float(loss.detach()),
            "gradient": descended.gradient_norm,
            "skipped_not_finite": float(not descended.is_finite),
            "skipped_outlier": float(descended.is_outlier),
            "rate_bpp": float(bpp_n.mean()),
            "core_bytes": float(coded.core_bits_n.detach().mean()) / 8,
            "styles": float(errors[0].detach().mean()),
            "feature": float(errors[1].detach().mean()),
            **self._rates.figures(),
        }

    def state_dict(self) -> State:
        """Return networks, running average, optimiser and steering."""
        return {
            "parts": self._parts.state_dict(),
            "descent": self._descent.state_dict(),
            "steering": self._rates.steering.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave."""
        self._parts.load_state_dict(as_mapping(state["parts"]))
        self._descent.load_state_dict(as_mapping(state["descent"]))
        self._rates.steering.load_state_dict(as_mapping(state["steering"]))

    def export(self, path: Path) -> None:
        """Write the running average as a checkpoint that `load_hsc` reads."""
        self._parts.export(path)

    def validate(self, exported: Path, pictures: PictureSet, qualities: Sequence[int]) -> list[Row]:
        """Encode the pictures to real streams and decode them: a row a quality."""
        return [measure_checkpoint(exported, pictures, self._perceptual, quality=quality) for quality in qualities]

    def _code(self, batch: Batch, quality_n: Tensor, slices_n: Tensor) -> tuple[Coded, tuple[Tensor, Tensor]]:
        """Return what is coded, and each picture's errors of styles and feature over their variances, [N]."""
        styles_nld, feature_nchw = (view.to(self._device) for view in batch.views)
        feature_nchw = feature_nchw.contiguous(memory_format=torch.channels_last)
        with reduced(self._device, self._precision):
            coded = code_batch(self._models, styles_nld, feature_nchw, quality_n=quality_n, num_slices_n=slices_n)
        styles_n = (coded.styles_nld - styles_nld).square().mean(dim=(1, 2)) / self._cache.styles_variance
        error_nchw = (coded.feature_nchw.float() - feature_nchw).square()
        return coded, (styles_n, error_nchw.mean(dim=(1, 2, 3)) / self._cache.features_variance)

    def _make_steering(self, setup: StageSetup[TrainHscJob], start: HscStart) -> RateSteering:
        if not start.is_codec:
            return fresh_steering(self._job, self._config, start=STEER_START)
        return measured_steering(
            setup,
            self._config,
            samples=setup.draw_samples(self.draw, NUM_PROBE_BATCHES),
            restore=self._bits_and_distortions,
            start=STEER_START,
        )

    def _bits_and_distortions(self, batch: Batch, quality_n: Tensor, slices_n: Tensor) -> tuple[Tensor, Tensor]:
        coded, errors = self._code(batch, quality_n, slices_n)
        return coded.symbol_bits_n, _distortion(errors)


def _distortion(errors: tuple[Tensor, Tensor]) -> Tensor:
    """Return each picture's error of styles and feature together, [N]."""
    styles_n, feature_n = errors
    return STYLES_WEIGHT * styles_n + feature_n
