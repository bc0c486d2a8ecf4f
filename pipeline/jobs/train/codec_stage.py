"""Stage `codec`: the networks around the entropy coder and its densities, under rate and feature losses.

The recipe is that of the shipped checkpoint: every quality in every batch, each with a rate weight that is steered to
its rate; shallow losses first, deep ones faded in; the running average of the weights is what is exported.

The rate that g_a is trained with puts noise in the place of rounding. To the entropy model, such noise hides that a
latent is surely zero, which is what most of them are. So in the last part of the training g_a and g_s stay as they
are, at their average, and the entropy model learns the bits of the real symbols. (Beside each other it does not work:
an entropy model that is sure of its zeros gives g_a gradients of noise alone. On one camera, rates grew fourfold.)

Letters in shapes: N crops, H and W pixels.
"""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.dicm.checkpoint import export_tensors, read_tensors
from framevault.codecs.dicm.networks import NUM_QUALITIES
from framevault.codecs.dicm.training import Losses, TrainedModels, compute_losses, compute_symbol_bits
from framevault.codecs.dicm.video_checkpoint import export_video
from framevault.codecs.entropy.densities import frequency_tables
from framevault.configs.train import TrainDicmJob
from framevault.pipeline.jobs.train.codec_measure import measure_checkpoint
from framevault.pipeline.jobs.train.codec_recipe import choose_recipe
from framevault.pipeline.jobs.train.codec_start import CodecStart, make_start
from framevault.pipeline.jobs.train.crops import normalised, random_crops
from framevault.pipeline.jobs.train.optimisation import (
    WARM_UP_STEPS,
    Descended,
    Descent,
    ParameterGroup,
    RunningAverage,
    cosine_rate,
    sized_groups,
)
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import Batch, Row, StageSetup, State, as_mapping
from framevault.pipeline.jobs.train.steering import RateSteering, weights_from_slopes

TYPICAL_BPP = (0.06, 0.085, 0.12, 0.17, 0.24, 0.34, 0.48, 0.68)
"""Bits a pixel that qualities 1 to 8 are steered to from random networks: of crops, which have more detail than whole
frames."""

DIVERGENCE_WEIGHT = 0.3
"""Of the classes' divergence, when fully faded in."""

FINISHING_WARM_UP_STEPS = 20
"""The entropy model knows nearly everything when it is left alone."""

NUM_PROBE_BATCHES = 4
"""Batches that a start's own rates and distortions are measured on."""


