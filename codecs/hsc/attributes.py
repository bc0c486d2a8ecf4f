"""What can be read from a face's pixels without any network: labels for directions that need no teacher.

Letters in shapes: N aligned faces of H rows and W columns.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in BT.601's luma."""

MOST_TURN = 0.15
"""Share of the width that a turned face's axis of symmetry lies from the middle, at most."""

LEAST_EDGE = 0.01
"""Added to the strength around an edge, in shares of white: where there is none, noise stays noise."""

BAND = 0.35
"""Share of the width on each side of an axis that is compared with the other side."""


def brightness(rgb_nchw: Tensor) -> Tensor:
    """Return the mean luma of pictures in 0..1, [N]."""
    return _luma(rgb_nchw).mean(dim=(1, 2))


def contrast(rgb_nchw: Tensor) -> Tensor:
    """Return the standard deviation of the luma, [N]."""
    return _luma(rgb_nchw).std(dim=(1, 2))


def saturation(rgb_nchw: Tensor) -> Tensor:
    """Return the mean distance of colours from grey, [N]."""
    return (rgb_nchw.amax(dim=1) - rgb_nchw.amin(dim=1)).mean(dim=(1, 2))


def warmth(rgb_nchw: Tensor) -> Tensor:
    """Return by how much pictures are redder than blue, [N]."""
    return (rgb_nchw[:, 0] - rgb_nchw[:, 2]).mean(dim=(1, 2))


def side_light(rgb_nchw: Tensor) -> Tensor:
    """Return by how much the right half is brighter than the left one, [N]."""
    luma_nhw = _luma(rgb_nchw)
    middle = luma_nhw.shape[2] // 2
    return luma_nhw[:, :, -middle:].mean(dim=(1, 2)) - luma_nhw[:, :, :middle].mean(dim=(1, 2))


def turn(rgb_nchw: Tensor) -> Tensor:
    """Return where the axis of symmetry lies: -1 left of the middle to 1 right of it, [N].

    Eyes are aligned to the same places, so the axis of a face that looks aside is not in the middle. Edges are
    compared, not light, which may come from a side.
    """
    edges_nhw = _edges(_luma(rgb_nchw))
    width = edges_nhw.shape[2]
    most, reach = max(1, round(MOST_TURN * width)), max(1, round(BAND * width))
    axes = range(width // 2 - most, width // 2 + most + 1)
    errors_nk = torch.stack([_mirror_error(edges_nhw, axis, reach) for axis in axes], dim=1)
    # A soft minimum: the mean axis, weighted by how well it mirrors.
    spread_n1 = errors_nk.std(dim=1, keepdim=True).clamp_min(1e-6)
    weights_nk = torch.softmax(-4 * errors_nk / spread_n1, dim=1)
    return weights_nk @ torch.linspace(-1, 1, len(axes), device=rgb_nchw.device)


ATTRIBUTES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "brightness": (brightness, "brighter"),
    "contrast": (contrast, "more contrast"),
    "saturation": (saturation, "stronger colours"),
    "warmth": (warmth, "warmer light, more red and less blue"),
    "side-light": (side_light, "light from the right-hand side of the picture"),
    "turn": (turn, "the face turns to the right-hand side of the picture"),
}
"""What each measures, and what more of it does. Functions take RGB in 0..1, [N, 3, H, W]."""


def _luma(rgb_nchw: Tensor) -> Tensor:
    weights_c = torch.tensor(LUMA, device=rgb_nchw.device)
    return torch.einsum("nchw,c->nhw", rgb_nchw, weights_c)


def _edges(luma_nhw: Tensor) -> Tensor:
    """Return how strong edges are, over their strength around, [N, H, W]."""
    padded_nhw = functional.pad(luma_nhw, (1, 1, 1, 1), mode="replicate")
    across_nhw = padded_nhw[:, 1:-1, 2:] - padded_nhw[:, 1:-1, :-2]
    down_nhw = padded_nhw[:, 2:, 1:-1] - padded_nhw[:, :-2, 1:-1]
    strength_nhw = (across_nhw.square() + down_nhw.square()).sqrt()
    side = 2 * (luma_nhw.shape[2] // 8) + 1
    around_nhw = functional.avg_pool2d(strength_nhw, side, stride=1, padding=side // 2, count_include_pad=False)
    return strength_nhw / (around_nhw + LEAST_EDGE)


def _mirror_error(edges_nhw: Tensor, axis: int, reach: int) -> Tensor:
    """Return the mean difference of the columns left of an axis and those right of it, mirrored, [N]."""
    reach = min(reach, axis, edges_nhw.shape[2] - axis)
    left_nhw, right_nhw = edges_nhw[:, :, axis - reach : axis], edges_nhw[:, :, axis : axis + reach]
    return (left_nhw - right_nhw.flip(2)).abs().mean(dim=(1, 2))
