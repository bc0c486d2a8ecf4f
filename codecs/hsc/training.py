"""Rate and reconstruction of one batch: what a training step minimises.

The loop, the data and the schedule belong to whoever trains. Letters in shapes: N pictures, K core symbols, M latent
channels, R the resolution.
"""

from dataclasses import dataclass

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor

from framevault.codecs.entropy.densities import bits_of, factorised_likelihood, gaussian_mass, round_through, scale_of
from framevault.codecs.entropy.latents import MEAN_STEPS, context_of, residual_of
from framevault.codecs.hsc.entropy_model import HscEntropyNetworks
from framevault.codecs.hsc.networks import NUM_QUALITIES, HscNetworks

LOWEST_TEACHING = 4
"""Quality, from 0, below which rates move only the gains of channels, not the analysis that all qualities share.

Else the heavy rates of the lowest ones silence, for good, channels that only high qualities want: in a trial 57 of 64.
"""

NONE_TEACHES = NUM_QUALITIES
"""The same while channels are still to be found: bits then move nothing but gains and the entropy model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModels:
    """All that is trained of a codec."""

    networks: HscNetworks
    """The float networks."""
    entropy: HscEntropyNetworks
    """Scales and means, of `RoundedConv2d`."""
    core: EntropyBottleneck
    """Factorised density of the core symbols."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """Styles and feature through both codecs, with gradients."""

    styles_nld: Tensor
    """S^, the decoded styles, [N, L, D]."""
    own_nchw: Tensor
    """F(S^), the generator's own feature for them, [N, C, s, s]."""
    colours_nchw: Tensor
    """The generator's colours at the split, [N, 3, s, s]."""
    feature_nchw: Tensor
    """f^, the decoded feature, [N, C, s, s]."""
    core_bits_n: Tensor
    """Estimated bits of the core symbols, [N]; training only."""
    latent_bits_n: Tensor
    """Estimated bits of the slices that were used, [N]; training only."""
    symbol_bits_n: Tensor
    """Bits of the symbols that a stream would hold, core and slices, by the model's probabilities, [N]; no gradient.

    Of latents that are nearly always their mean, noise makes the estimates far too high: 4,096 silent ones seem to take
    90 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A batch through the codec, with gradients."""

    rgb_nchw: Tensor
    """The picture, about -1..1, [N, 3, R, R]."""
    core_bits_n: Tensor
    """Estimated bits of the core symbols, [N]; training only."""
    latent_bits_n: Tensor
    """Estimated bits of the slices that were used, [N]; training only."""
    symbol_bits_n: Tensor
    """Bits of the symbols that a stream would hold, [N]; see `Coded`."""
    styles_error: Tensor
    """Squared error of the decoded styles over their variance."""
    feature_gap: Tensor
    """Squared difference of f^ and F(S^) over the latter's variance."""


def restore_batch(
    models: TrainedModels,
    rgb_nchw: Tensor,
    *,
    quality_n: Tensor,
    num_slices_n: Tensor,
    lowest_teaching: int = LOWEST_TEACHING,
) -> Restored:
    """Run a batch through encoder, rounding and generator.

    Args:
        models: The codec under training.
        rgb_nchw: Pictures in -1..1, [N, 3, R, R].
        quality_n: Quality of each picture, 0..7.
        num_slices_n: How many slices each picture is restored from; the others are at their means.
        lowest_teaching: Quality, from 0, from which on the latent's bits move the analysis.
    """
    networks = models.networks
    styles_nld, feature_nchw = networks.inversion(rgb_nchw)
    coded = code_batch(
        models,
        styles_nld,
        feature_nchw,
        quality_n=quality_n,
        num_slices_n=num_slices_n,
        lowest_teaching=lowest_teaching,
    )
    own_nchw = coded.own_nchw
    return Restored(
        rgb_nchw=networks.generator.tail(coded.feature_nchw, coded.colours_nchw, coded.styles_nld).float(),
        core_bits_n=coded.core_bits_n,
        latent_bits_n=coded.latent_bits_n,
        symbol_bits_n=coded.symbol_bits_n,
        styles_error=(coded.styles_nld - styles_nld).float().square().mean() / styles_nld.float().var().detach(),
        feature_gap=(coded.feature_nchw - own_nchw).float().square().mean() / own_nchw.float().var().detach(),
    )


