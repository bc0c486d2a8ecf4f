"""Which quality and how many slices each picture of a step is restored from, and what its bits weigh.

Every prefix of a stream must give a picture, so slices are left out at random. Letters in shapes: N pictures.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.networks import NUM_QUALITIES
from framevault.configs.train_hsc import TrainHscJob
from framevault.pipeline.jobs.train.stages import Batch, StageSetup
from framevault.pipeline.jobs.train.steering import RateSteering, weights_from_slopes

TYPICAL_BYTES = (60.0, 90.0, 130.0, 190.0, 270.0, 380.0, 540.0, 760.0)
"""Bytes a picture that qualities 1 to 8 are steered to from random networks, with a latent of 64 channels at 8x8."""

TYPICAL_LATENTS = 64 * 8 * 8
"""Latents that these are for; others get bytes in proportion."""

FIRST_WEIGHTS = (10.0, 0.4)
"""Weights of a bit a pixel at qualities 1 and 8 where training from random networks begins; even steps between."""

CORE_SHARE, PREFIX_SHARE = 0.12, 0.28
"""So many pictures are restored from core symbols alone, and so many from some of the slices; the others from all."""

HEAVY_WEIGHT = 4.0
"""Weights above are divided by a root of what is more: else low qualities would have all of the gradient."""

HEAVY_POWER = 0.25
"""Which root."""

HEAVIEST_CORE = 1.0
"""Weight of a bit a pixel of core symbols, at most. They are some 14 bytes at every quality, and all that search, edits
and the shortest prefix have: under the weights of low qualities they fell to 5 bytes within 1,000 steps."""

Restore = Callable[[Batch, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes a batch, qualities and numbers of slices; gives bits and distortions, [N] each."""


class PictureRates:
    """Draws rates for the pictures of a step, and steers the qualities."""

    def __init__(self, steering: RateSteering, config: HscConfig, device: torch.device) -> None:
        """Take the steering of bits a pixel."""
        self.steering = steering
        """Of full streams."""
        self._num_slices = len(config.slices)
        self._num_pixels = config.resolution**2
        self._device = device

    def draw(self, num_pictures: int) -> tuple[Tensor, Tensor]:
        """Return a quality, from 0, and a number of slices for each picture, [N] each."""
        quality_n = torch.randint(0, NUM_QUALITIES, (num_pictures,))
        prefix_n = torch.randint(1, max(2, self._num_slices), (num_pictures,))
        share_n = torch.rand(num_pictures)
        slices_n = torch.where(share_n < CORE_SHARE + PREFIX_SHARE, prefix_n, self._num_slices)
        slices_n = torch.where(share_n < CORE_SHARE, 0, slices_n)
        return quality_n.to(self._device), slices_n.to(self._device)

    def bits_per_pixel(self, bits_n: Tensor) -> Tensor:
        """Return the rate of pictures of so many bits."""
        return bits_n / self._num_pixels

    def weigh(self, quality_n: Tensor, *, core_bits_n: Tensor, latent_bits_n: Tensor) -> Tensor:
        """Return the rate's part of each picture's loss, [N]."""
        weight_n = self.steering.weights(quality_n)
        core_n = weight_n.clamp_max(HEAVIEST_CORE) * self.bits_per_pixel(core_bits_n)
        return core_n + weight_n * self.bits_per_pixel(latent_bits_n)

    def whole(self, slices_n: Tensor) -> Tensor:
        """Return which pictures are restored from all slices, bool [N]: what is steered."""
        return slices_n == self._num_slices

    def loss_factor(self, quality_n: Tensor) -> Tensor:
        """Return what each picture's losses are multiplied with, [N]."""
        weight_n = self.steering.weights(quality_n)
        return (weight_n / HEAVY_WEIGHT).clamp_min(1) ** -HEAVY_POWER

    def figures(self) -> dict[str, float]:
        """Return each quality's mean rate and weight by name."""
        rates = {f"rate_q{q + 1}": float(rate) for q, rate in enumerate(self.steering.rates_q.tolist())}
        return rates | {f"weight_q{q + 1}": weight for q, weight in enumerate(self.steering.weights_q)}


def typical_rates(job: TrainHscJob, config: HscConfig) -> list[float]:
    """Return the bits a pixel that are steered to from random networks: the settings', or typical ones."""
    factor = config.latent * config.grid**2 / TYPICAL_LATENTS
    num_bytes = job.target_bytes or [factor * typical for typical in TYPICAL_BYTES]
    return [8 * each / config.resolution**2 for each in num_bytes]


def fresh_steering(job: TrainHscJob, config: HscConfig, *, start: float) -> RateSteering:
    """Return the steering of networks that know nothing; it begins after a share of the training."""
    first, last = map(math.log, FIRST_WEIGHTS)
    steps = [q / (NUM_QUALITIES - 1) for q in range(NUM_QUALITIES)]
    weights = [math.exp(first + (last - first) * step) for step in steps]
    return RateSteering(typical_rates(job, config), weights, gain=job.steer_gain, start=start)


def measured_steering(
    setup: StageSetup[TrainHscJob], config: HscConfig, *, samples: Sequence[Batch], restore: Restore, start: float
) -> RateSteering:
    """Return the steering of a trained codec, from its own rates and what they lose.

    Args:
        setup: The settings may name other rates.
        config: The codec's.
        samples: What is measured on.
        restore: Gives the bits and the distortion of each picture of a batch.
        start: Share of the training before anything is steered.
    """
    job = setup.job
    torch.manual_seed(job.seed)
    measured_q2 = torch.tensor([_measure(setup, config, samples, restore, quality=q) for q in range(NUM_QUALITIES)])
    measured_q2 = setup.world.sum(measured_q2 / setup.world.size)
    rates, distortions = measured_q2[:, 0].tolist(), measured_q2[:, 1].tolist()
    targets = rates if job.target_bytes is None else typical_rates(job, config)
    return RateSteering(targets, weights_from_slopes(rates, distortions), gain=job.steer_gain, start=start)


@torch.no_grad()
def _measure(
    setup: StageSetup[TrainHscJob], config: HscConfig, samples: Sequence[Batch], restore: Restore, *, quality: int
) -> tuple[float, float]:
    """Return bits a pixel and distortion of one quality, all slices kept."""
    rate = distortion = 0.0
    for sample in samples:
        quality_n = torch.full((sample.num_crops,), quality, device=setup.device)
        slices_n = torch.full_like(quality_n, len(config.slices))
        bits_n, distortion_n = restore(sample, quality_n, slices_n)
        rate += float(bits_n.mean()) / config.resolution**2 / len(samples)
        distortion += float(distortion_n.mean()) / len(samples)
    return rate, distortion
