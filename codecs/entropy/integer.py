"""Networks of whole numbers: the same values on every device, batch size, thread count and library version.

A decoder must compute exactly the probabilities that the encoder used, and floating-point sums depend on their order
(CompressAI issues 279, 309, 320; DCVC-RT, CVPR 2025, arXiv 2502.20762, solves it in the same way). All values here are
integers held in float32. For each output channel::

    input_limit * sum |weight| + |bias| + 2^(shift - 1) < 2^24

so that every partial sum, in whatever order, is an integer that float32 holds exactly. Convolutions are written as
unfold and matrix product, because libraries may choose Winograd or FFT forms, which divide. Weights stay below 2^11:
half-precision matrix units with float32 sums give the same integers.

Letters in shapes: N pictures, I and O channels, k the kernel's side, H and W positions.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

SUM_LIMIT = 2**24
"""Integers up to it are exact in float32."""

WEIGHT_LIMIT = 2**11 - 1
"""Largest magnitude of a weight: exact in float16."""

LARGEST_SHIFT = 20
"""Bits that requantisation drops, at most."""

ACTIVATION_LIMIT = 255
"""Hidden activations are 0 to this: eight bits."""

SIGNED_LIMIT = 127
"""Inputs that carry a sign (latents, context) are clamped to it on both sides."""

STORED_TYPES = (torch.int16, torch.int32, torch.uint8)
"""Of a layer's weights, biases and shifts in a checkpoint."""

_MOST_PRODUCTS = 2**16
"""Of weights and inputs, int64, to be summed up at a time: they stay in a processor's cache."""

_EXACT_PRECISIONS = ("none", "ieee")


class ConvolutionFactory(Protocol):
    """Makes one layer of a network: `IntConv2d` to run it, `RoundedConv2d` to train it."""

    def __call__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, input_limit: int, low: int, high: int
    ) -> nn.Module:
        """Make a layer; the arguments are `IntConv2d`'s."""
        ...


