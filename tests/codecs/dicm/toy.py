"""A dicm checkpoint of small random networks, whose streams have everything in them that streams can have.

The integer networks' weights are scaled so that they use the whole range of scale indices, means and clamps, and the
tables of z are so narrow that symbols escape. It needs neither compressai nor training: seconds become milliseconds,
and any torch can make it. Letters in shapes: N frames, M and Z channels of the latents, h and w positions of the latent
grid.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.dicm.checkpoint import export_tensors
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.dicm.networks import DicmNetworks
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.entropy.latents import NUM_SCALES
from framevault.codecs.entropy.quantisation import RoundedConv2d
from framevault.codecs.entropy.tables import FrequencyTables, gaussian_tables, tables_from_pmf

TOY_CONFIG = DicmConfig(wide=8, deep=12, latent=20, hyper=6, slices=(3, 5, 12), context=8)
"""Nothing divides anything else."""

MAGNITUDES = (0.2, 2.0, 30.0, 1e3, 1e6)
"""Spreads of latents: nearly all zero; usual; beyond most tables; beyond all; beyond what is clamped."""


def toy_networks() -> DicmNetworks:
    """Return random float networks that make latents of some ten steps of frames."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        networks = DicmNetworks(TOY_CONFIG)
    with torch.no_grad():
        for parameter, factor in (
            (networks.g_a[-1].weight, 20),
            (networks.h_a[0].weight, 3),
            (networks.h_a[-1].weight, 3),
        ):
            assert isinstance(parameter, Tensor)
            parameter.mul_(factor)
    return networks


def toy_entropy() -> EntropyNetworks:
    """Return random entropy networks that use the whole range of their outputs."""
    random = torch.Generator().manual_seed(2)
    with torch.random.fork_rng(devices=[]):
        networks = EntropyNetworks(TOY_CONFIG, RoundedConv2d)
    with torch.no_grad():
        for name, layer in networks.named_modules():
            if isinstance(layer, RoundedConv2d):
                spread, centre = _spread(name)
                inputs = layer.conv.weight[0].numel()
                layer.conv.weight.normal_(0, spread / inputs**0.5, generator=random)
                assert layer.conv.bias is not None
                layer.conv.bias.normal_(centre, spread, generator=random)
    return networks


def _spread(name: str) -> tuple[float, float]:
    """Return how far weights and biases go, and what biases lie around."""
    kind = name.split(".")[0]
    return {"expand_1": (10.0, 40.0), "expand_2": (1.0, 60.0), "contexts": (0.7, 60.0), "scales": (0.3, 20.0)}.get(
        kind, (3.0, 0.0)
    )


def toy_tables() -> tuple[FrequencyTables, FrequencyTables]:
    """Return tables of z, each of another width and centre, and of y."""
    rows = [[0.97 / (1 + 2 * number)] * (1 + 2 * number) for number in range(TOY_CONFIG.hyper)]
    scales = [0.11 * (64 / 0.11) ** (number / (NUM_SCALES - 1)) for number in range(NUM_SCALES)]
    offsets = [number % 3 - 1 - number for number in range(TOY_CONFIG.hyper)]
    return tables_from_pmf(rows, offsets), gaussian_tables(scales)


def toy_tensors() -> tuple[dict[str, Tensor], dict[str, object]]:
    """Return a checkpoint's tensors and configuration."""
    of_z, of_y = toy_tables()
    return export_tensors(toy_networks(), toy_entropy(), hyper_tables=of_z, latent_tables=of_y)


def save_toy(path: Path) -> Path:
    """Write the checkpoint."""
    tensors, config = toy_tensors()
    save_checkpoint(path, tensors, codec="dicm", config=config)
    return path


def random_latents(config: DicmConfig, num_frames: int, *, grid: LatentGrid, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make latents to code, y float32 [N, M, h, w] and z whole numbers in float32; a frame each of `MAGNITUDES`."""
    random = torch.Generator().manual_seed(seed)
    y_nchw = torch.randn(num_frames, config.latent, grid.height, grid.width, generator=random)
    z_nchw = torch.randn(num_frames, config.hyper, grid.hyper_height, grid.hyper_width, generator=random)
    spread_n = torch.tensor([MAGNITUDES[n % len(MAGNITUDES)] for n in range(num_frames)])[:, None, None, None]
    return y_nchw * spread_n, torch.round(z_nchw * spread_n)


def texture(seed: int, height: int, width: int) -> Tensor:
    """Draw soft spots of some pixels, uint8 [3, height, width]."""
    noise = torch.from_numpy(np.random.default_rng(seed).random((3, height, width), np.float32))
    soft = functional.avg_pool2d(noise[None], 7, stride=1, padding=3)[0]
    return ((soft - soft.mean()) / soft.std() * 45 + 128).clamp(0, 255).byte()
