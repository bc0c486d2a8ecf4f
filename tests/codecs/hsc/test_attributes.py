"""Attributes of pixels, on pictures whose answer is known."""

import pytest
import torch
from torch import Tensor

from framevault.codecs.hsc.attributes import ATTRIBUTES, brightness, contrast, saturation, side_light, turn, warmth


def plain(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([red, green, blue], dtype=torch.float32)[None, :, None, None].expand(1, 3, 16, 16)


def face(*, axis: int) -> Tensor:
    """Draw a grey picture that is symmetric to a column's left edge, with random features."""
    random = torch.Generator().manual_seed(9)
    half_hw = torch.rand(64, 64, generator=random)
    columns = torch.arange(64)
    distance = torch.where(columns < axis, axis - 1 - columns, columns - axis)
    return half_hw[:, distance][None, None].expand(1, 3, 64, 64)


def test_plain_colours_have_known_values() -> None:
    assert float(brightness(plain(1, 1, 1))) == pytest.approx(1)
    assert float(brightness(plain(0, 1, 0))) == pytest.approx(0.587)
    assert float(contrast(plain(0.3, 0.3, 0.3))) == pytest.approx(0, abs=1e-6)
    assert float(saturation(plain(0.9, 0.5, 0.2))) == pytest.approx(0.7)
    assert float(saturation(plain(0.4, 0.4, 0.4))) == 0
    assert float(warmth(plain(0.9, 0.5, 0.2))) == pytest.approx(0.7)


def test_light_from_the_right_is_positive() -> None:
    ramp_1chw = torch.linspace(0, 1, 16).expand(1, 3, 16, 16)

    assert float(side_light(ramp_1chw)) == pytest.approx(-float(side_light(ramp_1chw.flip(3))), abs=1e-6)
    assert float(side_light(ramp_1chw)) > 0.4


def test_the_axis_of_symmetry_is_found() -> None:
    left, middle, right = (float(turn(face(axis=axis))) for axis in (27, 32, 37))

    assert left == pytest.approx(-0.5, abs=0.15)
    assert middle == pytest.approx(0, abs=0.1)
    assert right == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_attribute_is_one_number_a_face(name: str) -> None:
    measure, about = ATTRIBUTES[name]

    values_n = measure(torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)))

    assert values_n.shape == (5,)
    assert values_n.isfinite().all()
    assert about
