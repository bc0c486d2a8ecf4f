"""Differentiable augmentation: what lets a discriminator learn from few pictures.

Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020, arXiv 2006.10738: colour,
translation, cutout, on real and generated pictures alike, so that the generator learns none of it. Colours are those of
-1..1, as in the paper. Letters in shapes: N pictures, H and W positions.
"""

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_SHIFT = 0.125
"""Of a translation, over the side."""

CUTOUT_SIDE = 0.5
"""Of the square that is blanked, over the picture's."""


def augment(rgb_nchw: Tensor, random: torch.Generator) -> Tensor:
    """Change each picture in its own way; gradients pass.

    Args:
        rgb_nchw: Pictures in about -1..1.
        random: Says in which; on any device.
    """
    return cut_out(translate(change_colours(rgb_nchw, random), random), random)


def change_colours(rgb_nchw: Tensor, random: torch.Generator) -> Tensor:
    """Change brightness by up to 0.5 either way, saturation to 0..2 times and contrast to 0.5..1.5 times its own."""
    bright_nchw = rgb_nchw + _uniform(rgb_nchw, random) - 0.5
    grey_n1hw = bright_nchw.mean(dim=1, keepdim=True)
    vivid_nchw = torch.lerp(grey_n1hw, bright_nchw, 2 * _uniform(rgb_nchw, random))
    mean_n111 = vivid_nchw.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean_n111, vivid_nchw, 0.5 + _uniform(rgb_nchw, random))


def translate(rgb_nchw: Tensor, random: torch.Generator) -> Tensor:
    """Move each picture by up to an eighth of its side; zeros come in."""
    _, channels, height, width = rgb_nchw.shape
    padded_nchw = functional.pad(rgb_nchw, (1, 1, 1, 1))
    rows_nh = _shifted(rgb_nchw, height, random)
    columns_nw = _shifted(rgb_nchw, width, random)
    moved_nchw = padded_nchw.gather(2, rows_nh[:, None, :, None].expand(-1, channels, -1, width + 2))
    return moved_nchw.gather(3, columns_nw[:, None, None, :].expand(-1, channels, height, -1))


def cut_out(rgb_nchw: Tensor, random: torch.Generator) -> Tensor:
    """Set a square of half each picture's side to zero; its centre is anywhere in the picture."""
    _, _, height, width = rgb_nchw.shape
    is_cut_nhw = _band(rgb_nchw, height, random)[:, :, None] & _band(rgb_nchw, width, random)[:, None, :]
    return rgb_nchw * (~is_cut_nhw)[:, None]


def _uniform(rgb_nchw: Tensor, random: torch.Generator) -> Tensor:
    """Return a value of 0..1 for each picture, [N, 1, 1, 1]."""
    return torch.rand(len(rgb_nchw), 1, 1, 1, generator=random, device=random.device).to(rgb_nchw)


def _shifted(rgb_nchw: Tensor, side: int, random: torch.Generator) -> Tensor:
    """Return which position of a side, padded by one, comes to each of its positions, [N, side]."""
    largest = round(side * LARGEST_SHIFT)
    shift_n = torch.randint(-largest, largest + 1, (len(rgb_nchw),), generator=random, device=random.device)
    positions = torch.arange(1, side + 1, device=rgb_nchw.device)
    return (positions + shift_n.to(rgb_nchw.device)[:, None]).clamp(0, side + 1)


def _band(rgb_nchw: Tensor, side: int, random: torch.Generator) -> Tensor:
    """Return which positions of a side are in the square, [N, side]."""
    size = round(side * CUTOUT_SIDE)
    centre_n = torch.randint(0, side, (len(rgb_nchw),), generator=random, device=random.device)
    first_n1 = (centre_n - size // 2).to(rgb_nchw.device)[:, None]
    positions = torch.arange(side, device=rgb_nchw.device)
    return (positions >= first_n1) & (positions < first_n1 + size)
