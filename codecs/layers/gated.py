"""Gated depthwise block: the one residual block of the codec networks.

Letters in shapes: N pictures, C channels, H and W the height and width of the feature grid.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.layers.pointwise import PointwiseConv2d


class GatedBlock(nn.Module):
    """Mixes space with a depthwise convolution and channels with a multiplicative gate.

    The second-order case of HorNet's recursive gated convolution (Rao et al., NeurIPS 2022, arXiv 2207.14284,
    equation 3), with an activation on the gate and without normalisation: a decoder's picture must not depend on
    the statistics of its batch, and at this depth training is stable without::

        x [N, C, H, W] -> 1x1 conv -> gate, value  (each [N, C, H, W])
                          value -> depthwise k x k -> * gelu(gate) -> 1x1 conv -> + x
    """

    def __init__(self, channels: int, kernel_size: int = 7) -> None:
        """Build the block.

        Args:
            channels: C, the same at input and output.
            kernel_size: Side of the depthwise kernel, odd.
        """
        super().__init__()
        self.project_in = PointwiseConv2d(channels, 2 * channels)
        self.mix = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.project_out = PointwiseConv2d(channels, channels)
        # A block starts close to the identity: deep stacks of products learn nothing from a random start.
        nn.init.normal_(self.project_out.weight, std=0.02)
        nn.init.zeros_(self.project_out.bias)  # type: ignore[arg-type]  # torch types bias as optional

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the mixed features, the same shape as the input."""
        gate_nchw, value_nchw = self.project_in(x_nchw).chunk(2, dim=1)
        mixed_nchw: Tensor = self.project_out(self.mix(value_nchw) * functional.gelu(gate_nchw))
        return torch.add(x_nchw, mixed_nchw)
