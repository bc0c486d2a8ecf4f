"""What can be measured on a face's pixels, to ask whom a codec fails on; the middle of the square, where the face is.

| measure | what it is |
| --- | --- |
| `lightness` | mean L* of CIE 1976, 0 black to 100 white: of skin, hair and light together |
| `contrast` | standard deviation of L* |
| `sharpness` | mean absolute Laplacian of L* over its standard deviation |
| `side-light` | difference between the mean L* of both halves, whichever is brighter |
| `busyness` | mean absolute gradient of L* outside the middle: hair, hands, background |

Letters in shapes: N faces of H rows and W columns.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

TOP, BOTTOM, LEFT, RIGHT = 0.2, 0.85, 0.22, 0.78
"""The middle, in shares of the square: brows to lips of UTKFace's crops, and little hair."""

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of linear red, green and blue (BT.709, sRGB)."""

LEAST_DEVIATION = 1.0
"""Of L*: a flat picture has none to divide by."""


def lightness(lightness_nhw: Tensor) -> Tensor:
    """Return the mean, [N]."""
    return _middle(lightness_nhw).mean(dim=(1, 2))


def contrast(lightness_nhw: Tensor) -> Tensor:
    """Return the standard deviation, [N]."""
    return _middle(lightness_nhw).std(dim=(1, 2))


def sharpness(lightness_nhw: Tensor) -> Tensor:
    """Return the mean absolute Laplacian over the standard deviation, [N]."""
    middle_nhw = _middle(lightness_nhw)
    neighbours_nhw = (
        middle_nhw[:, :-2, 1:-1] + middle_nhw[:, 2:, 1:-1] + middle_nhw[:, 1:-1, :-2] + middle_nhw[:, 1:-1, 2:]
    )
    laplacian_nhw = 4 * middle_nhw[:, 1:-1, 1:-1] - neighbours_nhw
    return laplacian_nhw.abs().mean(dim=(1, 2)) / contrast(lightness_nhw).clamp_min(LEAST_DEVIATION)


def side_light(lightness_nhw: Tensor) -> Tensor:
    """Return by how much one half is brighter than the other, [N]."""
    middle_nhw = _middle(lightness_nhw)
    half = middle_nhw.shape[2] // 2
    return (middle_nhw[:, :, :half].mean(dim=(1, 2)) - middle_nhw[:, :, -half:].mean(dim=(1, 2))).abs()


def busyness(lightness_nhw: Tensor) -> Tensor:
    """Return the mean absolute gradient outside the middle, [N]."""
    across_nhw = functional.pad((lightness_nhw[:, :, 1:] - lightness_nhw[:, :, :-1]).abs(), (0, 1))
    down_nhw = functional.pad((lightness_nhw[:, 1:] - lightness_nhw[:, :-1]).abs(), (0, 0, 0, 1))
    is_outside_hw = torch.ones(lightness_nhw.shape[1:], dtype=torch.bool)
    _middle(is_outside_hw[None]).fill_(False)
    return (across_nhw + down_nhw)[:, is_outside_hw].mean(dim=1)


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "lightness": lightness,
    "contrast": contrast,
    "sharpness": sharpness,
    "side-light": side_light,
    "busyness": busyness,
}
"""All of them, by name; functions of L* [N, H, W]."""


def measure_pixels(name: str, faces_nchw: Tensor) -> list[float]:
    """Measure pictures, uint8 [N, 3, H, W], by a name of `MEASURES`."""
    values: list[float] = MEASURES[name](lightness_of(faces_nchw)).tolist()
    return values


def lightness_of(faces_nchw: Tensor) -> Tensor:
    """Return L* of sRGB pictures, uint8 [N, 3, H, W]: 0 to 100, [N, H, W]."""
    values_nchw = faces_nchw.float() / 255
    linear_nchw = torch.where(values_nchw <= 0.04045, values_nchw / 12.92, ((values_nchw + 0.055) / 1.055) ** 2.4)
    luminance_nhw = torch.einsum("nchw,c->nhw", linear_nchw, torch.tensor(LUMINANCE))
    is_dark_nhw = luminance_nhw <= (6 / 29) ** 3
    return torch.where(is_dark_nhw, (29 / 3) ** 3 * luminance_nhw, 116 * luminance_nhw ** (1 / 3) - 16)


def _middle(x_nhw: Tensor) -> Tensor:
    height, width = x_nhw.shape[1:]
    return x_nhw[:, round(TOP * height) : round(BOTTOM * height), round(LEFT * width) : round(RIGHT * width)]
