"""Styles and features of the training pictures, found once: what the stage `codec` learns from.

Letters in shapes: P pictures, L styles of D values, C channels of the feature, s its side.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.hsc.networks import HscNetworks
from framevault.pipeline.jobs.train.hsc.squares import centre_square, signed
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.precision import reduced

AT_ONCE = 16
"""Pictures that go through the encoder together."""

BYTES_A_VALUE = 2
"""They are kept as float16."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LatentCache:
    """What the inversion encoder found; never changed, so threads may share it."""

    styles_pld: Tensor
    """S, float16 [P, L, D] on the CPU."""
    features_pchw: Tensor
    """f, float16 [P, C, s, s] on the CPU."""
    styles_variance: float
    """Of all values of S."""
    features_variance: float
    """Of all values of f."""

    def __len__(self) -> int:
        return len(self.styles_pld)

    def draw(self, rng: np.random.Generator, *, num_pictures: int) -> tuple[Tensor, Tensor]:
        """Return styles and features of pictures chosen at random, float32 on the CPU."""
        numbers = torch.from_numpy(rng.integers(len(self), size=num_pictures))
        return self.styles_pld[numbers].float(), self.features_pchw[numbers].float()


@torch.no_grad()
def find_latents(
    networks: HscNetworks, pictures: PictureSet, *, device: torch.device, precision: torch.dtype, room_bytes: int
) -> LatentCache:
    """Run the encoder over pictures, each as it is and mirrored, as many as there is room for.

    Args:
        networks: On the device; the encoder in evaluation mode.
        pictures: The middle square of each is taken.
        device: Where it computes.
        precision: What it computes in.
        room_bytes: For styles and features.
    """
    config = networks.config
    values = config.num_styles * config.style + config.split_channels * config.split**2
    num_pairs = max(1, min(len(pictures), room_bytes // (2 * BYTES_A_VALUE * values)))
    numbers = np.linspace(0, len(pictures) - 1, num_pairs).round().astype(int)
    styles: list[Tensor] = []
    features: list[Tensor] = []
    for first in range(0, num_pairs, AT_ONCE):
        chosen = [pictures.rgb_hwc[number] for number in numbers[first : first + AT_ONCE]]
        squares_nchw = torch.cat([centre_square(rgb_hwc, side=config.resolution) for rgb_hwc in chosen])
        both_nchw = torch.cat([squares_nchw, squares_nchw.flip(3)])
        with reduced(device, precision):
            styles_nld, features_nchw = networks.inversion(signed(both_nchw, device))
        styles.append(styles_nld.half().cpu())
        features.append(features_nchw.half().cpu())
    styles_pld, features_pchw = torch.cat(styles), torch.cat(features)
    return LatentCache(
        styles_pld=styles_pld,
        features_pchw=features_pchw,
        styles_variance=_variance(styles_pld),
        features_variance=_variance(features_pchw),
    )


def _variance(values: Tensor) -> float:
    """Return the variance of at most the first thousand pictures' values: enough, and no copy of all in float32."""
    return max(float(values[:1000].float().var()), torch.finfo(torch.float32).tiny)
