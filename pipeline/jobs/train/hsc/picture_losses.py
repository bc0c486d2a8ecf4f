"""How far restored pictures are from their originals: a loss a picture.

4 times the mean absolute difference, and the perceptual network's features. Letters in shapes: N pictures, R the
resolution.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from framevault.pipeline.jobs.train.hsc.perceptual import PerceptualNetwork, feature_distance

ABSOLUTE_WEIGHT = 4.0
"""Of the mean absolute difference."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureLosses:
    """Of a batch."""

    absolute_n: Tensor
    """Mean absolute difference in units of -1..1."""
    features_n: Tensor
    """The perceptual network's distance."""
    distortion_n: Tensor
    """Both, with their weights."""

    def figures(self) -> dict[str, float]:
        """Return the batch's means by name."""
        return {
            "absolute": float(self.absolute_n.detach().mean()),
            "perceptual": float(self.features_n.detach().mean()),
        }


def compare_pictures(
    restored_nchw: Tensor, original_nchw: Tensor, *, perceptual: PerceptualNetwork, perceptual_weight: float
) -> PictureLosses:
    """Return the losses of restored pictures, with gradients to them.

    Args:
        restored_nchw: About -1..1, [N, 3, R, R].
        original_nchw: In -1..1.
        perceptual: Whose features are compared.
        perceptual_weight: Of their distance.
    """
    with torch.no_grad():
        target = perceptual(original_nchw)
    absolute_n = (restored_nchw - original_nchw).abs().mean(dim=(1, 2, 3))
    features_n = feature_distance(perceptual(restored_nchw), target)
    return PictureLosses(
        absolute_n=absolute_n,
        features_n=features_n,
        distortion_n=ABSOLUTE_WEIGHT * absolute_n + perceptual_weight * features_n,
    )
