"""ResNet-50, cut where the codec sits: a frozen head before it, a tail after it.

He et al., CVPR 2016, arXiv 1512.03385, table 1, with the stride in each first block's 3x3 convolution, as torchvision,
MoCo and torchvision's detectors have it. Batch normalisation is folded into the convolutions, since the backbone is
never trained here. Letters in shapes: N pictures, C channels, H and W pixels.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.layers.pointwise import PointwiseConv2d

HEAD_CHANNELS = 256
"""Channels of the head's output."""

HEAD_STRIDE = 4
"""Pixels to a feature position, in both directions."""

STAGE_CHANNELS = (512, 1024, 2048)
"""Channels of layer2, layer3 and layer4, at strides 8, 16 and 32."""

POOLED_CHANNELS = 2048
"""Length of a picture's pooled vector."""

NUM_CLASSES = 1000
"""Classes of ImageNet."""

NORM_EPSILON = 1e-5
"""Of batch normalisation in torch; torchvision's first detection checkpoints have 0."""

EXPANSION = 4
"""A block's output has this many times the channels of its 3x3 convolution."""


class LayerRow(NamedTuple):
    """One of the four layers of the table."""

    name: str
    """As torchvision calls it."""
    in_channels: int
    """Channels of its input."""
    width: int
    """Channels of its 3x3 convolutions."""
    num_blocks: int
    """Blocks, of which the first has the stride."""
    stride: int
    """Of the whole layer."""


LAYER_ROWS = (
    LayerRow("layer1", 64, 64, 3, 1),
    LayerRow("layer2", 256, 128, 4, 2),
    LayerRow("layer3", 512, 256, 6, 2),
    LayerRow("layer4", 1024, 512, 3, 2),
)
"""What follows the stem; the first belongs to the head, the others are the tail's stages."""


class Bottleneck(nn.Module):
    """Narrow, filter, widen, add; batch normalisation already folded in.

    ::

        x [N, C, H, W] -> 1x1, relu -> 3x3 / stride, relu -> 1x1 -> + -> relu [N, 4 width, H/stride, W/stride]
             `-------------- 1x1 / stride where the shape changes --'
    """

    def __init__(self, in_channels: int, width: int, *, stride: int) -> None:
        """Build a block with random weights."""
        super().__init__()
        self.stride = stride
        self.narrow = PointwiseConv2d(in_channels, width)
        self.filter = nn.Conv2d(width, width, 3, stride=stride, padding=1)
        self.widen = PointwiseConv2d(width, EXPANSION * width)
        changes_shape = stride != 1 or in_channels != EXPANSION * width
        self.shortcut = PointwiseConv2d(in_channels, EXPANSION * width) if changes_shape else None

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's output."""
        out_nchw = functional.relu(self.narrow(x_nchw), inplace=True)
        out_nchw = functional.relu(self.filter(out_nchw), inplace=True)
        out_nchw = self.widen(out_nchw)
        if self.shortcut is not None:
            # A 1x1 convolution of stride s reads every s-th position.
            x_nchw = self.shortcut(x_nchw[:, :, :: self.stride, :: self.stride])
        return functional.relu(out_nchw + x_nchw, inplace=True)


class Tail(nn.Module):
    """What follows the codec: the stages whose features must survive, and the classifier, where the weights have one.

    ::

        f [N, 256, H/4, W/4] -> layer2 -> layer3 -> layer4 -> mean -> logits [N, 1000]
                                   |         |         |
                             [N,512,H/8] [N,1024,H/16] [N,2048,H/32]
    """

    def __init__(self, *, has_classifier: bool = True) -> None:
        """Build the tail with random weights."""
        super().__init__()
        self.stages = nn.ModuleList(_build_layer(row) for row in LAYER_ROWS[1:])
        self.classifier = nn.Linear(POOLED_CHANNELS, NUM_CLASSES) if has_classifier else None

    def forward(self, features_nchw: Tensor, num_stages: int = 3) -> tuple[list[Tensor], Tensor | None]:
        """Return the outputs of the first `num_stages` stages, and the logits if all ran and there is a classifier."""
        outputs: list[Tensor] = []
        for stage in self.stages[:num_stages]:
            features_nchw = stage(features_nchw)
            outputs.append(features_nchw)
        if num_stages < len(self.stages) or self.classifier is None:
            return outputs, None
        return outputs, self.classifier(pool(features_nchw))


