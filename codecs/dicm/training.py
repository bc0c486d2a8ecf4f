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

from framevault.codecs.dicm.backbone import Tail
from framevault.codecs.dicm.entropy_model import MEAN_STEPS, NUM_SCALES, EntropyNetworks, context_of
from framevault.codecs.dicm.networks import DicmNetworks
from framevault.codecs.dicm.symbols import residual_of
from framevault.codecs.entropy.tables import FrequencyTables, gaussian_tables, tables_from_pmf

LOWEST_SCALE = 0.11
"""First entry of the scale table: below it a Gaussian's whole mass is at one integer (Balle et al., 2018)."""

HIGHEST_SCALE = 64.0
"""Last entry of the scale table."""

SMALLEST_LIKELIHOOD = 1e-9
"""Probabilities are kept from below: what is less likely would be escaped."""

HYPER_SYMBOLS = 127
"""Largest magnitude of a value of z that its table may hold."""

LEAST_TABLE_PROBABILITY = 2.0**-17
"""A symbol less likely than half a slot of the table escapes."""


def scale_of(t: Tensor) -> Tensor:
    """Return the standard deviation at position t (0..63, not only integers) of the geometric scale table."""
    step = torch.log(torch.tensor(HIGHEST_SCALE / LOWEST_SCALE)) / (NUM_SCALES - 1)
    return LOWEST_SCALE * torch.exp(t.clamp(0, NUM_SCALES - 1) * step.to(t.device))


def round_through(x: Tensor) -> Tensor:
    """Round, and let the gradient through as if nothing had been done."""
    return x + (torch.round(x) - x).detach()


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
    bits_n = _bits(_hyper_likelihood(models.hyper, z_nchw))
    phi_nchw = models.entropy.hyper(z_nchw)
    earlier: list[Tensor] = []
    decoded: list[Tensor] = []
    for number, part_nchw in enumerate(torch.split(y_nchw, list(models.entropy.slices), dim=1)):
        t_nchw, mean16_nchw = models.entropy.parameters_of(number, phi_nchw, earlier)
        mean_nchw = mean16_nchw * (1 / MEAN_STEPS)
        bits_n = bits_n + _bits(likelihood(part_nchw, mean_nchw, scale_of(t_nchw)))
        latent16_nchw = (residual_of(part_nchw, mean16_nchw) * MEAN_STEPS + mean16_nchw).detach()
        earlier.append(context_of(latent16_nchw))
        decoded.append(part_nchw + (latent16_nchw * (1 / MEAN_STEPS) - part_nchw).detach())
    return torch.cat(decoded, dim=1), bits_n


def _noisy_likelihood(y_nchw: Tensor, mean_nchw: Tensor, scale_nchw: Tensor) -> Tensor:
    noise_nchw = torch.empty_like(y_nchw).uniform_(-0.5, 0.5)
    return _gaussian_mass(y_nchw + noise_nchw - mean_nchw, scale_nchw)


def _symbol_likelihood(y_nchw: Tensor, mean_nchw: Tensor, scale_nchw: Tensor) -> Tensor:
    """Take the symbol's value, and the mean's gradient."""
    symbol_nchw = torch.round(y_nchw - mean_nchw).detach()
    return _gaussian_mass(symbol_nchw - mean_nchw + mean_nchw.detach(), scale_nchw)


def _gaussian_mass(x_nchw: Tensor, scale_nchw: Tensor) -> Tensor:
    """Return the probability that a zero-mean Gaussian falls within half a step of x."""
    x_nchw = x_nchw.abs()
    root = scale_nchw * 2**0.5
    # From the upper tail, where differences of small numbers stay exact.
    mass_nchw = (torch.erfc((x_nchw - 0.5) / root) - torch.erfc((x_nchw + 0.5) / root)) / 2
    return mass_nchw.clamp_min(SMALLEST_LIKELIHOOD)


def _hyper_likelihood(hyper: EntropyBottleneck, z_nchw: Tensor) -> Tensor:
    """Return the probability of each whole number of z."""
    channels_c1n = z_nchw.transpose(0, 1).flatten(1)[:, None]
    likelihood_c1n, _, _ = hyper._likelihood(channels_c1n)
    shape = (z_nchw.shape[1], z_nchw.shape[0], *z_nchw.shape[2:])
    likelihood_nchw: Tensor = likelihood_c1n.clamp_min(SMALLEST_LIKELIHOOD).reshape(shape).transpose(0, 1)
    return likelihood_nchw


def relative_error(decoded_nchw: Tensor, target_nchw: Tensor) -> Tensor:
    """Return the squared error of each picture over the batch's variance, [N]."""
    return (decoded_nchw - target_nchw).square().mean(dim=(1, 2, 3)) / target_nchw.var()


def _divergence(logits_nk: Tensor, target_nk: Tensor) -> Tensor:
    """Return KL(target || decoded) of each picture, [N]."""
    return functional.kl_div(
        torch.log_softmax(logits_nk, 1), torch.log_softmax(target_nk, 1), reduction="none", log_target=True
    ).sum(dim=1)


def _bits(likelihood_nchw: Tensor) -> Tensor:
    """Return the bits of each picture, [N]."""
    return -torch.log2(likelihood_nchw).sum(dim=(1, 2, 3))


def frequency_tables(hyper: EntropyBottleneck) -> tuple[FrequencyTables, FrequencyTables]:
    """Turn the trained densities into the tables that a checkpoint stores: of z, and of y."""
    symbols = torch.arange(-HYPER_SYMBOLS, HYPER_SYMBOLS + 1, dtype=torch.float32)
    num_channels = hyper.channels
    with torch.no_grad():
        pmf_kl = _hyper_likelihood(hyper, symbols[None, None, None].expand(1, num_channels, 1, -1))[0, :, 0].double()
    rows: list[list[float]] = []
    offsets: list[int] = []
    for pmf_l in pmf_kl:
        likely = torch.nonzero(pmf_l >= LEAST_TABLE_PROBABILITY)[:, 0]
        first, last = min(int(likely[0]), HYPER_SYMBOLS), max(int(likely[-1]), HYPER_SYMBOLS)
        row_l = pmf_l[first : last + 1]
        rows.append((row_l / max(1.0, float(row_l.sum()))).tolist())
        offsets.append(first - HYPER_SYMBOLS)
    positions = torch.arange(NUM_SCALES, dtype=torch.float64)
    return tables_from_pmf(rows, offsets), gaussian_tables(scale_of(positions).tolist())
