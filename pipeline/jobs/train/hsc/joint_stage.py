"""Stage `joint`: generator and codecs learn together, against a discriminator, which the paper lacks.

It starts from a codec, of stage `codec` or `autoencoder` or a checkpoint. The inversion encoder stays as it is: what it
finds is not what makes pictures soft, and without it a step takes half the time. First the discriminator learns alone;
then its share of the gradient is faded in. Rates stay what they were.

Letters in shapes: N pictures, R the resolution.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.hsc.training import Coded, code_batch
from framevault.configs.train_hsc import TrainHscJob
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.hsc.adversary import Adversary
from framevault.pipeline.jobs.train.hsc.measure import measure_checkpoint
from framevault.pipeline.jobs.train.hsc.perceptual import make_perceptual
from framevault.pipeline.jobs.train.hsc.picture_losses import PictureLosses, compare_pictures
from framevault.pipeline.jobs.train.hsc.rates import PictureRates, measured_steering
from framevault.pipeline.jobs.train.hsc.squares import random_squares, signed
from framevault.pipeline.jobs.train.hsc.start import make_start
from framevault.pipeline.jobs.train.hsc.trained_parts import TrainedParts, codec_groups, compile_networks
from framevault.pipeline.jobs.train.optimisation import Descent, cosine_rate
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.precision import choose_precision, reduced
from framevault.pipeline.jobs.train.stages import Batch, Row, StageSetup, State, as_mapping

RATE = 3e-4
"""Learning rate of generator and codecs, if none is given."""

SIZED_RATE = 1e-3
"""Of the entropy model, relative to each tensor's size, at that rate."""

BETAS = (0.5, 0.99)
"""AdamW's memories: the adversary moves, so long ones mislead."""

FADE = 0.1
"""Share of the training over which the adversary's gradient grows to its own."""

STEER_START = 0.02
"""Share of the training before rates are steered."""

NUM_PROBE_BATCHES = 2
"""Batches that the start's own rates and distortions are measured on."""


