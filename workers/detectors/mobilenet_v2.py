"""The shipped detector's network: MobileNetV2's tail, a small feature pyramid and an anchor-free head at stride 4.

The tail is layers 4-17 of MobileNetV2 (Sandler et al., CVPR 2018), the pyramid that of Lin et al. (CVPR 2017, arXiv
1612.03144) with nearest upsampling and separable convolutions, the head that of TTFNet (Liu et al., AAAI 2020, arXiv
1909.00700), a CenterNet that regresses a box at each position near an object's centre. We differ in that distances are
predicted as logarithms.

Letters in shapes: N pictures, C labels, h and w positions at stride 4 (h = ceil(H / 4) for pictures of H pixels).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from framevault.codecs.dicm.backbone import HEAD_CHANNELS, HEAD_LAYERS, HEAD_STRIDE, STAGE_ENDS, build_layers
from framevault.codecs.layers.pointwise import PointwiseConv2d

STAGE_CHANNELS = (32, 96, 320)
"""Channels of the tail's outputs at strides 8, 16 and 32."""

LOG_DISTANCE_LIMIT = 8.0
"""Logarithms of distances in positions are cut here: e^8 positions are 12,000 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """The sizes of the network; with the labels all that is needed to build it again."""

    num_labels: int
    """Channels of the heat map."""
    pyramid_channels: int = 96
    """Channels at strides 8, 16 and 32."""
    map_channels: int = 64
    """Channels at stride 4."""


class ConvUnit(nn.Sequential):
    """A convolution, batch normalisation while training, relu."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, groups: int = 1, is_normalised: bool
    ) -> None:
        """Build the unit; stride 1, the output as large as the input."""
        super().__init__()
        self.conv = (
            PointwiseConv2d(in_channels, out_channels)
            if kernel == 1
            else nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups)
        )
        if is_normalised:
            self.norm = nn.BatchNorm2d(out_channels, momentum=0.03)
        self.act = nn.ReLU(inplace=True)


class SeparableUnit(nn.Sequential):
    """A depthwise and a pointwise `ConvUnit`."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, is_normalised: bool) -> None:
        """Build both; `kernel` is the depthwise one's."""
        super().__init__(
            ConvUnit(in_channels, in_channels, kernel=kernel, groups=in_channels, is_normalised=is_normalised),
            ConvUnit(in_channels, out_channels, kernel=1, is_normalised=is_normalised),
        )


