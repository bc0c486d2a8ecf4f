"""From a trainable layer to its integers, and training that already feels the rounding.

`RoundedConv2d` is `IntConv2d` for training: its activations are in the same units (whole numbers, rounded with the
gradient let through: Bengio et al., arXiv 1308.3432), its weights are floats. In its exact mode the weights are rounded
as conversion rounds them, and the outputs equal the integer layer's; so nothing changes when training ends.

Letters in shapes: N pictures, I and O channels, k the kernel's side, H and W positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.entropy.integer import LARGEST_SHIFT, SUM_LIMIT, WEIGHT_LIMIT, integer_layers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerLayer:
    """One layer as a checkpoint stores it."""

    weight_oikk: Tensor
    """int16 [O, I, k, k]."""
    bias_o: Tensor
    """int32 [O]."""
    shift_o: Tensor
    """uint8 [O]: the weights are multiples of 2^-shift."""


def quantise(weight_oikk: Tensor, bias_o: Tensor, *, input_limit: int) -> IntegerLayer:
    """Round a layer's weights to the finest power-of-two step, channel by channel, at which all sums stay exact.

    Args:
        weight_oikk: Float weights [O, I, k, k], in the units of the activations.
        bias_o: Float biases [O].
        input_limit: Largest magnitude of an input.

    Raises:
        ValueError: A value is no number, or so large that no step will do; the message names the output channel.
    """
    weight, bias = weight_oikk.detach().double(), bias_o.detach().double()
    finite = torch.isfinite(weight).all(dim=(1, 2, 3)) & torch.isfinite(bias)
    if not bool(finite.all()):
        raise ValueError(f"output channel {int((~finite).long().argmax())} has a weight or bias that is no number")
    shift_o = torch.zeros(len(bias), dtype=torch.long, device=bias.device)
    for shift in range(1, LARGEST_SHIFT + 1):
        integers = torch.round(weight * 2.0**shift).abs()
        worst = integers.sum(dim=(1, 2, 3)) * input_limit + torch.round(bias * 2.0**shift).abs() + 2.0 ** (shift - 1)
        shift_o[(worst < SUM_LIMIT) & (integers.amax(dim=(1, 2, 3)) <= WEIGHT_LIMIT)] = shift
    if not bool((shift_o > 0).all()):
        raise ValueError(f"the weights of output channel {int(shift_o.argmin())} are too large for exact sums")
    step_o = 2.0 ** shift_o.double()
    return IntegerLayer(
        weight_oikk=torch.round(weight * step_o[:, None, None, None]).short(),
        bias_o=torch.round(bias * step_o).int(),
        shift_o=shift_o.byte(),
    )


class RoundedConv2d(nn.Module):
    """The trainable form of `IntConv2d`, same inputs and outputs."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, input_limit: int, low: int, high: int
    ) -> None:
        """Build the layer with random weights; the arguments are `IntConv2d`'s."""
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.input_limit = input_limit
        self.low = low
        self.high = high
        self.is_exact = False
        """Whether weights are rounded too: slower, for the end of training and for tests."""

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return whole numbers, with the gradient of the unrounded layer."""
        weight_oikk, bias_o = self.conv.weight, self.conv.bias
        assert bias_o is not None
        if self.is_exact:
            layer = quantise(weight_oikk, bias_o, input_limit=self.input_limit)
            step_o = 2.0 ** -layer.shift_o.to(weight_oikk.dtype)
            weight_oikk = _replace(weight_oikk, layer.weight_oikk * step_o[:, None, None, None])
            bias_o = _replace(bias_o, layer.bias_o * step_o)
        out_nchw = functional.conv2d(x_nchw, weight_oikk, bias_o, padding=self.conv.padding)
        return _replace(out_nchw, torch.floor(out_nchw + 0.5)).clamp(self.low, self.high)

    def to_integers(self) -> IntegerLayer:
        """Return what `IntConv2d.load_integers` takes."""
        assert self.conv.bias is not None
        return quantise(self.conv.weight, self.conv.bias, input_limit=self.input_limit)


def _replace(x: Tensor, value: Tensor) -> Tensor:
    """Return other values, with the gradient of `x`."""
    return x + (value - x).detach()


def convert(trained: nn.Module, running: nn.Module) -> None:
    """Fill every `IntConv2d` of a network with the integers of the `RoundedConv2d` of the same name.

    Raises:
        ValueError: A layer's weights can't be made exact; names the layer.
    """
    layers = dict(trained.named_modules())
    for name, layer in integer_layers(running).items():
        source = layers[name]
        assert isinstance(source, RoundedConv2d)
        try:
            integers = source.to_integers()
        except ValueError as error:
            raise ValueError(f"layer {name}: {error}") from error
        layer.load_integers(integers.weight_oikk, integers.bias_o, integers.shift_o)