class CodecStage:
    """Trains all of a codec but its frozen backbone."""

    def __init__(self, setup: StageSetup[TrainDicmJob]) -> None:
        """Load or make the networks, and measure what the data is like.

        Raises:
            CodecError: The start's or the backbone's file is missing, damaged or another's.
        """
        self._job = setup.job
        self._device = setup.device
        self._world = setup.world
        self._recipe = choose_recipe(setup.job)
        self._start: CodecStart = make_start(setup)
        models = self._start.models
        self._parts = nn.ModuleDict({"networks": models.networks, "entropy": models.entropy, "hyper": models.hyper})
        # The same memory order all the way: mixed ones are copied at each layer.
        self._parts.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        samples = setup.draw_samples(self.draw, NUM_PROBE_BATCHES)
        if not self._start.knows_statistics:
            self._measure_statistics(samples)
        self._world.copy_first([self._parts])
        self._steering = self._make_steering(samples)
        self._average = RunningAverage(self._parts, decay=self._job.average_decay)
        self._descent = self._descend([*self._network_groups(), *self._entropy_groups(self._recipe.entropy_rate)])
        finishing_groups = self._entropy_groups(self._recipe.finishing_rate)
        self._finishing_descent = self._descend(finishing_groups, warm_up_steps=FINISHING_WARM_UP_STEPS)
        self._is_finishing = False

    @property
    def starts_from(self) -> Path | None:
        """The checkpoint that it began with, if its features are the same backbone's."""
        return self._start.comparable

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        """Cut random crops."""
        crops_nchw = random_crops(pictures, rng, num_crops=self._job.batch_size, side=self._job.crop)
        return Batch(views=(crops_nchw,))

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from a batch at random qualities."""
        rgb_nchw = normalised(batch.rgb_nchw, self._device)
        quality_n = torch.randint(0, NUM_QUALITIES, (batch.num_crops,)).to(self._device)
        finishing = self._recipe.finishing_share(progress)
        if finishing is not None:
            return self._finish(rgb_nchw, quality_n, share=finishing)
        deep = self._recipe.deep_share(progress)
        losses = self._losses(rgb_nchw, quality_n, is_deep=deep is not None)
        weight_n = self._steering.weights(quality_n) * self._recipe.rate_share(progress)
        # Divided by the root of large weights: else the low qualities would have all of the gradient.
        loss_n = (_distortion(losses, deep or 0.0) + weight_n * losses.rate_bpp) * weight_n.clamp_min(1) ** -0.5
        descended = self._descent.step(loss_n.mean(), rate=self._recipe.learning_factor(progress))
        if descended.is_finite:
            self._average.follow(self._parts)
            self._steering.learn(quality_n, losses.rate_bpp, progress=progress, world=self._world)
        figures = _step_figures(loss_n.mean(), descended)
        return {**figures, **_loss_figures(losses), **self._quality_figures()}

    def state_dict(self) -> State:
        """Return networks, running average, optimisers and steering."""
        return {
            "parts": dict(self._parts.state_dict()),
            "average": self._average.state_dict(),
            "descent": self._descent.state_dict(),
            "finishing_descent": self._finishing_descent.state_dict(),
            "is_finishing": self._is_finishing,
            "steering": self._steering.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave."""
        self._parts.load_state_dict(as_mapping(state["parts"]))
        self._average.load_state_dict(as_mapping(state["average"]))
        self._descent.load_state_dict(as_mapping(state["descent"]))
        self._finishing_descent.load_state_dict(as_mapping(state["finishing_descent"]))
        self._is_finishing = bool(state["is_finishing"])
        self._steering.load_state_dict(as_mapping(state["steering"]))

    def export(self, path: Path) -> None:
        """Write the running average as a checkpoint that `load_dicm` reads."""
        models = _models(copy.deepcopy(self._average.module).cpu())
        hyper_tables, latent_tables = frequency_tables(models.hyper)
        tensors, config = export_tensors(
            models.networks, models.entropy, hyper_tables=hyper_tables, latent_tables=latent_tables
        )
        if (video := self._start.video) is not None:
            _, bitstream, _ = read_tensors(tensors, config)
            tensors |= export_video(
                bitstream, models.networks.config, video.networks, video.flag_table, motion=video.motion
            )
        save_checkpoint(path, tensors, codec="dicm", config=config)

    def validate(self, exported: Path, pictures: PictureSet, qualities: Sequence[int]) -> list[Row]:
        """Encode the pictures to real streams and decode them: a row a quality."""
        return [measure_checkpoint(exported, pictures, self._start.tail, quality=quality) for quality in qualities]

    def _losses(self, rgb_nchw: Tensor, quality_n: Tensor, *, is_deep: bool) -> Losses:
        tail = self._start.tail
        return compute_losses(
            _models(self._parts),
            tail,  # type: ignore[arg-type]  # runs as a Tail does
            rgb_nchw=rgb_nchw,
            quality_n=quality_n,
            num_stages=tail.num_stages if is_deep else min(1, tail.num_stages),
        )

    def _finish(self, rgb_nchw: Tensor, quality_n: Tensor, *, share: float) -> dict[str, float]:
        """Let the entropy model alone learn the bits of real symbols, of the networks that will be exported."""
        if not self._is_finishing:
            self._parts.load_state_dict(self._average.module.state_dict())
            self._is_finishing = True
        models = _models(self._parts)
        with torch.no_grad():
            y_nchw = models.networks.analyse(models.networks.head(rgb_nchw), quality_n)
        bpp_n = compute_symbol_bits(models, y_nchw) / (rgb_nchw.shape[2] * rgb_nchw.shape[3])
        # Relative to what each quality takes, or the high ones would have all of the gradient.
        loss = (bpp_n / self._steering.rates_q.to(bpp_n)[quality_n]).mean()
        descended = self._finishing_descent.step(loss, rate=cosine_rate(share))
        if descended.is_finite:
            self._average.follow(self._parts)
        figures = _step_figures(loss, descended)
        # Not the other losses' sum: a name of its own.
        figures["finishing_loss"] = figures.pop("loss")
        return {**figures, "symbols_bpp": float(bpp_n.detach().mean())}

    @torch.no_grad()
    def _measure_statistics(self, batches: Sequence[Batch]) -> None:
        """Set the mean and standard deviation of each of the features' channels."""
        networks = _models(self._parts).networks
        features_nchw = torch.cat([networks.head(normalised(batch.rgb_nchw, self._device)) for batch in batches])
        networks.feature_mean.copy_(features_nchw.mean(dim=(0, 2, 3)))
        # A channel that is always the same is left as it is: there is nothing to divide by.
        std_c = features_nchw.std(dim=(0, 2, 3))
        networks.feature_std.copy_(torch.where(std_c > 0, std_c, 1.0))

    def _make_steering(self, samples: Sequence[Batch]) -> RateSteering:
        job, start = self._job, self._recipe.steer_start
        if job.from_scratch:
            weights = [1.0] * NUM_QUALITIES
            return RateSteering(job.target_bpp or TYPICAL_BPP, weights, gain=job.steer_gain, start=start)
        rates, distortions = zip(*self._measure_start(samples), strict=True)
        weights = weights_from_slopes(rates, distortions)
        return RateSteering(job.target_bpp or rates, weights, gain=job.steer_gain, start=start)

    @torch.no_grad()
    def _measure_start(self, batches: Sequence[Batch]) -> Iterator[tuple[float, float]]:
        """Yield the start's own rate and distortion at each quality."""
        torch.manual_seed(self._job.seed)
        for quality in range(NUM_QUALITIES):
            rate = distortion = 0.0
            for batch in batches:
                quality_n = torch.full((batch.num_crops,), quality, device=self._device)
                losses = self._losses(normalised(batch.rgb_nchw, self._device), quality_n, is_deep=True)
                rate += float(losses.rate_bpp.mean()) / len(batches)
                distortion += float(_distortion(losses, 1.0).mean()) / len(batches)
            yield rate, distortion

    def _network_groups(self) -> list[ParameterGroup]:
        """Return g_a and g_s, and the gains, which learn faster."""
        networks, rate = _models(self._parts).networks, self._recipe.learning_rate
        gains = (networks.log_gain, networks.log_inverse_gain)
        rest = (*networks.g_a.parameters(), *networks.g_s.parameters())
        return [
            ParameterGroup(parameters=rest, learning_rate=rate, weight_decay=self._job.weight_decay),
            ParameterGroup(parameters=gains, learning_rate=rate * self._job.gain_rate_factor),
        ]

    def _entropy_groups(self, sized_rate: float | None) -> list[ParameterGroup]:
        """Return h_a, the density of z, and the entropy model, whose rate goes with its tensors' sizes if given."""
        models, rate = _models(self._parts), self._recipe.learning_rate
        densities = tuple(p for p in models.hyper.parameters() if p.requires_grad)
        plain = [ParameterGroup(parameters=tuple(models.entropy.parameters()), learning_rate=rate)]
        return [
            ParameterGroup(parameters=tuple(models.networks.h_a.parameters()), learning_rate=rate),
            ParameterGroup(parameters=densities, learning_rate=rate * self._job.gain_rate_factor),
            *(plain if sized_rate is None else sized_groups(models.entropy, rate=sized_rate)),
        ]

    def _descend(self, groups: list[ParameterGroup], *, warm_up_steps: int = WARM_UP_STEPS) -> Descent:
        job = self._job
        return Descent(
            groups,
            clip_norm=job.clip_norm,
            world=self._world,
            max_bad_steps=job.max_bad_steps,
            warm_up_steps=warm_up_steps,
        )

    def _quality_figures(self) -> dict[str, float]:
        rates = {f"rate_q{q + 1}": float(rate) for q, rate in enumerate(self._steering.rates_q.tolist())}
        return rates | {f"weight_q{q + 1}": weight for q, weight in enumerate(self._steering.weights_q)}


