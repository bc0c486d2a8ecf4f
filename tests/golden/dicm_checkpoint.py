"""Makes the small random checkpoint of the golden dicm vaults; see `tests/codecs/dicm/toy.py` for a larger one.

Its integer networks use a wide range of scale indices, means and clamps, and its tables are narrow, so that symbols
escape. Like the vault, it is made once and then kept: another torch may draw other random numbers.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.dicm.checkpoint import export_tensors, read_tensors
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.dicm.networks import DicmNetworks
from framevault.codecs.dicm.temporal_model import TemporalNetworks
from framevault.codecs.dicm.video_checkpoint import export_video
from framevault.codecs.entropy.latents import NUM_SCALES
from framevault.codecs.entropy.quantisation import RoundedConv2d
from framevault.codecs.entropy.tables import FlagTable, gaussian_tables, tables_from_pmf

CONFIG = DicmConfig(wide=4, deep=4, latent=8, hyper=4, slices=(3, 5), context=4, temporal=4)
"""As small as it can be and still have all parts."""

SPREADS = {
    "expand_1": (10.0, 40.0),
    "expand_2": (1.0, 60.0),
    "temporal": (2.0, 60.0),
    "contexts": (0.7, 60.0),
    "scales": (0.3, 20.0),
}
"""How far weights and biases of a kind of layer go, and what biases lie around."""


def save_small_checkpoint(path: Path) -> None:
    """Write the checkpoint."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        networks, entropy = DicmNetworks(CONFIG), EntropyNetworks(CONFIG, RoundedConv2d)
        temporal = TemporalNetworks(CONFIG, RoundedConv2d)
        with torch.no_grad():
            for module, factor in ((networks.g_a[-1], 20), (networks.h_a[0], 3), (networks.h_a[-1], 3)):
                weight = module.weight
                assert isinstance(weight, Tensor)
                weight.mul_(factor)
            for name, layer in (*entropy.named_modules(), *temporal.named_modules()):
                if isinstance(layer, RoundedConv2d):
                    spread, centre = SPREADS.get(name.split(".")[0], (3.0, 0.0))
                    layer.conv.weight.normal_(0, spread / layer.conv.weight[0].numel() ** 0.5)
                    assert layer.conv.bias is not None
                    layer.conv.bias.normal_(centre, spread)
    widths = [1 + 2 * channel for channel in range(CONFIG.hyper)]
    of_z = tables_from_pmf([[0.97 / width] * width for width in widths], [channel % 3 - 1 for channel in range(4)])
    of_y = gaussian_tables([0.11 * 40 ** (number / (NUM_SCALES - 1)) for number in range(NUM_SCALES)])
    tensors, config = export_tensors(networks, entropy, hyper_tables=of_z, latent_tables=of_y)
    _, bitstream, _ = read_tensors(tensors, dataclasses.asdict(dataclasses.replace(CONFIG, temporal=0)))
    flags = FlagTable(probabilities=np.arange(2_000, 2_000 + 512 * 120, 120, dtype=np.int32))
    video = export_video(bitstream, CONFIG, temporal, flags)
    save_checkpoint(path, {**tensors, **video}, codec="dicm", config=config)
