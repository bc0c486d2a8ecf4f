"""StyleGAN2's mapping network: a random vector to a style, for pictures that nobody took.

Karras et al., StyleGAN, CVPR 2019, arXiv 1812.04948 (truncation: section 3 and appendix B). Coding needs none of it:
the inversion encoder finds styles. Letters in shapes: N pictures, Z width of the random vector, L styles of D values.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.hsc.modulated import ACTIVATION_GAIN, LEAKY_SLOPE

LEARNING_RATE_RATIO = 0.01
"""Of this network's learning rate over the generator's (StyleGAN, appendix C): deep and narrow, it diverges else."""

NORM_EPSILON = 1e-8
"""Added under the root of a vector's mean square."""

MEAN_SAMPLES = 10_000
"""Styles that the mean is measured over."""

MEAN_SEED = 20251121
"""Of the random vectors for that."""


class MappingNetwork(nn.Module):
    """Random vectors to styles.

    ::

        z [N, Z] -> unit mean square -> depth x (dense, leaky relu) -> w [N, D]
        w -> mean + truncation * (w - mean) -> the same for all L -> [N, L, D]
    """

    def __init__(self, *, width: int, style: int, depth: int = 8) -> None:
        """Build the network with random weights.

        Args:
            width: Z.
            style: D.
            depth: How many layers.
        """
        super().__init__()
        self.width = width
        self.layers = nn.ModuleList(_layer(width if number == 0 else style, style) for number in range(depth))
        self.register_buffer("mean", torch.zeros(style))
        self.mean: Tensor

    def forward(self, z_nz: Tensor) -> Tensor:
        """Return w [N, D]."""
        x_nd = z_nz * torch.rsqrt(z_nz.square().mean(dim=1, keepdim=True) + NORM_EPSILON)
        for layer in self.layers:
            x_nd = ACTIVATION_GAIN * functional.leaky_relu(layer(x_nd), LEAKY_SLOPE)
        return x_nd

    def styles(self, z_nz: Tensor, *, num_styles: int, truncation: float = 1.0) -> Tensor:
        """Return S [N, L, D].

        Args:
            z_nz: Random vectors.
            num_styles: L.
            truncation: 1 keeps w; towards 0, pictures get more alike and better; 0 gives the mean.
        """
        w_nd = torch.lerp(self.mean, self(z_nz), truncation)
        return w_nd[:, None].expand(-1, num_styles, -1)

    @torch.no_grad()
    def measure_mean(self) -> None:
        """Set the mean to that of w over many random vectors, the same ones each time."""
        random = torch.Generator().manual_seed(MEAN_SEED)
        z_nz = torch.randn(MEAN_SAMPLES, self.width, generator=random).to(self.mean)
        self.mean.copy_(self(z_nz).mean(dim=0))


def _layer(in_features: int, out_features: int) -> nn.Linear:
    layer = nn.Linear(in_features, out_features)
    nn.init.normal_(layer.weight, std=in_features**-0.5)
    nn.init.zeros_(layer.bias)
    return layer
