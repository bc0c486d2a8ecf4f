"""ContrastiveCrop: two views of a picture that both hold some of what it shows.

Peng et al., "Crafting Better Contrastive Views for Siamese Representation Learning", CVPR 2022, arXiv 2202.03278. Boxes
and crops are rows of (top, left, bottom, right) as shares of the picture, 0 to 1. Letters in shapes: N pictures, K
channels, H and W pixels, h and w the height and width of the feature grid.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class CropConfig:
    """How crops are drawn; the defaults are the paper's for ImageNet."""

    threshold: float = 0.1
    """Cells of the heat map above it belong to the object (the paper's k)."""
    concentration: float = 0.6
    """Alpha of the Beta distribution of the crops' centres: below 1, centres avoid the middle of the box, so that two
    crops of one box differ more than uniform ones do."""
    smallest_area: float = 0.2
    """Least share of the picture that a crop covers."""
    largest_area: float = 1.0
    """Greatest share."""
    largest_ratio: float = 4 / 3
    """Height over width, or the other way round, of the longest crop."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: A value is out of its range.
        """
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold must be at least 0 and below 1, got {self.threshold}")
        if self.concentration <= 0:
            raise ValueError(f"concentration must be above 0, got {self.concentration}")
        if not 0 < self.smallest_area <= self.largest_area <= 1:
            raise ValueError(f"areas must rise within 0 to 1, got {self.smallest_area} to {self.largest_area}")
        if self.largest_ratio < 1:
            raise ValueError(f"largest_ratio must be at least 1, got {self.largest_ratio}")


def heat_map(features_nkhw: Tensor) -> Tensor:
    """Return where the last stage's features are large: their sum over channels, scaled to 0..1, [N, h, w].

    A picture whose features are the same everywhere has the same heat everywhere: 1.
    """
    heat_nhw = features_nkhw.sum(dim=1)
    lowest_n11 = heat_nhw.amin(dim=(1, 2), keepdim=True)
    span_n11 = heat_nhw.amax(dim=(1, 2), keepdim=True) - lowest_n11
    return torch.where(span_n11 > 0, (heat_nhw - lowest_n11) / span_n11.clamp_min(1e-20), 1.0)


def object_boxes(heat_nhw: Tensor, threshold: float) -> Tensor:
    """Return the smallest box around all cells hotter than a threshold, [N, 4] on the CPU.

    The paper's equation 2, with whole cells: its code enlarges the map to pixels first, which moves a side by less than
    a cell.
    """
    hot_nhw = (heat_nhw > threshold).cpu()
    top_n, bottom_n = _extent(hot_nhw.any(dim=2))
    left_n, right_n = _extent(hot_nhw.any(dim=1))
    return torch.stack([top_n, left_n, bottom_n, right_n], dim=1)


def _extent(hot_nl: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the first hot cell of each row of flags starts and the last one ends, as shares of the row."""
    length = hot_nl.shape[1]
    first_n = hot_nl.int().argmax(dim=1)
    last_n = length - 1 - hot_nl.flip(1).int().argmax(dim=1)
    return first_n / length, (last_n + 1) / length


def whole_pictures(num_pictures: int) -> Tensor:
    """Return boxes for when no heat map means anything yet: the paper's first epochs crop anywhere."""
    return torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(num_pictures, 1)


def sample_crops(boxes_n4: Tensor, config: CropConfig, *, rng: np.random.Generator) -> Tensor:
    """Draw a crop of each picture, with its centre in the picture's box, [N, 4].

    Area and ratio are drawn as for any random crop, the ratio log-uniformly. The centre follows a symmetric Beta
    distribution over the box (equation 4); where a crop would leave the picture, the range of its centre is cut.

    Args:
        boxes_n4: From `object_boxes` or `whole_pictures`.
        config: Of the distributions.
        rng: Where the draws come from: the same state, the same crops.
    """
    boxes = boxes_n4.numpy().astype(np.float64)
    area_n = rng.uniform(config.smallest_area, config.largest_area, len(boxes))
    # Beyond the ratio of its own area, a crop would be longer than the picture.
    limit_n = np.minimum(math.log(config.largest_ratio), -np.log(area_n))
    ratio_n = np.exp(rng.uniform(-1.0, 1.0, len(boxes)) * limit_n)
    sides_n2 = np.stack([np.sqrt(area_n * ratio_n), np.sqrt(area_n / ratio_n)], axis=1)
    lowest_n2 = np.clip(boxes[:, :2], sides_n2 / 2, 1 - sides_n2 / 2)
    highest_n2 = np.clip(boxes[:, 2:], sides_n2 / 2, 1 - sides_n2 / 2)
    share_n2 = rng.beta(config.concentration, config.concentration, (len(boxes), 2))
    centre_n2 = lowest_n2 + share_n2 * (highest_n2 - lowest_n2)
    crops_n4 = np.concatenate([centre_n2 - sides_n2 / 2, centre_n2 + sides_n2 / 2], axis=1)
    return torch.from_numpy(crops_n4.clip(0.0, 1.0)).float()


def crop_and_resize(rgb_nchw: Tensor, crops_n4: Tensor, *, size: int) -> Tensor:
    """Cut one crop out of each picture and resize it, bilinearly, to [N, 3, size, size]."""
    top_n, left_n, bottom_n, right_n = crops_n4.to(rgb_nchw).unbind(dim=1)
    zero_n = torch.zeros_like(top_n)
    # Rows of the map from the crop's -1..1 to the picture's -1..1.
    across_n3 = torch.stack([right_n - left_n, zero_n, left_n + right_n - 1], dim=1)
    down_n3 = torch.stack([zero_n, bottom_n - top_n, top_n + bottom_n - 1], dim=1)
    grid_nhw2 = functional.affine_grid(
        torch.stack([across_n3, down_n3], dim=1), [len(rgb_nchw), 3, size, size], align_corners=False
    )
    return functional.grid_sample(rgb_nchw, grid_nhw2, padding_mode="border", align_corners=False)