class DetectorNetwork(nn.Module):
    """Features at stride 4 in, a heat map for each label and the distances to a box's sides out.

    ::

        f [N, 24, h, w] -> tail 4-6 [N, 32, h/2, w/2] -> tail 7-13 [N, 96, h/4, w/4] -> tail 14-17 [N, 320, h/8, w/8]
              |                |                            |                             |
             1x1              1x1                          1x1                       1x1, 2 x separable 5x5
              |                |                            |                             |
              +<--1x1, up------+-> separable <-----up-------+-> separable <-----up--------+
              |
          separable [N, 64, h, w] -> 2 x separable -> 1x1 -> heat logits  [N, C, h, w]
                                     `-> separable -> 1x1 -> log distances to left, top, right, bottom [N, 4, h, w]
    """

    def __init__(self, shape: NetworkShape, *, is_normalised: bool = False) -> None:
        """Build the network with random weights.

        Args:
            shape: Its sizes.
            is_normalised: With batch normalisation in pyramid and head, as it is trained; shipped without.
        """
        super().__init__()
        self.shape = shape
        wide, narrow = shape.pyramid_channels, shape.map_channels
        starts = (HEAD_LAYERS, *(end + 1 for end in STAGE_ENDS[:-1]))
        self.tail = nn.ModuleList(build_layers(start, end + 1) for start, end in zip(starts, STAGE_ENDS, strict=True))
        self.laterals = nn.ModuleList(
            ConvUnit(channels, wide, kernel=1, is_normalised=is_normalised) for channels in STAGE_CHANNELS
        )
        self.context = nn.Sequential(
            *(SeparableUnit(wide, wide, kernel=5, is_normalised=is_normalised) for _ in range(2))
        )
        self.merges = nn.ModuleList(SeparableUnit(wide, wide, kernel=3, is_normalised=is_normalised) for _ in range(2))
        self.map_down = PointwiseConv2d(wide, narrow)
        self.map_lateral = ConvUnit(HEAD_CHANNELS, narrow, kernel=1, is_normalised=is_normalised)
        self.map_merge = SeparableUnit(narrow, narrow, kernel=3, is_normalised=is_normalised)
        self.heat = nn.Sequential(
            SeparableUnit(narrow, narrow, kernel=3, is_normalised=is_normalised),
            SeparableUnit(narrow, narrow, kernel=3, is_normalised=is_normalised),
            PointwiseConv2d(narrow, shape.num_labels),
        )
        self.distances = nn.Sequential(
            SeparableUnit(narrow, narrow, kernel=3, is_normalised=is_normalised), PointwiseConv2d(narrow, 4)
        )
        self._start_unsure()

    def _start_unsure(self) -> None:
        """Begin with scores of 0.01 (focal loss, arXiv 1708.02002, section 3.3) and boxes 8 positions wide."""
        for branch, bias in ((self.heat, -4.6), (self.distances, 1.4)):
            last = branch[-1]
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            nn.init.normal_(last.weight, std=0.01)
            nn.init.constant_(last.bias, bias)

    def forward(self, features_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return heat logits [N, C, h, w] and log distances [N, 4, h, w] in positions."""
        levels: list[Tensor] = []
        level_nchw = features_nchw
        for stage in self.tail:
            level_nchw = stage(level_nchw)
            levels.append(level_nchw)
        map_nchw = self.context(self.laterals[2](levels[2]))
        for number, merge in zip((1, 0), self.merges, strict=True):
            lateral_nchw = self.laterals[number](levels[number])
            map_nchw = merge(lateral_nchw + upsample_to(map_nchw, lateral_nchw))
        lateral_nchw = self.map_lateral(features_nchw)
        map_nchw = self.map_merge(lateral_nchw + upsample_to(self.map_down(map_nchw), lateral_nchw))
        return self.heat(map_nchw), self.distances(map_nchw)


def upsample_to(small_nchw: Tensor, like_nchw: Tensor) -> Tensor:
    """Double the size by repeating positions, and cut to the size of `like_nchw` (odd sizes were rounded up)."""
    doubled_nchw = F.interpolate(small_nchw, scale_factor=2.0, mode="nearest")
    return doubled_nchw[:, :, : like_nchw.shape[2], : like_nchw.shape[3]]


def boxes_from_distances(log_distances_nchw: Tensor) -> Tensor:
    """Turn log distances [N, 4, h, w] into boxes [N, 4, h, w] of x_min, y_min, x_max, y_max in pixels."""
    num_rows, num_columns = log_distances_nchw.shape[2:]
    distances_nchw = log_distances_nchw.float().clamp(-LOG_DISTANCE_LIMIT, LOG_DISTANCE_LIMIT).exp()
    xs_w = torch.arange(num_columns, device=log_distances_nchw.device, dtype=torch.float32) + 0.5
    ys_h = torch.arange(num_rows, device=log_distances_nchw.device, dtype=torch.float32)[:, None] + 0.5
    left, top, right, bottom = distances_nchw.unbind(1)
    return HEAD_STRIDE * torch.stack((xs_w - left, ys_h - top, xs_w + right, ys_h + bottom), dim=1)


def fold_normalisation(network: DetectorNetwork) -> DetectorNetwork:
    """Return a copy in evaluation mode whose batch normalisation is folded into its convolutions."""
    folded = DetectorNetwork(network.shape)
    state = {name: tensor for name, tensor in network.state_dict().items() if ".norm." not in name}
    for name, module in network.named_modules():
        if isinstance(module, ConvUnit) and "norm" in module._modules:
            fused = fuse_conv_bn_eval(module.conv.eval(), module.norm.eval())
            state[f"{name}.conv.weight"] = fused.weight.detach()
            assert fused.bias is not None
            state[f"{name}.conv.bias"] = fused.bias.detach()
    folded.load_state_dict(state)
    return folded.eval().requires_grad_(False)
