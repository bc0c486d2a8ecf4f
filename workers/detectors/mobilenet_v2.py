"""The shipped detector's network: MobileNetV2's tail, a small feature pyramid and an anchor-free head at stride 4.

The tail is layers 4-17 of MobileNetV2 (Sandler et al., CVPR 2018), the pyramid that of Lin et al. (CVPR 2017, arXiv
1612.03144) with nearest upsampling and separable convolutions, the head that of TTFNet (Liu et al., AAAI 2020, arXiv
1909.00700), a CenterNet that regresses a box at each position near an object's centre. We differ in that distances are
predicted as logarithms.

Letters in shapes: N pictures, C labels, h and w positions at stride 4 (h = ceil(H / 4) for pictures of H pixels).
"""

import copy
from collections.abc import Iterable
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
        start_unsure(heat=self.heat[-1], distances=self.distances[-1])

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
        return run_branch(self.heat, map_nchw), run_branch(self.distances, map_nchw)


def start_unsure(*, heat: nn.Module, distances: nn.Module) -> None:
    """Let a network's last convolutions begin with scores of 0.01 and boxes 8 positions wide.

    The scores are those of the focal loss (arXiv 1708.02002, section 3.3).
    """
    for last, bias in ((heat, -4.6), (distances, 1.4)):
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(last.bias, bias)


def run_branch(branch: nn.Sequential, map_nchw: Tensor) -> Tensor:
    """Run a branch of a detector's head; its last layer computes in float32, whatever the others do."""
    last_nchw: Tensor = branch[-1](branch[:-1](map_nchw).float())
    return last_nchw


def set_precision(network: nn.Module, dtype: torch.dtype, *, branches: Iterable[nn.Sequential]) -> None:
    """Let a network compute in a precision, but for the last layers of its branches, which stay in float32.

    Logarithms of distances need more than bfloat16's eight bits: they would be off by more than a percent.
    """
    network.to(dtype)
    for branch in branches:
        branch[-1].float()


def upsample_to(small_nchw: Tensor, like_nchw: Tensor) -> Tensor:
    """Double the size by repeating positions, and cut to the size of `like_nchw` (odd sizes were rounded up)."""
    doubled_nchw = F.interpolate(small_nchw, scale_factor=2.0, mode="nearest")
    return doubled_nchw[:, :, : like_nchw.shape[2], : like_nchw.shape[3]]


def boxes_from_distances(log_distances_nchw: Tensor) -> Tensor:
    """Turn log distances [N, 4, h, w] into boxes [N, 4, h, w] of x_min, y_min, x_max, y_max in pixels."""
    num_rows, num_columns = log_distances_nchw.shape[2:]
    device = log_distances_nchw.device
    return _boxes(
        log_distances_nchw, torch.arange(num_rows, device=device)[:, None], torch.arange(num_columns, device=device)
    )


def boxes_at(log_distances_p4: Tensor, rows_p: Tensor, columns_p: Tensor) -> Tensor:
    """Turn log distances [P, 4] at some positions into boxes [P, 4], as `boxes_from_distances`."""
    return _boxes(log_distances_p4, rows_p, columns_p)


def _boxes(log_distances: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return boxes, as the distances with dimension 1 of left, top, right, bottom; rows and columns fit the others."""
    distances = log_distances.float().clamp(-LOG_DISTANCE_LIMIT, LOG_DISTANCE_LIMIT).exp()
    xs, ys = columns.float() + 0.5, rows.float() + 0.5
    left, top, right, bottom = distances.unbind(1)
    return HEAD_STRIDE * torch.stack((xs - left, ys - top, xs + right, ys + bottom), dim=1)


def fold_normalisation(network: DetectorNetwork) -> DetectorNetwork:
    """Return a copy in evaluation mode whose batch normalisation is folded into its convolutions."""
    folded = DetectorNetwork(network.shape)
    folded.load_state_dict(folded_state(network))
    return folded.eval().requires_grad_(False)


def folded_state(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's tensors with the batch normalisation of its `ConvUnit`s folded into their convolutions."""
    state = {name: tensor for name, tensor in network.state_dict().items() if ".norm." not in name}
    for name, module in network.named_modules():
        if isinstance(module, ConvUnit) and "norm" in module._modules:
            # fuse_conv_bn_eval wants both in evaluation mode, and copies.
            fused = fuse_conv_bn_eval(copy.deepcopy(module.conv).eval(), copy.deepcopy(module.norm).eval())
            state[f"{name}.conv.weight"] = fused.weight.detach()
            assert fused.bias is not None
            state[f"{name}.conv.bias"] = fused.bias.detach()
    return state
