"""Makes the small random checkpoint of the golden hsc vault; see `tests/codecs/hsc/toy.py` for a larger one.

Its integer networks use a wide range of scale indices, means and clamps, and its tables are narrow, so that symbols
escape. Like the vault, it is made once and then kept: another torch may draw other random numbers.
"""

from __future__ import annotations

from pathlib import Path

import torch

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.entropy.latents import NUM_SCALES
from framevault.codecs.entropy.quantisation import RoundedConv2d
from framevault.codecs.entropy.tables import gaussian_tables, tables_from_pmf
from framevault.codecs.hsc.checkpoint import export_tensors
from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.distortion import DomainLimits
from framevault.codecs.hsc.entropy_model import HscEntropyNetworks
from framevault.codecs.hsc.networks import HscNetworks

CONFIG = HscConfig(
    resolution=64,
    split=8,
    style=4,
    channels=(4, 4, 4, 4, 4),
    body=(4, 4, 4),
    depths=(1, 1, 1),
    style_rank=4,
    core=6,
    style_hidden=4,
    wide=4,
    deep=4,
    slices=(2, 1, 3),
    context=4,
)
"""As small as it can be and still have all parts."""

SPREADS = {"spread": (8.0, 30.0), "mix": (1.0, 60.0), "contexts": (0.7, 60.0), "scales": (0.3, 20.0)}
"""How far weights and biases of a kind of layer go, and what biases lie around."""


def save_small_hsc_checkpoint(path: Path) -> None:
    """Write the checkpoint."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        networks, entropy = HscNetworks(CONFIG), HscEntropyNetworks(CONFIG, RoundedConv2d)
        with torch.no_grad():
            networks.style_codec.log_gain.add_(2)
            networks.feature_codec.log_gain.add_(3)
            for name, layer in entropy.named_modules():
                if isinstance(layer, RoundedConv2d):
                    spread, centre = SPREADS.get(name.split(".")[0], (3.0, 0.0))
                    layer.conv.weight.normal_(0, spread / layer.conv.weight[0].numel() ** 0.5)
                    assert layer.conv.bias is not None
                    layer.conv.bias.normal_(centre, spread)
    # Two core symbols a table; the last table's intervals are narrow.
    of_core = tables_from_pmf([[0.97], [0.3] * 3, [0.05] * 19], [0, -1, -9])
    of_y = gaussian_tables([0.11 * 40 ** (number / (NUM_SCALES - 1)) for number in range(NUM_SCALES)])
    limits = DomainLimits(psnr_db=tuple(20 + number / 4 for number in range(8)), ssim=(0.5,) * 8)
    tensors, config = export_tensors(networks, entropy, core_tables=of_core, latent_tables=of_y, limits=limits)
    save_checkpoint(path, tensors, codec="hsc", config=config)