def code_batch(
    models: TrainedModels,
    styles_nld: Tensor,
    feature_nchw: Tensor,
    *,
    quality_n: Tensor,
    num_slices_n: Tensor,
    lowest_teaching: int = LOWEST_TEACHING,
) -> Coded:
    """Run styles and features through both codecs; the second one sees what the first one's decoder gives.

    Args:
        models: The codec under training.
        styles_nld: S, [N, L, D].
        feature_nchw: f, [N, C, s, s].
        quality_n: Quality of each picture, 0..7.
        num_slices_n: How many slices each picture is restored from; the others are at their means.
        lowest_teaching: Quality, from 0, from which on the latent's bits move the analysis.
    """
    networks = models.networks
    with _full_precision(styles_nld):
        core_nk = networks.style_codec.analyse(styles_nld.float())
        # Noise for the rate, rounding for the picture (Minnen and Singh, ICIP 2020, section 3).
        noisy_nk11 = (core_nk + torch.empty_like(core_nk).uniform_(-0.5, 0.5))[:, :, None, None]
        core_bits_n = bits_of(factorised_likelihood(models.core, noisy_nk11))
        rounded_nk = round_through(core_nk)
        with torch.no_grad():
            symbol_bits_n = bits_of(factorised_likelihood(models.core, rounded_nk[:, :, None, None]))
        decoded_nld = networks.style_codec.synthesise(rounded_nk)
    own_nchw, colours_nchw = networks.generator.lower(decoded_nld)
    y_nchw = networks.feature_codec.analyse(feature_nchw, own_nchw, quality_n)
    with _full_precision(styles_nld):
        y_nchw = y_nchw.float()
        gain_nm11 = networks.feature_codec.gain(quality_n).float()
        shares_n111 = (quality_n >= lowest_teaching)[:, None, None, None]
        latent_nchw, latent_bits_n, latent_symbol_bits_n = _code(
            models,
            y_nchw,
            rounded_nk,
            rated_nchw=torch.where(shares_n111, y_nchw, (y_nchw / gain_nm11).detach() * gain_nm11),
            quality_n=quality_n,
            num_slices_n=num_slices_n,
        )
    return Coded(
        styles_nld=decoded_nld,
        own_nchw=own_nchw,
        colours_nchw=colours_nchw,
        feature_nchw=networks.feature_codec.synthesise(latent_nchw, own_nchw, quality_n),
        core_bits_n=core_bits_n,
        latent_bits_n=latent_bits_n,
        symbol_bits_n=symbol_bits_n + latent_symbol_bits_n,
    )


def _full_precision(like: Tensor) -> torch.autocast:
    """Latents and densities stay in float32 when a caller trains in another precision."""
    return torch.autocast(like.device.type, enabled=False)


def _code(
    models: TrainedModels,
    y_nchw: Tensor,
    core_nk: Tensor,
    *,
    rated_nchw: Tensor,
    quality_n: Tensor,
    num_slices_n: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the decoded latent, with gradients to y and the means, each picture's bits, [N], and its symbols', [N].

    `rated_nchw` has the values of y, and the gradients that bits shall have.
    """
    phi_nchw = models.entropy.prime(core_nk, quality_n)
    earlier: list[Tensor] = []
    decoded: list[Tensor] = []
    bits_n, symbol_bits_n = y_nchw.new_zeros(2, len(y_nchw))
    slices = list(models.entropy.slices)
    parts = zip(torch.split(y_nchw, slices, dim=1), torch.split(rated_nchw, slices, dim=1), strict=True)
    for number, (part_nchw, rated_part_nchw) in enumerate(parts):
        t_nchw, mean16_nchw = models.entropy.parameters_of(number, phi_nchw, earlier)
        mean_nchw = mean16_nchw * (1 / MEAN_STEPS)
        noise_nchw = torch.empty_like(part_nchw).uniform_(-0.5, 0.5)
        is_kept_n = num_slices_n > number
        bits_n = bits_n + is_kept_n * bits_of(gaussian_mass(rated_part_nchw + noise_nchw - mean_nchw, scale_of(t_nchw)))
        residual_nchw = residual_of(part_nchw, mean16_nchw).detach()
        symbol_bits_n = symbol_bits_n + is_kept_n * _symbol_bits(models, residual_nchw, t_nchw.detach())
        latent16_nchw = (residual_nchw * MEAN_STEPS + mean16_nchw).detach()
        is_kept_n111 = is_kept_n[:, None, None, None]
        # Where a slice is left out, later ones are too: their parameters are those of means in its place.
        latent16_nchw = torch.where(is_kept_n111, latent16_nchw, mean16_nchw.detach())
        rounded_nchw = part_nchw + (latent16_nchw * (1 / MEAN_STEPS) - part_nchw).detach()
        earlier.append(context_of(latent16_nchw))
        decoded.append(torch.where(is_kept_n111, rounded_nchw, mean_nchw))
    return torch.cat(decoded, dim=1), bits_n, symbol_bits_n


def _symbol_bits(models: TrainedModels, residual_nchw: Tensor, t_nchw: Tensor) -> Tensor:
    """Return the bits of a slice's symbols, [N], at positions t of the scale table; what is skipped has none."""
    mass_nchw = gaussian_mass(residual_nchw, scale_of(t_nchw))
    is_coded_nchw = t_nchw.round() >= models.networks.config.skip_below
    return bits_of(torch.where(is_coded_nchw, mass_nchw, 1.0))