def _models(parts: nn.Module) -> TrainedModels:
    assert isinstance(parts, nn.ModuleDict)
    return TrainedModels(networks=parts["networks"], entropy=parts["entropy"], hyper=parts["hyper"])  # type: ignore[arg-type]  # a ModuleDict forgets its modules' types


def _distortion(losses: Losses, deep: float) -> Tensor:
    """Return each crop's distortion, [N], with the deep losses at a share of their weight."""
    if not losses.stages:
        return losses.features
    return losses.distortion(deep_weight=deep, divergence_weight=DIVERGENCE_WEIGHT * deep)


def _step_figures(loss: Tensor, descended: Descended) -> dict[str, float]:
    """Return what came of one step, by name."""
    return {
        "loss": float(loss.detach()),
        "gradient": descended.gradient_norm,
        "skipped_not_finite": float(not descended.is_finite),
        "skipped_outlier": float(descended.is_outlier),
    }


def _loss_figures(losses: Losses) -> dict[str, float]:
    """Return a batch's means by name."""
    figures = {"rate_bpp": losses.rate_bpp, "features": losses.features}
    figures |= {f"stage{number + 1}": stage for number, stage in enumerate(losses.stages)}
    if losses.divergence is not None:
        figures["divergence"] = losses.divergence
    return {name: float(value.detach().mean()) for name, value in figures.items()}
