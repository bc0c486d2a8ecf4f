"""MobileNetV2, cut where the codec sits: a frozen head before it, a tail after it.

Sandler et al., CVPR 2018, arXiv 1801.04381, table 2. Batch normalisation is folded into the convolutions, since the
backbone is never trained here; the layers are numbered as torchvision's `features`. Letters in shapes: N pictures,
C channels, H and W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from framevault.codecs.layers.pointwise import PointwiseConv2d

HEAD_LAYERS = 4
"""Layers 0..3 are the head: stride 4, 24 channels."""

HEAD_CHANNELS = 24
"""Channels of the head's output."""

HEAD_STRIDE = 4
"""Pixels to a feature position, in both directions."""

NUM_LAYERS = 19
"""Layers of the whole feature extractor: a stem, 17 inverted residuals, a last 1x1 convolution."""

STAGE_ENDS = (6, 13, 17)
"""Last layers of strides 8, 16 and 32: what the paper calls layer2, layer3 and layer4."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Per RGB channel, in 0..1: what torchvision's weights were trained with."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per RGB channel, in 0..1: what torchvision's weights were trained with."""


@dataclass(frozen=True, slots=True)
class ResidualRow:
    """One inverted residual of the table."""

    in_channels: int
    """Channels of its input."""
    out_channels: int
    """Channels of its output; with stride 1 and equal channels there is a skip connection."""
    stride: int
    """1 or 2."""
    expansion: int
    """Hidden channels are this times the input's; 1 means no expanding convolution."""


def _residual_rows() -> tuple[ResidualRow, ...]:
    """Write out table 2 of the paper, a row a layer."""
    rows: list[ResidualRow] = []
    in_channels = 32
    for expansion, out_channels, repeats, first_stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            rows.append(ResidualRow(in_channels, out_channels, stride, expansion))
            in_channels = out_channels
    return tuple(rows)


RESIDUAL_ROWS = _residual_rows()
"""Layers 1..17."""


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project back; batch normalisation already folded in.

    ::

        x [N, C, H, W] -> 1x1, relu6 -> depthwise 3x3 / stride, relu6 -> 1x1 -> (+ x) [N, C', H/stride, W/stride]
    """

    def __init__(self, row: ResidualRow) -> None:
        """Build the layer that a row of the table describes."""
        super().__init__()
        hidden = row.in_channels * row.expansion
        self.has_skip = row.stride == 1 and row.in_channels == row.out_channels
        expand = [PointwiseConv2d(row.in_channels, hidden), nn.ReLU6(inplace=True)] if row.expansion != 1 else []
        self.body = nn.Sequential(
            *expand,
            nn.Conv2d(hidden, hidden, 3, stride=row.stride, padding=1, groups=hidden),
            nn.ReLU6(inplace=True),
            PointwiseConv2d(hidden, row.out_channels),
        )

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the layer's output."""
        out_nchw: Tensor = self.body(x_nchw)
        return x_nchw + out_nchw if self.has_skip else out_nchw


def build_layers(start: int, stop: int) -> nn.Sequential:
    """Build layers `start` to `stop - 1` of the feature extractor, with random weights."""
    return nn.Sequential(*(_build_layer(number) for number in range(start, stop)))


def _build_layer(number: int) -> nn.Module:
    if number == 0:
        return nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU6(inplace=True))
    if number == NUM_LAYERS - 1:
        return nn.Sequential(PointwiseConv2d(320, 1280), nn.ReLU6(inplace=True))
    return InvertedResidual(RESIDUAL_ROWS[number - 1])


def build_head() -> nn.Sequential:
    """Build the head: RGB [N, 3, H, W], ImageNet-normalised -> features [N, 24, H/4, W/4]."""
    return build_layers(0, HEAD_LAYERS)


