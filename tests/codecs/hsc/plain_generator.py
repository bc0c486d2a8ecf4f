"""StyleGAN2's generator written from the paper, slowly: one picture at a time, with filters of its own, in float64.

Karras et al., CVPR 2020, arXiv 1912.04958: equations 1 and 3, figure 7; resampling as zero insertion, then a finite
impulse response. Letters in shapes: I and O channels, D width of a style, L styles, H and W positions, k taps.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
LOW_PASS = torch.outer(TAPS, TAPS) / 64


def correlate(x_ihw: Tensor, weight_oikk: Tensor) -> Tensor:
    """Slide filters over features without padding: a sum over taps."""
    height, width = (side - weight_oikk.shape[-1] + 1 for side in x_ihw.shape[1:])
    out_ohw = torch.zeros(len(weight_oikk), height, width, dtype=torch.float64)
    for row in range(weight_oikk.shape[2]):
        for column in range(weight_oikk.shape[3]):
            window_ihw = x_ihw[:, row : row + height, column : column + width]
            out_ohw += torch.einsum("oi,ihw->ohw", weight_oikk[:, :, row, column], window_ihw)
    return out_ohw


def insert_zeros(x_ihw: Tensor) -> Tensor:
    """Put a zero between each two values of a side, and none after the last: 2 H - 1 of H."""
    channels, height, width = x_ihw.shape
    out_ihw = torch.zeros(channels, 2 * height - 1, 2 * width - 1, dtype=torch.float64)
    out_ihw[:, ::2, ::2] = x_ihw
    return out_ihw


def low_pass(x_ihw: Tensor, *, before: int, after: int, gain: float) -> Tensor:
    """Pad with zeros and filter each channel."""
    padded_ihw = functional.pad(x_ihw, (before, after, before, after))
    return torch.cat([correlate(channel_hw[None], gain * LOW_PASS[None, None]) for channel_hw in padded_ihw])


def upsample(x_ihw: Tensor) -> Tensor:
    """Double a side: zeros after each value, then the filter with 2 of them before and 1 after."""
    return low_pass(functional.pad(insert_zeros(x_ihw), (0, 1, 0, 1)), before=2, after=1, gain=4)


def modulate(weight_oikk: Tensor, scale_i: Tensor) -> Tensor:
    """Equation 1."""
    return weight_oikk * scale_i[None, :, None, None]


def demodulate(weight_oikk: Tensor) -> Tensor:
    """Equation 3."""
    return weight_oikk / (weight_oikk.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()


def convolve(x_ihw: Tensor, weight_oikk: Tensor) -> Tensor:
    """A 3x3 layer that keeps the side."""
    return correlate(functional.pad(x_ihw, (1, 1, 1, 1)), weight_oikk)


def convolve_up(x_ihw: Tensor, weight_oikk: Tensor) -> Tensor:
    """A 3x3 layer that doubles the side: each value spreads the filter over twice as fine a grid, then the low-pass."""
    wide_ohw = correlate(functional.pad(insert_zeros(x_ihw), (2, 2, 2, 2)), weight_oikk.flip(2, 3))
    return low_pass(wide_ohw, before=1, after=1, gain=4)


def layer(
    x_ihw: Tensor, weight_oikk: Tensor, scale_i: Tensor, noise_hw: Tensor, bias_o: Tensor, *, up: bool = False
) -> Tensor:
    """A whole layer; the noise comes with its strength."""
    weight_oikk = demodulate(modulate(weight_oikk, scale_i))
    out_ohw = (convolve_up if up else convolve)(x_ihw, weight_oikk)
    out_ohw = out_ohw + noise_hw + bias_o[:, None, None]
    return functional.leaky_relu(out_ohw, 0.2) * 2**0.5


def to_rgb(x_ihw: Tensor, weight_oikk: Tensor, scale_i: Tensor, bias_o: Tensor) -> Tensor:
    """The colours of a resolution: modulated, not demodulated."""
    return correlate(x_ihw, modulate(weight_oikk, scale_i)) + bias_o[:, None, None]


def generate(state: Mapping[str, Tensor], styles_ld: Tensor, *, feature_ihw: Tensor | None = None) -> Tensor:
    """Return the colours [3, R, R] of one picture, from our own generator's tensors.

    A feature takes the place of the generator's own after the block of its side.
    """
    tensors = {name: tensor.double() for name, tensor in state.items()}
    styles_ld = styles_ld.double()

    def run(name: str, x_ihw: Tensor, style_d: Tensor, *, up: bool = False) -> Tensor:
        return layer(
            x_ihw,
            tensors[f"{name}.conv.weight"],
            tensors[f"{name}.conv.affine.weight"] @ style_d + tensors[f"{name}.conv.affine.bias"],
            tensors[f"{name}.noise_strength"] * tensors[f"{name}.noise"][0, 0],
            tensors[f"{name}.bias"],
            up=up,
        )

    def colours(name: str, x_ihw: Tensor, style_d: Tensor) -> Tensor:
        scale_i = tensors[f"{name}.conv.affine.weight"] @ style_d + tensors[f"{name}.conv.affine.bias"]
        return to_rgb(x_ihw, tensors[f"{name}.conv.weight"], scale_i, tensors[f"{name}.bias"])

    x_ihw = run("first", tensors["constant"][0], styles_ld[0])
    rgb_3hw = colours("first_rgb", x_ihw, styles_ld[1])
    for number in range(len(styles_ld) // 2 - 1):
        block, first = f"blocks.{number}", 1 + 2 * number
        x_ihw = run(f"{block}.conv_up", x_ihw, styles_ld[first], up=True)
        x_ihw = run(f"{block}.conv", x_ihw, styles_ld[first + 1])
        rgb_3hw = upsample(rgb_3hw) + colours(f"{block}.to_rgb", x_ihw, styles_ld[first + 2])
        if feature_ihw is not None and x_ihw.shape == feature_ihw.shape:
            x_ihw = feature_ihw.double()
    return rgb_3hw