class JointStage:
    """Trains generator, codecs and a discriminator."""

    def __init__(self, setup: StageSetup[TrainHscJob]) -> None:
        """Load the codec.

        Raises:
            CodecError: A file is missing, damaged or another's.
            PreflightError: There is no codec to start from.
        """
        self._job, self._device, self._world = setup.job, setup.device, setup.world
        start = make_start(setup)
        if not start.is_codec:
            raise PreflightError(
                "stage joint starts from a codec: train stage autoencoder or codec before it, or name a checkpoint "
                "(--init)"
            )
        self.starts_from = start.path
        """The checkpoint that it began with."""
        self._parts = TrainedParts(setup, start)
        self._models = self._parts.models
        networks = self._models.networks
        networks.inversion.eval().requires_grad_(False)
        self._config = networks.config
        self._precision = choose_precision(self._job, self._device)
        self._perceptual = make_perceptual(self._job.backbone, precision=self._precision).to(self._device)
        setup.say(f"perceptual loss: features of {self._perceptual.name}")
        self._adversary = Adversary(setup, self._config)
        steering = measured_steering(
            setup,
            self._config,
            samples=setup.draw_samples(self.draw, NUM_PROBE_BATCHES),
            restore=self._bits_and_distortions,
            start=STEER_START,
        )
        self._rates = PictureRates(steering, self._config, self._device)
        rate = self._job.learning_rate or RATE
        self._descent = Descent(
            codec_groups(
                self._models, self._job, rate=rate, sized_rate=SIZED_RATE * rate / RATE, frozen=(networks.inversion,)
            ),
            clip_norm=self._job.clip_norm,
            world=self._world,
            max_bad_steps=self._job.max_bad_steps,
            betas=BETAS,
        )
        if self._job.compile:
            compile_networks(networks)

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        """Take whole pictures."""
        squares_nchw = random_squares(pictures, rng, num_squares=self._job.batch_size, side=self._config.resolution)
        return Batch(views=(squares_nchw,))

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Let the codec learn, once it is its turn, and then the discriminator."""
        rgb_nchw = signed(batch.rgb_nchw, self._device)
        quality_n, slices_n = self._rates.draw(batch.num_crops)
        start = self._job.discriminator_start
        is_alone = progress < start
        with torch.set_grad_enabled(not is_alone):
            coded, restored_nchw = self._restore(rgb_nchw, quality_n, slices_n)
        figures = {"skipped_not_finite": 0.0}
        if not is_alone:
            share = self._job.adversarial_share * min(1.0, (progress - start) / FADE)
            gradient_nchw, figures = self._gradient(restored_nchw, rgb_nchw, quality_n, share=share)
            # What the picture's losses say goes back through the networks once, together with the rate.
            picture_loss = (restored_nchw * gradient_nchw).sum()
            figures |= self._learn(coded, picture_loss, quality_n, slices_n, progress=progress)
        return {**figures, **self._adversary.learn(rgb_nchw, restored_nchw.detach())}

    def state_dict(self) -> State:
        """Return networks, running average, discriminator, optimisers and steering."""
        return {
            "parts": self._parts.state_dict(),
            "adversary": self._adversary.state_dict(),
            "descent": self._descent.state_dict(),
            "steering": self._rates.steering.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave."""
        self._parts.load_state_dict(as_mapping(state["parts"]))
        self._adversary.load_state_dict(as_mapping(state["adversary"]))
        self._descent.load_state_dict(as_mapping(state["descent"]))
        self._rates.steering.load_state_dict(as_mapping(state["steering"]))

    def export(self, path: Path) -> None:
        """Write the running average as a checkpoint that `load_hsc` reads."""
        self._parts.export(path)

    def validate(self, exported: Path, pictures: PictureSet, qualities: Sequence[int]) -> list[Row]:
        """Encode the pictures to real streams and decode them: a row a quality."""
        return [measure_checkpoint(exported, pictures, self._perceptual, quality=quality) for quality in qualities]

    def _restore(self, rgb_nchw: Tensor, quality_n: Tensor, slices_n: Tensor) -> tuple[Coded, Tensor]:
        """Return what is coded, and the pictures restored from it, [N, 3, R, R]."""
        networks = self._models.networks
        with reduced(self._device, self._precision):
            with torch.no_grad():
                styles_nld, feature_nchw = networks.inversion(rgb_nchw)
            coded = code_batch(self._models, styles_nld, feature_nchw, quality_n=quality_n, num_slices_n=slices_n)
            restored_nchw = networks.generator.tail(coded.feature_nchw, coded.colours_nchw, coded.styles_nld).float()
        return coded, restored_nchw

    def _gradient(
        self, restored_nchw: Tensor, rgb_nchw: Tensor, quality_n: Tensor, *, share: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the gradient of all losses of the picture at it, and their figures."""
        leaf_nchw = restored_nchw.detach().requires_grad_()
        losses = self._compare(leaf_nchw, rgb_nchw)
        distortion = (losses.distortion_n * self._rates.loss_factor(quality_n)).mean()
        gradient_nchw, figures = self._adversary.join(leaf_nchw, distortion, share=share)
        return gradient_nchw, {"loss": float(distortion.detach()), **losses.figures(), **figures}

    def _learn(
        self, coded: Coded, picture_loss: Tensor, quality_n: Tensor, slices_n: Tensor, *, progress: float
    ) -> dict[str, float]:
        """Go a step down the losses of picture and rate; returns figures by name."""
        bpp_n = self._rates.bits_per_pixel(coded.symbol_bits_n)
        rate_n = self._rates.weigh(quality_n, core_bits_n=coded.core_bits_n, latent_bits_n=coded.latent_bits_n)
        rate = (rate_n * self._rates.loss_factor(quality_n)).mean()
        descended = self._descent.step(picture_loss + rate, rate=cosine_rate(progress))
        if descended.is_finite:
            self._parts.follow()
        whole_n = self._rates.whole(slices_n)
        self._rates.steering.learn(quality_n[whole_n], bpp_n[whole_n], progress=progress, world=self._world)
        return {
            "gradient": descended.gradient_norm,
            "skipped_not_finite": float(not descended.is_finite),
            "skipped_outlier": float(descended.is_outlier),
            "rate_bpp": float(bpp_n.mean()),
            "core_bytes": float(coded.core_bits_n.detach().mean()) / 8,
            **self._rates.figures(),
        }

    def _compare(self, restored_nchw: Tensor, rgb_nchw: Tensor) -> PictureLosses:
        return compare_pictures(
            restored_nchw, rgb_nchw, perceptual=self._perceptual, perceptual_weight=self._job.perceptual_weight
        )

    def _bits_and_distortions(self, batch: Batch, quality_n: Tensor, slices_n: Tensor) -> tuple[Tensor, Tensor]:
        rgb_nchw = signed(batch.rgb_nchw, self._device)
        coded, restored_nchw = self._restore(rgb_nchw, quality_n, slices_n)
        return coded.symbol_bits_n, self._compare(restored_nchw, rgb_nchw).distortion_n
