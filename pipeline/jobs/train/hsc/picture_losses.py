"""How far restored pictures are from their originals: a loss a picture.

The mean absolute difference, that of averaged colours, and the perceptual network's features. Letters in shapes: N
pictures, R the resolution.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from framevault.pipeline.jobs.train.hsc.perceptual import PerceptualNetwork, feature_distance

ABSOLUTE_WEIGHT = 6.0
"""Of the mean absolute difference."""

COLOUR_WEIGHTS = {4: 6.0, 16: 12.0}
"""Of the mean absolute difference of both colour components (ITU-R BT.601) over squares of so many pixels a side.

Nothing else asks for them: brightness has nearly all of a difference of RGB, and perceptual networks care little about
colours. Without, a quarter of the colours' variance was lost where a thirtieth of the brightness's was.
"""

_COLOUR = ((-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureLosses:
    """Of a batch."""

    absolute_n: Tensor
    """Mean absolute difference in units of -1..1."""
    colours_n: Tensor
    """That of averaged colours, with its weights."""
    features_n: Tensor
    """The perceptual network's distance."""
    distortion_n: Tensor
    """All of them, with their weights."""

    def figures(self) -> dict[str, float]:
        """Return the batch's means by name."""
        return {
            "absolute": float(self.absolute_n.detach().mean()),
            "colours": float(self.colours_n.detach().mean()),
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
    difference_nchw = restored_nchw - original_nchw
    absolute_n = difference_nchw.abs().mean(dim=(1, 2, 3))
    colours_n = _colour_loss(difference_nchw)
    features_n = feature_distance(perceptual(restored_nchw), target)
    return PictureLosses(
        absolute_n=absolute_n,
        colours_n=colours_n,
        features_n=features_n,
        distortion_n=ABSOLUTE_WEIGHT * absolute_n + colours_n + perceptual_weight * features_n,
    )


def _colour_loss(difference_nchw: Tensor) -> Tensor:
    """Return the weighted loss of averaged colours, [N]; pictures smaller than a square have none of its size."""
    colour_n2hw = torch.einsum("ij,njhw->nihw", difference_nchw.new_tensor(_COLOUR), difference_nchw)
    side = min(colour_n2hw.shape[2:])
    losses = [
        weight * functional.avg_pool2d(colour_n2hw, size).abs().mean(dim=(1, 2, 3))
        for size, weight in COLOUR_WEIGHTS.items()
        if size <= side
    ]
    return torch.stack(losses).sum(dim=0)
