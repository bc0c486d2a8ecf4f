"""Masks as run lengths against torchvision's own pasting."""

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from framevault.storage.rle import decode_mask
from framevault.workers.detectors.pasting import paste_as_rle

HEIGHT, WIDTH = 120, 170

BOXES = {
    "inside": [20.3, 30.6, 90.1, 88.9],
    "at the origin": [0.0, 0.0, 33.4, 20.2],
    "at the far corner": [100.7, 80.2, 170.0, 120.0],
    "the whole frame": [0.0, 0.0, 170.0, 120.0],
    "a sliver": [50.2, 10.1, 50.9, 110.7],
    "less than a pixel": [60.4, 60.4, 60.6, 60.6],
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_a_mask_is_what_torchvision_pastes(box: list[float]) -> None:
    masks_k1mm = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    boxes_k4 = torch.tensor([box])

    (counts,) = paste_as_rle(masks_k1mm, boxes_k4, height=HEIGHT, width=WIDTH)

    expected_hw = (paste_masks_in_image(masks_k1mm, boxes_k4, (HEIGHT, WIDTH))[0, 0] >= 0.5).numpy()
    assert np.array_equal(decode_mask(counts, height=HEIGHT, width=WIDTH), expected_hw)


def test_many_masks_are_what_torchvision_pastes_but_for_rounding() -> None:
    """A shift by whole pixels may round a coordinate the other way: one mask in ten thousand moves by a pixel."""
    generator = torch.Generator().manual_seed(1)
    corners_k22 = torch.rand(100, 2, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT])
    boxes_k4 = torch.cat([corners_k22.amin(1), corners_k22.amax(1)], dim=1)
    masks_k1mm = torch.rand(100, 1, 28, 28, generator=generator)

    found = paste_as_rle(masks_k1mm, boxes_k4, height=HEIGHT, width=WIDTH)

    expected = (paste_masks_in_image(masks_k1mm, boxes_k4, (HEIGHT, WIDTH))[:, 0] >= 0.5).numpy()
    equal = [
        np.array_equal(decode_mask(x, height=HEIGHT, width=WIDTH), y) for x, y in zip(found, expected, strict=True)
    ]
    assert sum(equal) >= 99


def test_no_objects_give_no_masks() -> None:
    assert paste_as_rle(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), height=HEIGHT, width=WIDTH) == ()
