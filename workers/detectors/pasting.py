"""From Mask R-CNN's small masks to COCO's run lengths of masks as large as the frame.

Letters in shapes: K objects, m positions of a mask within its box.
"""

import math

from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from framevault.storage.rle import encode_mask

THRESHOLD = 0.5
"""A pixel belongs to an object from this probability on: torchvision's own advice."""

MARGIN = 0.05
"""Share of a box's side that its mask may stand out: torchvision's is one of 28 positions, half on each side."""


def paste_as_rle(masks_k1mm: Tensor, boxes_k4: Tensor, *, height: int, width: int) -> tuple[str, ...]:
    """Return the masks of one frame's objects as COCO's compressed counts.

    Only the part of the frame around each box is made: a hundred masks of a 4K frame would take 3.3 GB.

    Args:
        masks_k1mm: Probabilities within each box.
        boxes_k4: The boxes, in pixels.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.
    """
    return tuple(
        _paste_one(masks_k1mm[n : n + 1].cpu(), boxes_k4[n : n + 1].cpu(), height=height, width=width)
        for n in range(len(boxes_k4))
    )


def _paste_one(mask_k1mm: Tensor, box_k4: Tensor, *, height: int, width: int) -> str:
    x_min, y_min, x_max, y_max = (float(x) for x in box_k4[0])
    left, right = _span(x_min, x_max, width)
    top, bottom = _span(y_min, y_max, height)
    shifted_k4 = box_k4 - box_k4.new_tensor([left, top, left, top])
    part_11hw = paste_masks_in_image(mask_k1mm, shifted_k4, (bottom - top, right - left))
    part_hw = (part_11hw[0, 0] >= THRESHOLD).numpy()
    return encode_mask(part_hw, height=height, width=width, top=top, left=left)


def _span(low: float, high: float, side: int) -> tuple[int, int]:
    """Return the pixels, first and end, that an object's mask may touch in one direction."""
    margin = MARGIN * (high - low) + 2
    return max(0, math.floor(low - margin)), min(side, math.ceil(high + margin))
