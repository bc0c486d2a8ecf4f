"""Densities of latents: in training as losses, after it as the tables that a checkpoint stores.

Nothing here runs in an encoder or decoder. Letters in shapes: N pictures, C channels, K tables, L symbols.
"""

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor

from framevault.codecs.entropy.latents import NUM_SCALES
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


def gaussian_mass(x_nchw: Tensor, scale_nchw: Tensor) -> Tensor:
    """Return the probability that a zero-mean Gaussian falls within half a step of x."""
    x_nchw = x_nchw.abs()
    root = scale_nchw * 2**0.5
    # From the upper tail, where differences of small numbers stay exact.
    mass_nchw = (torch.erfc((x_nchw - 0.5) / root) - torch.erfc((x_nchw + 0.5) / root)) / 2
    return mass_nchw.clamp_min(SMALLEST_LIKELIHOOD)


def factorised_likelihood(hyper: EntropyBottleneck, z_nchw: Tensor) -> Tensor:
    """Return the probability of each whole number of z."""
    channels_c1n = z_nchw.transpose(0, 1).flatten(1)[:, None]
    likelihood_c1n, _, _ = hyper._likelihood(channels_c1n)
    shape = (z_nchw.shape[1], z_nchw.shape[0], *z_nchw.shape[2:])
    likelihood_nchw: Tensor = likelihood_c1n.clamp_min(SMALLEST_LIKELIHOOD).reshape(shape).transpose(0, 1)
    return likelihood_nchw


def bits_of(likelihood_nchw: Tensor) -> Tensor:
    """Return the bits of each picture, [N]."""
    return -torch.log2(likelihood_nchw).sum(dim=(1, 2, 3))


def frequency_tables(hyper: EntropyBottleneck) -> tuple[FrequencyTables, FrequencyTables]:
    """Turn the trained densities into the tables that a checkpoint stores: of z, and of y."""
    symbols = torch.arange(-HYPER_SYMBOLS, HYPER_SYMBOLS + 1, dtype=torch.float32)
    num_channels = hyper.channels
    with torch.no_grad():
        pmf_kl = factorised_likelihood(hyper, symbols[None, None, None].expand(1, num_channels, 1, -1))[
            0, :, 0
        ].double()
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
