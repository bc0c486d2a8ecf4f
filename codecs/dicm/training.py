"""Rate and distortion of one batch: what a training step minimises.

The loop, the data and the schedule belong to whoever trains; here is what the codec itself knows. Letters in shapes:
N pictures, M latent channels, H and W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor
from torch.nn import functional

from framevault.codecs.dicm.backbones.registry import Tail
from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.dicm.networks import DicmNetworks
from framevault.codecs.entropy.densities import bits_of, factorised_likelihood, gaussian_mass, round_through, scale_of
from framevault.codecs.entropy.latents import MEAN_STEPS, context_of, residual_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModels:
    """All that is trained of a codec."""

    networks: DicmNetworks
    """Before and after the entropy coder."""
    entropy: EntropyNetworks
    """Scales and means, of `RoundedConv2d`."""
    hyper: EntropyBottleneck
    """Factorised density of z (Balle et al., 2018, appendix 6.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """One batch's rate and distortions, each a vector over the pictures [N]."""

    rate_bpp: Tensor
    """Estimated bits a pixel; training only, never reported as a rate."""
    features: Tensor
    """Squared error of the decoded features over the target's variance."""
    stages: list[Tensor]
    """The same at the tail's stages that were run."""
    divergence: Tensor | None
    """KL divergence of the class distribution, in nats, where the whole tail ran."""

    def distortion(self, *, deep_weight: float, divergence_weight: float) -> Tensor:
        """Return the weighted sum of all distortions, [N].

        Args:
            deep_weight: Of the stages after the first. Grows from 0 to 1: at full weight from one step to the next, the
                deep gradients undid in minutes what the shallow losses had taught.
            divergence_weight: Of the divergence, which starts some ten times larger than the rest.
        """
        total = self.features + self.stages[0]
        for stage in self.stages[1:]:
            total = total + deep_weight * stage
        return total if self.divergence is None else total + divergence_weight * self.divergence


def compute_losses(
    models: TrainedModels, tail: Tail, *, rgb_nchw: Tensor, quality_n: Tensor, num_stages: int
) -> Losses:
    """Run a batch through head, codec and tail.

    Args:
        models: The codec under training.
        tail: The frozen tail that gives the deep losses.
        rgb_nchw: ImageNet-normalised pictures [N, 3, H, W], H and W multiples of 64.
        quality_n: Quality of each picture, 0..7.
        num_stages: 1 for the first third of the training (a deep backward pass through noise teaches nothing and
            costs most), 3 after it.
    """
    networks = models.networks
    with torch.no_grad():
        target_nchw = networks.head(rgb_nchw)
        target_stages, target_logits = tail(target_nchw, num_stages)
    y_nchw = networks.analyse(target_nchw, quality_n)
    # Noise for the rate, rounding for the distortion (Minnen and Singh, ICIP 2020, section 3).
    latent_nchw, bits_n = _code(models, y_nchw, likelihood=_noisy_likelihood)
    decoded_nchw = networks.synthesise(latent_nchw, quality_n)
    stages, logits = tail(decoded_nchw, num_stages)
    return Losses(
        rate_bpp=bits_n / (rgb_nchw.shape[2] * rgb_nchw.shape[3]),
        features=relative_error(decoded_nchw, target_nchw),
        stages=[relative_error(a, b) for a, b in zip(stages, target_stages, strict=True)],
        divergence=None if logits is None or target_logits is None else _divergence(logits, target_logits),
    )


def compute_symbol_bits(models: TrainedModels, y_nchw: Tensor) -> Tensor:
    """Return the bits of each frame's real symbols, [N]: what trains h_a and the entropy model alone.

    With noise in the place of rounding, channels that are surely zero cost most of the bits and spoil the rest; where
    the latents stay as they are, rounding does no harm to the gradient.

    Args:
        models: The codec; `y_nchw` has no gradient to its networks.
        y_nchw: Scaled latents [N, M, h, w], h and w multiples of 4.
    """
    return _code(models, y_nchw, likelihood=_symbol_likelihood)[1]


SliceLikelihood = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Gives the probability of each latent from the latents, their means and scales; all [N, m, h, w]."""


def _code(models: TrainedModels, y_nchw: Tensor, *, likelihood: SliceLikelihood) -> tuple[Tensor, Tensor]:
    """Return the decoded latent, with the gradient of `y_nchw`, and each frame's bits, [N]."""
    z_nchw = round_through(models.networks.h_a(y_nchw))
    bits_n = bits_of(factorised_likelihood(models.hyper, z_nchw))
    phi_nchw = models.entropy.hyper(z_nchw)
    earlier: list[Tensor] = []
    decoded: list[Tensor] = []
    for number, part_nchw in enumerate(torch.split(y_nchw, list(models.entropy.slices), dim=1)):
        t_nchw, mean16_nchw = models.entropy.parameters_of(number, phi_nchw, earlier)
        mean_nchw = mean16_nchw * (1 / MEAN_STEPS)
        bits_n = bits_n + bits_of(likelihood(part_nchw, mean_nchw, scale_of(t_nchw)))
        latent16_nchw = (residual_of(part_nchw, mean16_nchw) * MEAN_STEPS + mean16_nchw).detach()
        earlier.append(context_of(latent16_nchw))
        decoded.append(part_nchw + (latent16_nchw * (1 / MEAN_STEPS) - part_nchw).detach())
    return torch.cat(decoded, dim=1), bits_n


def _noisy_likelihood(y_nchw: Tensor, mean_nchw: Tensor, scale_nchw: Tensor) -> Tensor:
    noise_nchw = torch.empty_like(y_nchw).uniform_(-0.5, 0.5)
    return gaussian_mass(y_nchw + noise_nchw - mean_nchw, scale_nchw)


def _symbol_likelihood(y_nchw: Tensor, mean_nchw: Tensor, scale_nchw: Tensor) -> Tensor:
    """Take the symbol's value, and the mean's gradient."""
    symbol_nchw = torch.round(y_nchw - mean_nchw).detach()
    return gaussian_mass(symbol_nchw - mean_nchw + mean_nchw.detach(), scale_nchw)


def relative_error(decoded_nchw: Tensor, target_nchw: Tensor) -> Tensor:
    """Return the squared error of each picture over the batch's variance, [N]."""
    return (decoded_nchw - target_nchw).square().mean(dim=(1, 2, 3)) / target_nchw.var()


def _divergence(logits_nk: Tensor, target_nk: Tensor) -> Tensor:
    """Return KL(target || decoded) of each picture, [N]."""
    return functional.kl_div(
        torch.log_softmax(logits_nk, 1), torch.log_softmax(target_nk, 1), reduction="none", log_target=True
    ).sum(dim=1)
