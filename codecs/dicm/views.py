"""What makes two views of a picture differ in more than their crop: colours, blur, mirror.

The augmentation of MoCo v2 (Chen et al., arXiv 2003.04297, after SimCLR): without it, the colours of a view give away
which picture it is from, and little else is learned. Letters in shapes: N pictures, H and W pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""Grey (ITU-R BT.601) and two colour axes, in which a hue is an angle (NTSC)."""

BLUR_REACH = 4
"""Pixels that a blur reaches: two standard deviations of the widest one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewConfig:
    """How far views may differ; the defaults are MoCo v2's."""

    jitter_share: float = 0.8
    """Share of the views whose colours are changed."""
    brightness: float = 0.4
    """Greatest change of the factor on all values."""
    contrast: float = 0.4
    """Greatest change of the factor on the distance from the view's mean grey."""
    saturation: float = 0.4
    """Greatest change of the factor on the distance from each pixel's grey."""
    hue: float = 0.1
    """Greatest turn of the hues, as a share of the circle."""
    grey_share: float = 0.2
    """Share of the views without colours."""
    blur_share: float = 0.5
    """Share of the views that are blurred."""
    largest_blur: float = 2.0
    """Greatest standard deviation of the blur in pixels; the paper's, for views of 224 pixels."""
    mirror_share: float = 0.5
    """Share of the views that are mirrored."""


def vary(rgb_nchw: Tensor, config: ViewConfig, *, rng: np.random.Generator) -> Tensor:
    """Return views with other colours, some of them blurred, some mirrored; the same shape.

    Args:
        rgb_nchw: Values 0 to 1, [N, 3, H, W].
        config: How far.
        rng: Where the draws come from: the same state, the same views.
    """
    num_views = len(rgb_nchw)
    jittered_n = rng.random(num_views) < config.jitter_share
    brightness_n, contrast_n, saturation_n = (
        np.where(jittered_n, 1 + rng.uniform(-reach, reach, num_views), 1.0)
        for reach in (config.brightness, config.contrast, config.saturation)
    )
    turn_n = np.where(jittered_n, rng.uniform(-config.hue, config.hue, num_views), 0.0)
    saturation_n = np.where(rng.random(num_views) < config.grey_share, 0.0, saturation_n)
    blurred_n = rng.random(num_views) < config.blur_share
    sigma_n = np.where(blurred_n, rng.uniform(0.1, config.largest_blur, num_views), 0.0)
    mirrored_n = torch.from_numpy(rng.random(num_views) < config.mirror_share).to(rgb_nchw.device)
    coloured_nchw = turn_hues(rgb_nchw, turn_n, saturation_n)
    lit_nchw = change_light(coloured_nchw, brightness_n, contrast_n).clamp(0, 1)
    view_nchw = blur(lit_nchw, sigma_n)
    return torch.where(mirrored_n[:, None, None, None], view_nchw.flip(3), view_nchw)


def turn_hues(rgb_nchw: Tensor, turn_n: NDArray[np.float64], saturation_n: NDArray[np.float64]) -> Tensor:
    """Turn each view's hues by shares of the circle and scale its colours' distance from grey; grey stays."""
    angle_n = 2 * math.pi * turn_n
    yiq_n33 = np.zeros((len(turn_n), 3, 3))
    yiq_n33[:, 0, 0] = 1
    yiq_n33[:, 1, 1] = yiq_n33[:, 2, 2] = saturation_n * np.cos(angle_n)
    yiq_n33[:, 2, 1] = saturation_n * np.sin(angle_n)
    yiq_n33[:, 1, 2] = -yiq_n33[:, 2, 1]
    rgb_n33 = torch.from_numpy(np.linalg.inv(RGB_TO_YIQ) @ yiq_n33 @ RGB_TO_YIQ).to(rgb_nchw)
    return torch.einsum("nij,njhw->nihw", rgb_n33, rgb_nchw)


def change_light(rgb_nchw: Tensor, brightness_n: NDArray[np.float64], contrast_n: NDArray[np.float64]) -> Tensor:
    """Multiply each view, and its values' distances from its mean grey, by factors."""
    luma_3 = torch.from_numpy(RGB_TO_YIQ[0]).to(rgb_nchw)
    grey_n = torch.einsum("j,njhw->n", luma_3, rgb_nchw) / (rgb_nchw.shape[2] * rgb_nchw.shape[3])
    brightness_n111 = torch.from_numpy(brightness_n).to(rgb_nchw)[:, None, None, None]
    contrast_n111 = torch.from_numpy(contrast_n).to(rgb_nchw)[:, None, None, None]
    grey_n111 = grey_n[:, None, None, None]
    return brightness_n111 * (grey_n111 + contrast_n111 * (rgb_nchw - grey_n111))


def blur(rgb_nchw: Tensor, sigma_n: NDArray[np.float64]) -> Tensor:
    """Blur each view with a Gaussian of its own standard deviation in pixels; 0 leaves it as it is."""
    n, channels, height, width = rgb_nchw.shape
    distance_k = np.arange(-BLUR_REACH, BLUR_REACH + 1)
    # A hundredth of a pixel is a kernel of one tap.
    taps_nk = np.exp(-0.5 * (distance_k / np.maximum(sigma_n, 0.01)[:, None]) ** 2)
    taps_nk /= taps_nk.sum(axis=1, keepdims=True)
    kernel_pk = torch.from_numpy(taps_nk).to(rgb_nchw).repeat_interleave(channels, dim=0)
    planes_1phw = rgb_nchw.reshape(1, n * channels, height, width)
    padded_1phw = functional.pad(planes_1phw, (BLUR_REACH,) * 4, mode="replicate")
    across_1phw = functional.conv2d(padded_1phw, kernel_pk[:, None, None, :], groups=n * channels)
    both_1phw = functional.conv2d(across_1phw, kernel_pk[:, None, :, None], groups=n * channels)
    return both_1phw.reshape(rgb_nchw.shape)
