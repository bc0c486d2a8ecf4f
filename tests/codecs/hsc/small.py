"""A domain so small that its networks run in milliseconds, with widths of which none divides another."""

import torch
from torch import nn

from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.generator import Generator, StyledConv

SMALL = HscConfig(
    resolution=64,
    split=8,
    style=12,
    channels=(10, 9, 7, 5, 4),
    body=(4, 5, 6, 7),
    depths=(1, 2, 1, 1),
    core=11,
    style_hidden=13,
    wide=8,
    deep=10,
    slices=(3, 4),
    context=8,
)
"""Pictures of 64 pixels."""


def small_generator(seed: int = 1) -> Generator:
    """Return a generator whose every tensor matters: noise, biases and scales too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = Generator(SMALL).eval()
        for module in generator.modules():
            if isinstance(module, StyledConv):
                nn.init.normal_(module.noise_strength)
            if isinstance(bias := getattr(module, "bias", None), nn.Parameter):
                nn.init.normal_(bias)
    return generator
