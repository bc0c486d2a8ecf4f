"""Normalisation of each position over its channels.

Letters in shapes: N pictures, C channels, H and W the height and width of the feature grid.
"""

from torch import Tensor, nn
from torch.nn import functional


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation (Ba et al., 2016, arXiv 1607.06450) over the channels of an image-shaped tensor.

    Each position has its own mean and variance, so the result depends neither on the batch nor on the size of the
    picture. Channels-last features are a matrix [N*H*W, C] already::

        x [N, C, H, W] -> view [N, H, W, C] -> (x - mean_C) / sqrt(var_C + eps) * weight + bias -> view [N, C, H, W]
    """

    def __init__(self, channels: int) -> None:
        """Build the layer as the identity on normalised features.

        Args:
            channels: C.
        """
        super().__init__(channels, eps=1e-6)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the normalised features, the same shape; channels-last in memory if the input is."""
        x_nhwc = x_nchw.permute(0, 2, 3, 1)
        normal_nhwc = functional.layer_norm(x_nhwc, self.normalized_shape, self.weight, self.bias, self.eps)
        return normal_nhwc.permute(0, 3, 1, 2)
