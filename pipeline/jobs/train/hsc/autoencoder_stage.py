"""Stage `autoencoder`: inversion encoder, codecs and generator together, from pictures alone.

Where no generator is given, this takes the place of the paper's three stages: an auto-encoder of the same structure,
under rate and picture losses. Slices are left out at random, so every prefix of a stream restores a picture.

Letters in shapes: N pictures, R the resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from framevault.codecs.hsc.training import LOWEST_TEACHING, NONE_TEACHES, Restored, restore_batch
from framevault.configs.train_hsc import TrainHscJob
from framevault.pipeline.jobs.train.hsc.measure import measure_checkpoint
from framevault.pipeline.jobs.train.hsc.perceptual import make_perceptual
from framevault.pipeline.jobs.train.hsc.picture_losses import PictureLosses, compare_pictures
from framevault.pipeline.jobs.train.hsc.rates import PictureRates, fresh_steering, measured_steering
from framevault.pipeline.jobs.train.hsc.revival import revive_channels
from framevault.pipeline.jobs.train.hsc.squares import random_squares, signed
from framevault.pipeline.jobs.train.hsc.start import HscStart, make_start
from framevault.pipeline.jobs.train.hsc.trained_parts import TrainedParts, codec_groups, compile_networks
from framevault.pipeline.jobs.train.optimisation import Descent, cosine_rate
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.precision import choose_precision, reduced
from framevault.pipeline.jobs.train.stages import Batch, Row, StageSetup, State, as_mapping
from framevault.pipeline.jobs.train.steering import RateSteering

STYLES_WEIGHT, GAP_WEIGHT = 0.02, 0.003
"""Of the decoded styles' error, and of what f^ differs from the generator's own feature: small ones, so that both stay
near each other where the picture does not care."""

BETAS = (0.9, 0.99)
"""AdamW's memories: rates that are steered move the losses."""

NUM_PROBE_BATCHES = 2
"""Batches that a start's own rates and distortions are measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderRecipe:
    """What depends on whether the networks know anything."""

    learning_rate: float
    """Of the float networks."""
    sized_rate: float
    """Of the entropy model, relative to each tensor's size."""
    first_ramp: float
    """Share of their weights that rates begin with."""
    ramp: float
    """Share of the training over which a whole weight is added to that."""
    steer_start: float
    """Share before steering, after the free one: the first rates of random networks say nothing."""
    free_share: float
    """Share at the beginning in which bits move nothing but the entropy model; see `TrainHscJob.free_share`."""

    def is_free(self, progress: float) -> bool:
        """Say whether channels are still to be found."""
        return progress < self.free_share

    def rate_share(self, progress: float) -> float:
        """Return the factor of the rates' weights, 0..1."""
        return min(1.0, self.first_ramp + max(0.0, progress - self.free_share) / self.ramp)


SCRATCH = AutoencoderRecipe(
    learning_rate=1e-3, sized_rate=3e-3, first_ramp=0.1, ramp=0.3, steer_start=0.12, free_share=0.25
)
"""From random networks."""

REVIVAL = AutoencoderRecipe(
    learning_rate=6e-4, sized_rate=2e-3, first_ramp=0.05, ramp=0.35, steer_start=0.05, free_share=0.25
)
"""From a checkpoint's, whose silent channels begin anew."""

TUNING = AutoencoderRecipe(
    learning_rate=3e-4, sized_rate=1e-3, first_ramp=1.0, ramp=1.0, steer_start=0.02, free_share=0.0
)
"""From a checkpoint's."""

NUM_REVIVAL_BATCHES = 16
"""Batches in which silent channels are looked for, and what they could say."""