class IntConv2d(nn.Module):
    """A convolution with requantisation, exact in float32.

    ::

        x [N, I, H, W], whole numbers -> pad with zeros, conv, + bias -> (+ 2^(shift-1)) >> shift -> clamp
                                                                          [N, O, H, W], whole numbers
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, input_limit: int, low: int, high: int
    ) -> None:
        """Build the layer with zero weights; `load_integers` fills it.

        Args:
            in_channels: I.
            out_channels: O.
            kernel_size: k, odd; the output has the input's height and width.
            input_limit: Largest magnitude of an input; the caller sees to it.
            low: Outputs are clamped from below, 0 for a ReLU.
            high: And from above.
        """
        super().__init__()
        self.kernel_size = kernel_size
        self.input_limit = input_limit
        self.low = low
        self.high = high
        self.in_channels = in_channels
        self.register_buffer("weight", torch.zeros(out_channels, in_channels * kernel_size**2))
        self.register_buffer("bias", torch.zeros(out_channels, 1))
        self.register_buffer("scale", torch.ones(out_channels, 1))
        self.weight: Tensor
        self.bias: Tensor
        self.scale: Tensor

    @property
    def stored_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of what `load_integers` takes: [O, I, k, k], [O], [O]."""
        out_channels = len(self.bias)
        return (out_channels, self.in_channels, self.kernel_size, self.kernel_size), (out_channels,), (out_channels,)

    def load_integers(self, weight_oikk: Tensor, bias_o: Tensor, shift_o: Tensor) -> None:
        """Take a checkpoint's integers.

        Args:
            weight_oikk: int16 [O, I, k, k].
            bias_o: int32 [O].
            shift_o: uint8 [O], 1 to 20.

        Raises:
            ValueError: Their types or shapes are others, or a sum could leave the range in which float32 is exact.
        """
        if (types := [tensor.dtype for tensor in (weight_oikk, bias_o, shift_o)]) != list(STORED_TYPES):
            raise ValueError(f"weight, bias, shift must be {list(STORED_TYPES)}, got {types}")
        if (found := tuple(tuple(tensor.shape) for tensor in (weight_oikk, bias_o, shift_o))) != self.stored_shapes:
            expected, got = (", ".join(str(list(shape)) for shape in shapes) for shapes in (self.stored_shapes, found))
            raise ValueError(f"weight, bias, shift must be {expected}, got [{got}]")
        shift = shift_o.long()
        if not bool(((shift >= 1) & (shift <= LARGEST_SHIFT)).all()):
            raise ValueError(f"shifts must be 1 to {LARGEST_SHIFT}, got {sorted(set(shift.tolist()))}")
        bias = bias_o.long() + (1 << (shift - 1))
        magnitude_oikk = weight_oikk.long().abs_()
        worst = magnitude_oikk.sum(dim=(1, 2, 3)) * self.input_limit + bias_o.long().abs() + (1 << (shift - 1))
        largest = int(magnitude_oikk.max())
        if largest > WEIGHT_LIMIT or int(worst.max()) >= SUM_LIMIT:
            raise ValueError(
                f"weights must be at most {WEIGHT_LIMIT} and sums below 2^24, got {largest} "
                f"and {int(worst.max())} in channel {int(worst.argmax())}"
            )
        self.weight.copy_(weight_oikk.flatten(1))
        self.bias.copy_(bias[:, None])
        self.scale.copy_(2.0 ** -shift.double()[:, None])

    def to_integers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `load_integers` took."""
        shift_o = torch.round(-torch.log2(self.scale[:, 0].double())).long()
        bias_o = self.bias[:, 0].long() - (1 << (shift_o - 1))
        weight_oikk = self.weight.reshape(len(bias_o), self.in_channels, self.kernel_size, self.kernel_size)
        return weight_oikk.short(), bias_o.int(), shift_o.byte()

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the layer's output, contiguous."""
        n, _, height, width = x_nchw.shape
        sums_nop = torch.matmul(self.weight, self._columns(x_nchw)).add_(self.bias)
        return sums_nop.mul_(self.scale).floor_().clamp_(self.low, self.high).reshape(n, -1, height, width)

    def check(self) -> None:
        """Compare the layer's sums, on its device, with the same in int64.

        Raises:
            RuntimeError: They differ: something computes with less than float32.
        """
        x_nchw = _loud_input(self.in_channels, self.input_limit).to(self.weight.device)
        sums_nop = torch.matmul(self.weight, self._columns(x_nchw)).add_(self.bias).cpu()
        columns_kp = self._columns(x_nchw.cpu())[0].long()
        # A sum of products instead of a matrix product: integers have none that is fast everywhere. Some channels at a
        # time: all products would be 36 times as large as the weights in their file.
        channels = torch.split(self.weight.cpu(), max(1, _MOST_PRODUCTS // columns_kp.numel()))
        products = ((weight_ok.long()[:, :, None] * columns_kp).sum(dim=1) for weight_ok in channels)
        exact_op = torch.cat(list(products)) + self.bias.cpu().long()
        if not torch.equal(sums_nop[0].long(), exact_op):
            wrong = int((sums_nop[0].long() != exact_op).sum())
            raise RuntimeError(f"{wrong} of {exact_op.numel()} sums on {self.weight.device} are not exact")

    def _columns(self, x_nchw: Tensor) -> Tensor:
        """Return what each output position sees, [N, I k k, H W]."""
        if self.kernel_size == 1:
            return x_nchw.flatten(2)
        return functional.unfold(x_nchw, self.kernel_size, padding=self.kernel_size // 2)


def _loud_input(channels: int, limit: int) -> Tensor:
    """Return whole numbers of all magnitudes up to a limit, [1, channels, 3, 3], the same on every machine."""
    numbers = torch.arange(channels * 9, dtype=torch.int64)
    return ((numbers * 7919 + 31) % (2 * limit + 1) - limit).float().reshape(1, channels, 3, 3)


LAYER_PARTS = ("weight", "bias", "shift")
"""What a checkpoint stores of a layer, in the order of `load_integers`."""


def integer_layers(networks: nn.Module) -> dict[str, IntConv2d]:
    """Return the integer layers of a network, by name."""
    return {name: layer for name, layer in networks.named_modules() if isinstance(layer, IntConv2d)}


def layer_shapes(networks: nn.Module, prefix: str) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the tensors that `layer_tensors` gives."""
    return {
        f"{prefix}.{name}.{part}": shape
        for name, layer in integer_layers(networks).items()
        for part, shape in zip(LAYER_PARTS, layer.stored_shapes, strict=True)
    }


def layer_tensors(networks: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return the integers of all layers, as `load_layers` takes them."""
    return {
        f"{prefix}.{name}.{part}": tensor
        for name, layer in integer_layers(networks).items()
        for part, tensor in zip(LAYER_PARTS, layer.to_integers(), strict=True)
    }


def load_layers(networks: nn.Module, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Fill all layers from a checkpoint's tensors.

    Raises:
        KeyError: One is missing.
        ValueError: One has another shape or type, or sums could be inexact; names the layer.
    """
    for name, layer in integer_layers(networks).items():
        try:
            layer.load_integers(*(tensors[f"{prefix}.{name}.{part}"] for part in LAYER_PARTS))
        except ValueError as error:
            raise ValueError(f"{prefix}.{name}: {error}") from error


def check_layers(networks: nn.Module) -> None:
    """Check that every integer layer of a network computes, on its device, exact sums.

    Raises:
        RuntimeError: One does not; names it.
    """
    for name, layer in integer_layers(networks).items():
        try:
            layer.check()
        except RuntimeError as error:
            raise RuntimeError(f"layer {name}: {error}") from error


def shuffle_up(x_nchw: Tensor) -> Tensor:
    """Turn four channels into a 2x2 block of positions: [N, 4C, H, W] -> [N, C, 2H, 2W] (Shi et al., CVPR 2016)."""
    return functional.pixel_shuffle(x_nchw, 2)


def check_exact_matmul(device: torch.device) -> None:
    """Check that this process lets float32 matrix products be float32.

    Raises:
        RuntimeError: TF32 or bfloat16 products, or autocast, are switched on.
    """
    # What torch.set_float32_matmul_precision, allow_tf32 and fp32_precision all end in; none of them shows the others.
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    precision = backend.matmul.fp32_precision
    autocast = torch.is_autocast_enabled(device.type)
    if precision not in _EXACT_PRECISIONS or autocast:
        raise RuntimeError(
            "the entropy model needs exact float32 matrix products, but this process computes them on "
            f"{device.type!r} with precision {precision!r}{' and autocast' if autocast else ''}: "
            "call torch.set_float32_matmul_precision('highest') and leave autocast around the codec"
        )