class Tail(nn.Module):
    """What follows the codec when training it: the stages whose features must survive, and the classifier.

    ::

        f [N, 24, H/4, W/4] -> layers 4-6 -> 7-13 -> 14-17 -> 18 -> mean -> logits [N, 1000]
                                  |            |        |
                              [N,32,H/8]   [N,96,H/16] [N,320,H/32]
    """

    def __init__(self) -> None:
        """Build the tail with random weights."""
        super().__init__()
        starts = (HEAD_LAYERS, *(end + 1 for end in STAGE_ENDS[:-1]))
        self.stages = nn.ModuleList(build_layers(start, end + 1) for start, end in zip(starts, STAGE_ENDS, strict=True))
        self.last = build_layers(NUM_LAYERS - 1, NUM_LAYERS)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, features_nchw: Tensor, num_stages: int = 3) -> tuple[list[Tensor], Tensor | None]:
        """Return the outputs of the first `num_stages` stages, and the logits where all three ran."""
        outputs: list[Tensor] = []
        for stage in self.stages[:num_stages]:
            features_nchw = stage(features_nchw)
            outputs.append(features_nchw)
        if num_stages < len(self.stages):
            return outputs, None
        pooled_nc = self.last(features_nchw).mean(dim=(2, 3))
        return outputs, self.classifier(pooled_nc)


def fold_layers(state: Mapping[str, Tensor], layers: Sequence[nn.Module], first_layer: int) -> None:
    """Fill `layers` with torchvision's weights, batch normalisation folded in.

    Args:
        state: torchvision's `mobilenet_v2` state dict.
        layers: What `build_layers` made.
        first_layer: The number of `layers[0]` in torchvision's `features`.

    Raises:
        KeyError: A tensor is missing from `state`.
        RuntimeError: A tensor has another shape than the layer's.
    """
    for number, layer in enumerate(layers, start=first_layer):
        convolutions = [module for module in layer.modules() if isinstance(module, nn.Conv2d)]
        names = _torchvision_convolutions(number)
        for convolution, (conv_name, norm_name) in zip(convolutions, names, strict=True):
            weight, bias = _fold(state, conv_name, norm_name)
            convolution.load_state_dict({"weight": weight, "bias": bias})


def _torchvision_convolutions(number: int) -> list[tuple[str, str]]:
    """Name each convolution of a layer and its batch normalisation, in order."""
    prefix = f"features.{number}"
    if number in (0, NUM_LAYERS - 1):
        return [(f"{prefix}.0", f"{prefix}.1")]
    activated = 1 if RESIDUAL_ROWS[number - 1].expansion == 1 else 2
    names = [(f"{prefix}.conv.{i}.0", f"{prefix}.conv.{i}.1") for i in range(activated)]
    return [*names, (f"{prefix}.conv.{activated}", f"{prefix}.conv.{activated + 1}")]


def _fold(state: Mapping[str, Tensor], conv_name: str, norm_name: str) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of a convolution followed by its batch normalisation, epsilon 1e-5."""
    scale = state[f"{norm_name}.weight"].double() / torch.sqrt(state[f"{norm_name}.running_var"].double() + 1e-5)
    weight = state[f"{conv_name}.weight"].double() * scale[:, None, None, None]
    bias = state[f"{norm_name}.bias"].double() - state[f"{norm_name}.running_mean"].double() * scale
    return weight.float(), bias.float()


def load_tail(state: Mapping[str, Tensor]) -> Tail:
    """Build the tail from torchvision's state dict, frozen."""
    tail = Tail()
    first = HEAD_LAYERS
    for stage in tail.stages:
        assert isinstance(stage, nn.Sequential)
        fold_layers(state, list(stage), first)
        first += len(stage)
    fold_layers(state, list(tail.last), NUM_LAYERS - 1)
    tail.classifier.load_state_dict({"weight": state["classifier.1.weight"], "bias": state["classifier.1.bias"]})
    return tail.eval().requires_grad_(False)


def load_head(state: Mapping[str, Tensor]) -> nn.Sequential:
    """Build the head from torchvision's state dict, frozen."""
    head = build_head()
    fold_layers(state, list(head), 0)
    return head.eval().requires_grad_(False)
