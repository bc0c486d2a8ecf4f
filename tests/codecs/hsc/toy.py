"""An hsc checkpoint of small random networks, whose streams have everything in them that streams can have.

The integer networks' weights are scaled so that they use the whole range of scale indices, means and clamps, and the
tables of core symbols are so narrow that symbols escape. Letters in shapes: N pictures, K core symbols, M latent
channels, g the side of the latent's grid.
"""

from pathlib import Path

import torch
from torch import Tensor

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.entropy.latents import NUM_SCALES
from framevault.codecs.entropy.quantisation import RoundedConv2d
from framevault.codecs.entropy.tables import FrequencyTables, gaussian_tables, tables_from_pmf
from framevault.codecs.hsc.checkpoint import export_tensors
from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.distortion import NO_LIMITS, DomainLimits
from framevault.codecs.hsc.entropy_model import HscEntropyNetworks
from framevault.codecs.hsc.networks import HscNetworks

TOY_CONFIG = HscConfig(
    resolution=64,
    split=8,
    style=6,
    channels=(8, 7, 6, 5, 4),
    body=(4, 5, 6, 7, 8),
    core=9,
    style_hidden=10,
    wide=8,
    deep=12,
    slices=(3, 1, 4),
    context=8,
)
"""Nothing divides anything else."""

MAGNITUDES = (0.2, 2.0, 30.0, 1e3, 1e6)
"""Spreads of latents: nearly all zero; usual; beyond most tables; beyond all; beyond what is clamped."""

SPREADS = {"spread": (8.0, 30.0), "mix": (1.0, 60.0), "contexts": (0.7, 60.0), "scales": (0.3, 20.0)}
"""How far weights and biases of a kind of integer layer go, and what biases lie around."""


def toy_networks(config: HscConfig = TOY_CONFIG) -> HscNetworks:
    """Return random float networks that make core symbols and latents of some steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        networks = HscNetworks(config)
    with torch.no_grad():
        networks.style_codec.log_gain.add_(2)
        networks.feature_codec.log_gain.add_(3)
    return networks


def toy_entropy(config: HscConfig = TOY_CONFIG) -> HscEntropyNetworks:
    """Return random entropy networks that use the whole range of their outputs."""
    random = torch.Generator().manual_seed(2)
    with torch.random.fork_rng(devices=[]):
        networks = HscEntropyNetworks(config, RoundedConv2d)
    with torch.no_grad():
        for name, layer in networks.named_modules():
            if isinstance(layer, RoundedConv2d):
                spread, centre = SPREADS.get(name.split(".")[0], (3.0, 0.0))
                layer.conv.weight.normal_(0, spread / layer.conv.weight[0].numel() ** 0.5, generator=random)
                assert layer.conv.bias is not None
                layer.conv.bias.normal_(centre, spread, generator=random)
    return networks


def toy_tables(config: HscConfig = TOY_CONFIG) -> tuple[FrequencyTables, FrequencyTables]:
    """Return tables of core symbols, each of another width and centre, and of y."""
    widths = [21 if number == 4 else 1 + 2 * number for number in range(config.core)]
    rows = [[0.97 / width] * width for width in widths]
    scales = [0.11 * (64 / 0.11) ** (number / (NUM_SCALES - 1)) for number in range(NUM_SCALES)]
    offsets = [number % 3 - 1 - number for number in range(config.core)]
    return tables_from_pmf(rows, offsets), gaussian_tables(scales)


def toy_tensors(
    config: HscConfig = TOY_CONFIG, *, limits: DomainLimits = NO_LIMITS
) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Return a checkpoint's tensors and configuration."""
    of_core, of_y = toy_tables(config)
    return export_tensors(
        toy_networks(config),
        toy_entropy(config),
        core_tables=of_core,
        latent_tables=of_y,
        limits=limits,
    )


def save_toy(path: Path, config: HscConfig = TOY_CONFIG, *, limits: DomainLimits = NO_LIMITS) -> Path:
    """Write the checkpoint."""
    tensors, config_json = toy_tensors(config, limits=limits)
    save_checkpoint(path, tensors, codec="hsc", config=config_json)
    return path


def random_latents(config: HscConfig, num_frames: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make what is coded: core symbols, whole numbers [N, K], and y [N, M, g, g]; a picture each of `MAGNITUDES`."""
    random = torch.Generator().manual_seed(seed)
    core_nk = torch.randn(num_frames, config.core, generator=random)
    y_nmgg = torch.randn(num_frames, config.latent, config.grid, config.grid, generator=random)
    spread_n = torch.tensor([MAGNITUDES[n % len(MAGNITUDES)] for n in range(num_frames)])
    return torch.round(core_nk * spread_n[:, None]), y_nmgg * spread_n[:, None, None, None]
