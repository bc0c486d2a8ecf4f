"""Conv2Former: a large depthwise convolution weighs the values, in the place of attention.

Hou et al., "Conv2Former: A Simple Transformer-Style ConvNet for Visual Recognition", arXiv 2211.11943. Letters in
shapes: N pictures, C channels, H and W the height and width of the feature grid.
"""

from torch import Tensor, nn

from framevault.codecs.layers.channel_norm import ChannelNorm
from framevault.codecs.layers.feed_forward import FeedForward, start_near_zero
from framevault.codecs.layers.pointwise import PointwiseConv2d


class ConvolutionalModulation(nn.Module):
    """The paper's modulation (equations 3 to 5), as a residual branch.

    The weights are what an 11x11 neighbourhood says, not the similarity of two positions: the cost grows with the
    number of positions, not with its square. Equation 4 has no activation between the 1x1 and the depthwise
    convolution; the authors' code has a GELU there, and so have we::

        x [N, C, H, W] -> norm -+-> 1x1 -> gelu -> depthwise 11x11 -> weights [N, C, H, W]
                                `-> 1x1 -> values [N, C, H, W] -> * weights -> 1x1 -> + x [N, C, H, W]
    """

    def __init__(self, channels: int, kernel_size: int = 11) -> None:
        """Build the layer.

        Args:
            channels: C, the same at input and output.
            kernel_size: Side of the depthwise kernel, odd.
        """
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.weigh = nn.Sequential(
            PointwiseConv2d(channels, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels),
        )
        self.value = PointwiseConv2d(channels, channels)
        self.project_out = PointwiseConv2d(channels, channels)
        start_near_zero(self.project_out)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the modulated features, the same shape as the input."""
        normal_nchw = self.norm(x_nchw)
        modulated_nchw: Tensor = self.project_out(self.weigh(normal_nchw) * self.value(normal_nchw))
        return x_nchw + modulated_nchw


def build_conv2former_block(channels: int, *, expansion: int = 4) -> nn.Sequential:
    """Build the paper's block (figure 2d): modulation, then a feed-forward layer.

    ::

        x [N, C, H, W] -> modulation -> feed-forward -> [N, C, H, W]

    Args:
        channels: C.
        expansion: Hidden channels of the feed-forward layer over C.
    """
    return nn.Sequential(ConvolutionalModulation(channels), FeedForward(channels, expansion))