class AutoencoderStage:
    """Trains everything."""

    def __init__(self, setup: StageSetup[TrainHscJob]) -> None:
        """Load or make the networks.

        Raises:
            CodecError: A file is missing, damaged or another's.
            PreflightError: There is nothing to start from.
        """
        self._job, self._device, self._world = setup.job, setup.device, setup.world
        start: HscStart = make_start(setup)
        self._parts = TrainedParts(setup, start)
        self._models = self._parts.models
        self._config = self._models.networks.config
        self._recipe = self._choose_recipe(setup, start)
        self._precision = choose_precision(self._job, self._device)
        self._perceptual = make_perceptual(self._job.backbone, precision=self._precision).to(self._device)
        setup.say(f"perceptual loss: features of {self._perceptual.name}")
        self.starts_from = start.path
        """The checkpoint that it began with."""
        self._rates = PictureRates(self._make_steering(setup, is_codec=start.is_codec), self._config, self._device)
        rate = self._job.learning_rate or self._recipe.learning_rate
        sized_rate = self._recipe.sized_rate * rate / self._recipe.learning_rate
        self._descent = Descent(
            codec_groups(self._models, self._job, rate=rate, sized_rate=sized_rate),
            clip_norm=self._job.clip_norm,
            world=self._world,
            max_bad_steps=self._job.max_bad_steps,
            betas=BETAS,
        )
        if self._job.compile:
            compile_networks(self._models.networks)

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        """Take whole pictures."""
        squares_nchw = random_squares(pictures, rng, num_squares=self._job.batch_size, side=self._config.resolution)
        return Batch(views=(squares_nchw,))

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from a batch at random qualities and numbers of slices."""
        rgb_nchw = signed(batch.rgb_nchw, self._device)
        quality_n, slices_n = self._rates.draw(batch.num_crops)
        is_free = self._recipe.is_free(progress)
        self._let_gains_learn(not is_free)
        restored, losses = self._restore(
            rgb_nchw, quality_n, slices_n, lowest_teaching=NONE_TEACHES if is_free else LOWEST_TEACHING
        )
        bpp_n = self._rates.bits_per_pixel(restored.symbol_bits_n)
        rate_n = self._recipe.rate_share(progress) * self._rates.weigh(
            quality_n, core_bits_n=restored.core_bits_n, latent_bits_n=restored.latent_bits_n
        )
        loss = ((losses.distortion_n + rate_n) * self._rates.loss_factor(quality_n)).mean()
        loss = loss + STYLES_WEIGHT * restored.styles_error + GAP_WEIGHT * restored.feature_gap
        descended = self._descent.step(loss, rate=cosine_rate(progress))
        whole_n = self._rates.whole(slices_n)
        if descended.is_finite:
            self._parts.follow()
        self._rates.steering.learn(quality_n[whole_n], bpp_n[whole_n], progress=progress, world=self._world)
        return {
            "loss": float(loss.detach()),
            "gradient": descended.gradient_norm,
            "skipped_not_finite": float(not descended.is_finite),
            "skipped_outlier": float(descended.is_outlier),
            "rate_bpp": float(bpp_n.mean()),
            "core_bytes": float(restored.core_bits_n.detach().mean()) / 8,
            **losses.figures(),
            "styles": float(restored.styles_error.detach()),
            "gap": float(restored.feature_gap.detach()),
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

    def _choose_recipe(self, setup: StageSetup[TrainHscJob], start: HscStart) -> AutoencoderRecipe:
        """Return what suits the start, after its silent channels were revived if that was asked for."""
        recipe = TUNING if start.is_codec else SCRATCH
        if start.is_codec and self._job.revive:
            samples = setup.draw_samples(self.draw, NUM_REVIVAL_BATCHES)
            num_silent = revive_channels(self._models, [signed(each.rgb_nchw, self._device) for each in samples])
            setup.say(f"{num_silent} of {self._config.latent} latent channels were silent, and begin anew")
            recipe = REVIVAL
        chosen = self._job.free_share
        return recipe if chosen is None else replace(recipe, free_share=chosen)

    def _let_gains_learn(self, wanted: bool) -> None:
        """Hold the gains while bits don't count: they could only grow."""
        codec = self._models.networks.feature_codec
        codec.log_gain.requires_grad_(wanted)
        codec.log_inverse_gain.requires_grad_(wanted)

    def _restore(
        self, rgb_nchw: Tensor, quality_n: Tensor, slices_n: Tensor, *, lowest_teaching: int
    ) -> tuple[Restored, PictureLosses]:
        with reduced(self._device, self._precision):
            restored = restore_batch(
                self._models,
                rgb_nchw,
                quality_n=quality_n,
                num_slices_n=slices_n,
                lowest_teaching=lowest_teaching,
            )
        losses = compare_pictures(
            restored.rgb_nchw, rgb_nchw, perceptual=self._perceptual, perceptual_weight=self._job.perceptual_weight
        )
        return restored, losses

    def _make_steering(self, setup: StageSetup[TrainHscJob], *, is_codec: bool) -> RateSteering:
        start = self._recipe.free_share + self._recipe.steer_start
        if not is_codec or self._job.revive:
            # What silent channels would have cost says nothing of what living ones will.
            return fresh_steering(self._job, self._config, start=start)
        return measured_steering(
            setup,
            self._config,
            samples=setup.draw_samples(self.draw, NUM_PROBE_BATCHES),
            restore=self._bits_and_distortions,
            start=start,
        )

    def _bits_and_distortions(self, batch: Batch, quality_n: Tensor, slices_n: Tensor) -> tuple[Tensor, Tensor]:
        rgb_nchw = signed(batch.rgb_nchw, self._device)
        restored, losses = self._restore(rgb_nchw, quality_n, slices_n, lowest_teaching=LOWEST_TEACHING)
        return restored.symbol_bits_n, losses.distortion_n
