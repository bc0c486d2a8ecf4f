"""The second half of a transformer-style block: each position's channels are mixed by themselves.

Letters in shapes: N pictures, C channels, E expansion, H and W the height and width of the feature grid.
"""

from torch import Tensor, nn

from framevault.codecs.layers.channel_norm import ChannelNorm
from framevault.codecs.layers.pointwise import PointwiseConv2d


def start_near_zero(projection: nn.Conv2d) -> None:
    """Give a residual branch's last layer small weights and no bias, so that its block starts near the identity.

    The papers scale their branches by a learned factor that starts at 1e-6 and trains for 300 epochs to grow. A codec's
    training is short: small weights start nearly as quiet and learn at once.
    """
    nn.init.normal_(projection.weight, std=0.02)
    if projection.bias is not None:
        nn.init.zeros_(projection.bias)


class FeedForward(nn.Module):
    """Residual two-layer perceptron on each position (Vaswani et al., NeurIPS 2017, arXiv 1706.03762, section 3.3).

    ::

        x [N, C, H, W] -> norm -> 1x1 -> [N, E*C, H, W] -> gelu -> 1x1 -> + x [N, C, H, W]
    """

    def __init__(self, channels: int, expansion: int = 4, *, is_normalised: bool = True) -> None:
        """Build the layer.

        Args:
            channels: C, the same at input and output.
            expansion: E, hidden channels over channels.
            is_normalised: Whether the branch starts with a `ChannelNorm`; without, it sees the features as they are.
        """
        super().__init__()
        norm = ChannelNorm(channels) if is_normalised else nn.Identity()
        project_out = PointwiseConv2d(expansion * channels, channels)
        start_near_zero(project_out)
        self.branch = nn.Sequential(norm, PointwiseConv2d(channels, expansion * channels), nn.GELU(), project_out)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the mixed features, the same shape as the input."""
        mixed_nchw: Tensor = self.branch(x_nchw)
        return x_nchw + mixed_nchw
