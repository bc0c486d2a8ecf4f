"""Tests of the training pictures that are made of labelled ones."""

import numpy as np
import pytest
from numpy.typing import NDArray

from framevault.workers.detectors.augmentation import (
    LabelledPicture,
    compose_canvas,
    cut_tile,
    split_canvas,
    vary_colours,
)
from framevault.workers.detectors.training import Annotation, BlindArea

RED = np.array([255, 0, 0], np.uint8)


def picture_with_a_red_object(box: tuple[int, int, int, int] = (60, 40, 120, 90)) -> LabelledPicture:
    """Make a grey picture of 200 x 150 pixels with a red rectangle, which is labelled 3."""
    rgb_hwc = np.full((150, 200, 3), 128, np.uint8)
    rgb_hwc[box[1] : box[3], box[0] : box[2]] = RED
    annotation = Annotation(
        boxes_k4=np.array([box], np.float32), labels_k=np.array([3]), weights_k=np.array([0.75], np.float32)
    )
    return LabelledPicture(rgb_hwc=rgb_hwc, annotation=annotation)


def red_box(rgb_hwc: NDArray[np.uint8]) -> list[int]:
    """Return where the red pixels are."""
    rows, columns = np.nonzero((rgb_hwc[..., 0] > 200) & (rgb_hwc[..., 1] < 60))
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def test_boxes_follow_the_picture_through_every_cut() -> None:
    num_examples = 0
    for seed in range(40):
        tile = cut_tile(picture_with_a_red_object(), np.random.default_rng(seed), height=96, width=128)

        assert tile.rgb_hwc.shape == (96, 128, 3)
        for box in tile.annotation.boxes_k4:
            num_examples += 1
            # Resampling blurs the rectangle's border by about a pixel, by two where it is enlarged twice.
            np.testing.assert_allclose(red_box(tile.rgb_hwc), box, atol=2.5)
    assert num_examples > 10


def test_labels_and_weights_stay_with_their_box() -> None:
    tile = cut_tile(picture_with_a_red_object((0, 0, 200, 150)), np.random.default_rng(0), height=96, width=128)

    assert tile.annotation.labels_k.tolist() == [3]
    assert tile.annotation.weights_k.tolist() == [0.75]


def test_an_object_that_is_mostly_cut_off_becomes_a_blind_area() -> None:
    num_blind = 0
    for seed in range(60):
        tile = cut_tile(picture_with_a_red_object((0, 0, 40, 40)), np.random.default_rng(seed), height=64, width=64)

        if len(tile.annotation.boxes_k4) == 0 and (tile.rgb_hwc[..., 1] < 20).any():
            (area,) = tile.annotation.blind_areas
            assert (area.first_label, area.end_label, area.weight) == (3, 4, 0.0)
            num_blind += 1
    assert num_blind > 0


def test_blind_areas_move_with_the_picture() -> None:
    plain = picture_with_a_red_object()
    area = BlindArea(first_label=0, end_label=2, box=(60, 40, 120, 90), weight=0.5)
    annotation = Annotation(
        boxes_k4=plain.annotation.boxes_k4,
        labels_k=plain.annotation.labels_k,
        weights_k=plain.annotation.weights_k,
        blind_areas=(area,),
    )

    tile = cut_tile(
        LabelledPicture(rgb_hwc=plain.rgb_hwc, annotation=annotation), np.random.default_rng(1), height=96, width=128
    )

    moved = tile.annotation.blind_areas[-1]
    assert (moved.first_label, moved.end_label, moved.weight) == (0, 2, 0.5)
    np.testing.assert_allclose(moved.box, red_box(tile.rgb_hwc), atol=3)


@pytest.mark.parametrize("seed", range(8))
def test_the_tiles_cover_the_canvas_once(seed: int) -> None:
    covered_hw = np.zeros((96, 128), int)

    for left, top, right, bottom in split_canvas(np.random.default_rng(seed), height=96, width=128):
        covered_hw[top:bottom, left:right] += 1

    assert (covered_hw == 1).all()


def test_a_canvas_keeps_each_box_over_its_object() -> None:
    for seed in range(20):
        canvas = compose_canvas(picture_with_a_red_object, np.random.default_rng(seed), height=192, width=256)

        assert canvas.rgb_hwc.shape == (192, 256, 3)
        for x_min, y_min, x_max, y_max in canvas.annotation.boxes_k4.round().astype(int):
            inside_hwc = canvas.rgb_hwc[y_min:y_max, x_min:x_max].astype(int)
            assert np.abs(inside_hwc - RED).mean() < 40


def test_a_picture_smaller_than_the_canvas_is_enlarged() -> None:
    canvas = compose_canvas(picture_with_a_red_object, np.random.default_rng(0), height=384, width=512)

    assert canvas.rgb_hwc.shape == (384, 512, 3)


def test_the_same_seed_gives_the_same_canvas() -> None:
    first, second = (
        compose_canvas(picture_with_a_red_object, np.random.default_rng(5), height=96, width=128) for _ in range(2)
    )

    np.testing.assert_array_equal(first.rgb_hwc, second.rgb_hwc)
    np.testing.assert_array_equal(first.annotation.boxes_k4, second.annotation.boxes_k4)


def test_colours_change_but_shapes_stay() -> None:
    picture = picture_with_a_red_object()

    varied_hwc = vary_colours(picture.rgb_hwc, np.random.default_rng(3))

    assert varied_hwc.dtype == np.dtype(np.uint8)
    assert not np.array_equal(varied_hwc, picture.rgb_hwc)
    is_object_hw = picture.rgb_hwc[..., 1] == 0
    assert len(np.unique(varied_hwc[is_object_hw], axis=0)) == 1
    assert len(np.unique(varied_hwc[~is_object_hw], axis=0)) == 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_tiles_are_mirrored_as_often_as_is_asked_for(share: float) -> None:
    rgb_hwc = np.zeros((64, 96, 3), np.uint8)
    rgb_hwc[:, :] = np.linspace(0, 250, 96, dtype=np.uint8)[None, :, None]  # brighter to the right
    nothing = Annotation(
        boxes_k4=np.zeros((0, 4), np.float32), labels_k=np.zeros(0, np.int64), weights_k=np.zeros(0, np.float32)
    )
    picture = LabelledPicture(rgb_hwc=rgb_hwc, annotation=nothing)

    tiles = [
        cut_tile(picture, np.random.default_rng(seed), height=32, width=32, mirrored_share=share) for seed in range(8)
    ]

    assert {bool(tile.rgb_hwc[:, 0].mean() > tile.rgb_hwc[:, -1].mean()) for tile in tiles} == {share == 1}
