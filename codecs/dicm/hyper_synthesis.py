"""h_s in integers: the same scale indices and means on every device, batch size and library version.

One wrong index destroys the rest of a frame's stream, so nothing here may depend on how sums are ordered. All values
are integers held in float64; every partial sum stays below 2^53 and is therefore exact. Convolutions are written as
unfold and matrix product, because libraries may choose Winograd or FFT forms, which are not exact.

Letters in shapes: N pictures, M latent channels, Z hyper-latent channels, H and W pixels (multiples of 64).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.dicm.networks import NUM_SCALES, DicmConfig, HyperSynthesis

WEIGHT_BITS = 12
"""Weights are multiples of 2^-12."""

ACTIVATION_BITS = 8
"""Activations are multiples of 2^-8."""

ACTIVATION_LIMIT = 2**20
"""Activations are clamped to it: 4096 in the trained networks' units, which they never reach."""

MEAN_STEP = 1 / 16
"""Means are multiples of it."""

MEAN_LIMIT = 2**15
"""Largest magnitude of a mean, in steps."""

HYPER_LIMIT = 2**15
"""Largest magnitude of a value of z that h_s takes; larger ones are clamped alike on both sides."""


def to_fixed_point(h_s: HyperSynthesis) -> dict[str, Tensor]:
    """Return the integer weights and biases of a trained h_s, as int32 tensors.

    The first layer takes whole numbers (z), the others activations in 2^-8, so their biases have other steps.
    """
    tensors: dict[str, Tensor] = {}
    input_bits = 0
    for name in ("expand_1", "expand_2", "project"):
        layer = getattr(h_s, name)
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        tensors[f"{name}.weight"] = torch.round(layer.weight.detach().double() * 2**WEIGHT_BITS).int()
        bias = layer.bias.detach().double() * 2.0 ** (WEIGHT_BITS + input_bits)
        tensors[f"{name}.bias"] = torch.round(bias).int()
        input_bits = ACTIVATION_BITS
    return tensors


class FixedPointHyperSynthesis(nn.Module):
    """The integer form that both encoder and decoder run."""

    def __init__(self, config: DicmConfig) -> None:
        """Build with zero weights; `load_state_dict` takes what `to_fixed_point` made."""
        super().__init__()
        self.expand_1 = _FixedPointLayer(config.hyper, 4 * 96, kernel_size=3)
        self.expand_2 = _FixedPointLayer(96, 4 * config.latent, kernel_size=1)
        self.project = _FixedPointLayer(config.latent, 2 * config.latent, kernel_size=1)

    def load_fixed_point(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the int32 tensors of a checkpoint.

        Raises:
            RuntimeError: Names or shapes are others.
            ValueError: The weights are so large that a sum could be inexact.
        """
        self.load_state_dict({name: tensor.double() for name, tensor in tensors.items()})
        for name, layer in self.named_children():
            assert isinstance(layer, _FixedPointLayer)
            worst = float((layer.weight.abs().sum(dim=(1, 2, 3)) * ACTIVATION_LIMIT + layer.bias.abs()).max())
            if worst >= 2**53:
                raise ValueError(f"h_s layer {name}: a sum may reach {worst:.3g}, must stay below 2^53 to be exact")

    @torch.no_grad()
    def forward(self, z_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the entropy model needs.

        Args:
            z_nchw: The decoded hyper-latent, whole numbers, [N, Z, H/64, W/64].

        Returns:
            Scale indices, int32 0..63, and means in steps of 1/16, int32; each [N, M, H/16, W/16].
        """
        x_nchw = z_nchw.double().clamp(-HYPER_LIMIT, HYPER_LIMIT)
        x_nchw = _activate(self.expand_1(x_nchw), shift=WEIGHT_BITS - ACTIVATION_BITS)
        x_nchw = _activate(self.expand_2(x_nchw), shift=WEIGHT_BITS)
        index_nchw, mean_nchw = self.project(x_nchw).chunk(2, dim=1)
        index_nchw = _shift_right(index_nchw, WEIGHT_BITS + ACTIVATION_BITS).clamp(0, NUM_SCALES - 1)
        mean_nchw = _shift_right(mean_nchw, WEIGHT_BITS + ACTIVATION_BITS - 4).clamp(-MEAN_LIMIT, MEAN_LIMIT)
        return index_nchw.int(), mean_nchw.int()


class _FixedPointLayer(nn.Module):
    """A convolution over whole numbers, exact in float64."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(out_channels, dtype=torch.float64))
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, x_nchw: Tensor) -> Tensor:
        n, _, height, width = x_nchw.shape
        columns_nkp = functional.unfold(x_nchw, self.kernel_size, padding=self.kernel_size // 2)
        out_nkp = torch.matmul(self.weight.flatten(1), columns_nkp)
        return out_nkp.reshape(n, -1, height, width) + self.bias[:, None, None]


def _activate(x_nchw: Tensor, *, shift: int) -> Tensor:
    """Shuffle to twice the height and width, requantise to activations, and clamp from below (ReLU) and above."""
    return _shift_right(functional.pixel_shuffle(x_nchw, 2), shift).clamp(0, ACTIVATION_LIMIT)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Divide whole numbers by 2^bits, rounding to the nearest, halves up; exact, as both steps only move the point."""
    return torch.floor(x * 2.0**-bits + 0.5)
