"""ContrastiveCrop, against numbers worked out here."""

import numpy as np
import pytest
import torch

from framevault.codecs.dicm.semantic_crops import (
    CropConfig,
    crop_and_resize,
    heat_map,
    object_boxes,
    sample_crops,
    whole_pictures,
)


def test_the_heat_map_is_the_scaled_sum_over_channels() -> None:
    """Sums of 1, 3, 5 and 2 over two channels: (sum - 1) / 4."""
    features = torch.tensor([[[1.0, 1.0], [2.0, 0.0]], [[0.0, 2.0], [3.0, 2.0]]])[None]

    assert heat_map(features).tolist() == [[[0.0, 0.5], [1.0, 0.25]]]


def test_a_picture_without_any_difference_is_hot_everywhere() -> None:
    heat = heat_map(torch.full((2, 3, 4, 5), 7.0))

    assert bool((heat == 1).all())
    assert object_boxes(heat, 0.1).tolist() == [[0, 0, 1, 1]] * 2


def test_a_box_spans_all_cells_above_the_threshold() -> None:
    heat = torch.zeros(2, 4, 8)
    heat[0, 1, 2] = 0.3
    heat[0, 2, 5] = 0.2
    heat[0, 0, 0] = 0.1  # at the threshold is not above it
    heat[1, 3, 7] = 1.0

    boxes = object_boxes(heat, 0.1)

    assert boxes.tolist() == [[0.25, 0.25, 0.75, 0.75], [0.75, 0.875, 1, 1]]


def test_crops_stay_inside_and_have_the_drawn_areas_and_ratios() -> None:
    config = CropConfig(smallest_area=0.1, largest_area=0.6, largest_ratio=2)

    crops = sample_crops(whole_pictures(500), config, rng=np.random.default_rng(0))

    height, width = crops[:, 2] - crops[:, 0], crops[:, 3] - crops[:, 1]
    area, ratio = height * width, height / width
    assert float(crops.min()) >= 0
    assert float(crops.max()) <= 1
    assert [float(area.min()), float(area.max())] == pytest.approx([0.1, 0.6], abs=0.01)
    assert [float(ratio.log2().min()), float(ratio.log2().max())] == pytest.approx([-1, 1], abs=0.06)


def test_centres_lie_in_the_box_or_as_near_as_the_picture_allows() -> None:
    config = CropConfig(smallest_area=0.16, largest_area=0.16, largest_ratio=1)
    middle, corner = [0.4, 0.45, 0.6, 0.5], [0.0, 0.9, 0.1, 1.0]

    crops = sample_crops(torch.tensor([middle, corner] * 100), config, rng=np.random.default_rng(0))

    centre = (crops[:, :2] + crops[:, 2:]) / 2
    rows, columns = centre[0::2, 0], centre[0::2, 1]
    assert rows.min() > 0.4 - 1e-6
    assert rows.max() < 0.6 + 1e-6
    assert columns.min() > 0.45 - 1e-6
    assert columns.max() < 0.5 + 1e-6
    # A side of 0.4 fits the corner in one way only.
    torch.testing.assert_close(centre[1::2], torch.tensor([[0.2, 0.8]]).expand(100, -1))


def test_centres_avoid_the_middle_of_the_box() -> None:
    """For alpha 0.6 the share of a Beta distribution between 0.25 and 0.75 is 0.38; a uniform one has 0.5."""
    config = CropConfig(smallest_area=0.01, largest_area=0.01, largest_ratio=1)

    crops = sample_crops(torch.tensor([[0.3, 0.3, 0.7, 0.7]]).expand(4000, -1), config, rng=np.random.default_rng(0))

    share = ((crops[:, :2] + crops[:, 2:]) / 2 - 0.3) / 0.4
    assert ((share > 0.25) & (share < 0.75)).float().mean() == pytest.approx(0.38, abs=0.03)


def test_the_same_generator_draws_the_same_crops() -> None:
    first, second = (sample_crops(whole_pictures(3), CropConfig(), rng=np.random.default_rng(4)) for _ in range(2))

    assert torch.equal(first, second)


def test_a_crop_is_cut_where_it_says() -> None:
    """A picture whose red is its row and whose green is its column, of 8 x 12 pixels."""
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(12.0), indexing="ij")
    picture = torch.stack([row, column, torch.zeros(8, 12)])[None]

    # Rows 2 to 6, columns 3 to 9: output centres lie 2 rows and 3 columns apart, the first at 3 and 4.5.
    view = crop_and_resize(picture, torch.tensor([[0.25, 0.25, 0.75, 0.75]]), size=2)

    # Pixel i's centre is at i + 1/2.
    torch.testing.assert_close(view[0, 0], torch.tensor([[2.5, 2.5], [4.5, 4.5]]))
    torch.testing.assert_close(view[0, 1], torch.tensor([[4.0, 7.0], [4.0, 7.0]]))


def test_the_whole_picture_at_its_own_size_is_itself() -> None:
    torch.manual_seed(0)
    picture = torch.rand(2, 3, 16, 16)

    torch.testing.assert_close(crop_and_resize(picture, whole_pictures(2), size=16), picture)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 1.0}, "threshold must be at least 0 and below 1, got 1.0"),
        ({"concentration": 0.0}, "concentration must be above 0, got 0.0"),
        ({"smallest_area": 0.5, "largest_area": 0.4}, "got 0.5 to 0.4"),
        ({"largest_ratio": 0.5}, "largest_ratio must be at least 1, got 0.5"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CropConfig(**values)