def pool(deepest_nchw: Tensor) -> Tensor:
    """Return the pooled vectors [N, 2048] of layer4's output."""
    return deepest_nchw.mean(dim=(2, 3))


def build_head() -> nn.Sequential:
    """Build the head: RGB [N, 3, H, W], ImageNet-normalised -> features [N, 256, ceil(H/4), ceil(W/4)].

    ::

        x -> 7x7 / 2, relu [N, 64, H/2, W/2] -> max 3x3 / 2 [N, 64, H/4, W/4] -> layer1
    """
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, stride=2, padding=3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        _build_layer(LAYER_ROWS[0]),
    )


def _build_layer(row: LayerRow) -> nn.Sequential:
    first = Bottleneck(row.in_channels, row.width, stride=row.stride)
    others = (Bottleneck(EXPANSION * row.width, row.width, stride=1) for _ in range(row.num_blocks - 1))
    return nn.Sequential(first, *others)


def load_head(state: Mapping[str, Tensor], *, norm_epsilon: float = NORM_EPSILON) -> nn.Sequential:
    """Build the head from weights under torchvision's names, frozen.

    Args:
        state: What `read_backbone` gives; more than the head may be in it.
        norm_epsilon: Of the batch normalisation that the weights were trained with.

    Raises:
        KeyError: A tensor is missing.
        RuntimeError: A tensor has another shape.
        ValueError: A variance is not positive.
    """
    head = build_head()
    stem, layer1 = head[0], head[3]
    assert isinstance(stem, nn.Conv2d)
    assert isinstance(layer1, nn.Sequential)
    _fill(stem, state, names=("conv1", "bn1"), norm_epsilon=norm_epsilon)
    _fill_layer(layer1, state, name="layer1", norm_epsilon=norm_epsilon)
    return head.eval().requires_grad_(False)


def load_tail(state: Mapping[str, Tensor], *, norm_epsilon: float = NORM_EPSILON) -> Tail:
    """Build the tail from weights under torchvision's names, frozen; with a classifier if they have one.

    Raises:
        KeyError: A tensor is missing.
        RuntimeError: A tensor has another shape.
        ValueError: A variance is not positive.
    """
    tail = Tail(has_classifier="fc.weight" in state)
    for row, stage in zip(LAYER_ROWS[1:], tail.stages, strict=True):
        assert isinstance(stage, nn.Sequential)
        _fill_layer(stage, state, name=row.name, norm_epsilon=norm_epsilon)
    if tail.classifier is not None:
        tail.classifier.load_state_dict({"weight": state["fc.weight"], "bias": state["fc.bias"]})
    return tail.eval().requires_grad_(False)


def _fill_layer(layer: nn.Sequential, state: Mapping[str, Tensor], *, name: str, norm_epsilon: float) -> None:
    for number, block in enumerate(layer):
        assert isinstance(block, Bottleneck)
        for convolution, *names in _convolutions(block):
            conv_name, norm_name = (f"{name}.{number}.{part}" for part in names)
            _fill(convolution, state, names=(conv_name, norm_name), norm_epsilon=norm_epsilon)


def _convolutions(block: Bottleneck) -> Iterator[tuple[nn.Conv2d, str, str]]:
    """Give each convolution of a block with torchvision's names for it and for its batch normalisation."""
    yield block.narrow, "conv1", "bn1"
    yield block.filter, "conv2", "bn2"
    yield block.widen, "conv3", "bn3"
    if block.shortcut is not None:
        yield block.shortcut, "downsample.0", "downsample.1"


def _fill(convolution: nn.Conv2d, state: Mapping[str, Tensor], *, names: tuple[str, str], norm_epsilon: float) -> None:
    """Give a convolution its weights and those of the batch normalisation that follows it."""
    conv_name, norm_name = names
    variance = state[f"{norm_name}.running_var"].double() + norm_epsilon
    if not bool((variance > 0).all()):
        raise ValueError(f"{norm_name}.running_var must be positive, its least is {float(variance.min()):g}")
    scale = state[f"{norm_name}.weight"].double() / torch.sqrt(variance)
    weight = state[f"{conv_name}.weight"].double() * scale[:, None, None, None]
    bias = state[f"{norm_name}.bias"].double() - state[f"{norm_name}.running_mean"].double() * scale
    convolution.load_state_dict({"weight": weight.float(), "bias": bias.float()})
