"""How far a restored picture is from what went in, and from where on it is outside the domain.

A generator restores pictures of its domain; of any other it makes something else, and nothing in the stream would say
so. The encoder therefore restores what it codes and measures. Two plain measures, neither of which needs a network:

| measure | what it is |
| --- | --- |
| `psnr_db` | 10 log10(255^2 / mean squared error), over R, G and B |
| `ssim` | structural similarity (Wang et al., IEEE TIP 2004) of luma, mean over windows of 7 x 7 with equal weights |

Both at the domain's resolution, over the frame's own part of the square. Letters in shapes: N pictures, H and W pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.hsc.networks import NUM_QUALITIES

SSIM_WINDOW = 7
"""Side of a window of the similarity; smaller where a picture is."""

SSIM_CONSTANTS = (0.01**2, 0.03**2)
"""Of the original paper, for values of 0 to 1."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B (BT.601)."""

LARGEST_PSNR_DB = 99.0
"""Of equal pictures."""

LIMIT_QUANTILE = 0.005
"""Share of the domain's own pictures that may lie beyond each limit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distortion:
    """Of each picture of a batch, float32 [N]."""

    psnr_db_n: Tensor
    """Peak signal to noise ratio."""
    ssim_n: Tensor
    """Structural similarity, up to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainLimits:
    """The least that pictures of the domain reach, at each quality from 1 to 8; part of a checkpoint."""

    psnr_db: tuple[float, ...]
    """Peak signal to noise ratios."""
    ssim: tuple[float, ...]
    """Structural similarities."""

    def are_outside(self, found: Distortion, *, quality: int) -> list[bool]:
        """Say of each picture of a batch whether either measure is below its limit, or no number."""
        is_inside_n = (found.psnr_db_n >= self.psnr_db[quality - 1]) & (found.ssim_n >= self.ssim[quality - 1])
        outside: list[bool] = (~is_inside_n).tolist()
        return outside


NO_LIMITS = DomainLimits(psnr_db=(0.0,) * NUM_QUALITIES, ssim=(-1.0,) * NUM_QUALITIES)
"""No picture is outside."""


def limits_of(distortions: list[Distortion]) -> DomainLimits:
    """Return the limits that follow from many of the domain's own pictures, measured at each quality."""
    return DomainLimits(
        psnr_db=tuple(_low_quantile(each.psnr_db_n) for each in distortions),
        ssim=tuple(_low_quantile(each.ssim_n) for each in distortions),
    )


def _low_quantile(values_n: Tensor) -> float:
    return float(torch.quantile(values_n.double(), LIMIT_QUANTILE))


def measure(restored_nchw: Tensor, original_nchw: Tensor) -> Distortion:
    """Compare pictures, float in about -1..1 [N, 3, H, W]."""
    restored_nchw, original_nchw = ((x_nchw.float().clamp(-1, 1) + 1) / 2 for x_nchw in (restored_nchw, original_nchw))
    error_n = (restored_nchw - original_nchw).square().mean(dim=(1, 2, 3))
    psnr_db_n = -10 * torch.log10(error_n.clamp_min(10 ** (-LARGEST_PSNR_DB / 10)))
    return Distortion(psnr_db_n=psnr_db_n.cpu(), ssim_n=_ssim(_luma(restored_nchw), _luma(original_nchw)).cpu())


def _luma(rgb_nchw: Tensor) -> Tensor:
    return (rgb_nchw * rgb_nchw.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)


def _ssim(x_n1hw: Tensor, y_n1hw: Tensor) -> Tensor:
    window = tuple(min(SSIM_WINDOW, side) for side in x_n1hw.shape[2:])
    first, second = SSIM_CONSTANTS
    parts = torch.cat([x_n1hw, y_n1hw, x_n1hw.square(), y_n1hw.square(), x_n1hw * y_n1hw], dim=1)
    x, y, xx, yy, xy = functional.avg_pool2d(parts, window, stride=1).unbind(1)
    similar_nhw = (2 * x * y + first) * (2 * (xy - x * y) + second)
    return (similar_nhw / ((x.square() + y.square() + first) * (xx - x.square() + yy - y.square() + second))).mean(
        dim=(1, 2)
    )
