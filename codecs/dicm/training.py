"""Rate and distortion of one batch: what a training step minimises.

The loop, the data and the schedule belong to whoever trains; here is what the codec itself knows. Letters in shapes:
N pictures, M latent channels, H and W pixels.
"""

from dataclasses import dataclass

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor
from torch.nn import functional

from framevault.codecs.dicm.backbone import Tail
from framevault.codecs.dicm.networks import NUM_SCALES, DicmNetworks

LOWEST_SCALE = 0.11
"""First entry of the scale table: below it a Gaussian's whole mass is at one integer (Balle et al., 2018)."""

HIGHEST_SCALE = 64.0
"""Last entry of the scale table."""


def scale_of(t: Tensor) -> Tensor:
    """Return the standard deviation at position t (0..63, not only integers) of the geometric scale table."""
    step = torch.log(torch.tensor(HIGHEST_SCALE / LOWEST_SCALE)) / (NUM_SCALES - 1)
    return LOWEST_SCALE * torch.exp(t.clamp(0, NUM_SCALES - 1) * step.to(t.device))


def round_through(x: Tensor) -> Tensor:
    """Round, and let the gradient through as if nothing had been done."""
    return x + (torch.round(x) - x).detach()


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyModels:
    """The densities that the rate is measured with."""

    hyper: EntropyBottleneck
    """Factorised density of z (Balle et al., 2018, appendix 6.1), trained with the networks."""
    latent: GaussianConditional
    """Gaussian of y, with scale and mean from h_s; nothing in it is trained."""


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
    networks: DicmNetworks, models: EntropyModels, tail: Tail, *, rgb_nchw: Tensor, quality_n: Tensor, num_stages: int
) -> Losses:
    """Run a batch through head, codec and tail.

    Args:
        networks: The codec under training.
        models: The densities of y and z.
        tail: The frozen tail that gives the deep losses.
        rgb_nchw: ImageNet-normalised pictures [N, 3, H, W], H and W multiples of 64.
        quality_n: Quality of each picture, 0..7.
        num_stages: 1 for the first third of the training (a deep backward pass through noise teaches nothing and
            costs most), 3 after it.
    """
    with torch.no_grad():
        target_nchw = networks.head(rgb_nchw)
        target_stages, target_logits = tail(target_nchw, num_stages)
    y_nchw = networks.analyse(target_nchw, quality_n)
    z_nchw = networks.h_a(y_nchw)
    t_nchw, mean_nchw = networks.h_s(round_through(z_nchw))
    # Noise for the rate, rounding for the distortion (Minnen and Singh, ICIP 2020, section 3).
    _, z_likelihood = models.hyper(z_nchw, training=True)
    _, y_likelihood = models.latent(y_nchw, scale_of(t_nchw), mean_nchw, training=True)
    num_pixels = rgb_nchw.shape[2] * rgb_nchw.shape[3]
    rate_bpp = (_bits(y_likelihood) + _bits(z_likelihood)) / num_pixels
    decoded_nchw = networks.synthesise(round_through(y_nchw - mean_nchw) + mean_nchw, quality_n)
    stages, logits = tail(decoded_nchw, num_stages)
    return Losses(
        rate_bpp=rate_bpp,
        features=relative_error(decoded_nchw, target_nchw),
        stages=[relative_error(a, b) for a, b in zip(stages, target_stages, strict=True)],
        divergence=None if logits is None or target_logits is None else _divergence(logits, target_logits),
    )


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


def frequency_tables(hyper: EntropyBottleneck) -> tuple[list[Tensor], list[Tensor]]:
    """Turn the trained densities into the tables that a checkpoint stores: (of z, of y).

    Each is [cumulative frequencies [K, L], lengths [K], offsets [K]], of 16 bits, as compressai's coder takes them.
    """
    with torch.no_grad():
        hyper.update(force=True, update_quantiles=True)
        # z is rounded to whole numbers, not to its medians, so the tables must be centred on zero.
        lowest, _, highest = hyper.quantiles.unbind(dim=2)
        zero = torch.zeros_like(lowest)
        hyper.quantiles.copy_(torch.stack([lowest.clamp_max(-1), zero, highest.clamp_min(1)], dim=2))
        hyper.update(force=True)
        positions = torch.arange(NUM_SCALES, dtype=torch.float32)
        latent = GaussianConditional(scale_of(positions).tolist(), scale_bound=LOWEST_SCALE, tail_mass=2.0**-20)
        latent.update()
    return _tables_of(hyper), _tables_of(latent)


def _tables_of(model: EntropyBottleneck | GaussianConditional) -> list[Tensor]:
    return [model.quantized_cdf.int(), model.cdf_length.int().flatten(), model.offset.int().flatten()]
