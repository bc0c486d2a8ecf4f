"""Distances between features: closed forms, and which networks there are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from framevault.pipeline.jobs.bench import face_features
from framevault.pipeline.jobs.bench.face_features import Features, frechet_distance, load_networks, make_reference
from framevault.pipeline.jobs.train.hsc import perceptual
from tests.pipeline.jobs.bench.lite_weights import write_lite_weights


class Means:
    """A network of one layer: colours as they are."""

    name = "means"

    def see(self, rgb_nchw: Tensor) -> Features:
        """Return the pixels, and their means."""
        return Features(compared=(rgb_nchw.float(),), deepest_nc=rgb_nchw.float().mean(dim=(2, 3)))


def some_pictures(num_pictures: int = 12) -> Tensor:
    return torch.randint(0, 200, (num_pictures, 3, 8, 8), generator=torch.Generator().manual_seed(4)).to(torch.uint8)


def test_the_frechet_distance_of_normal_distributions_along_axes_has_its_closed_form() -> None:
    """Independent features: the squared difference of means and of standard deviations, summed."""
    values = torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]])
    deviation = (4 / 3) ** 0.5

    found = frechet_distance(values * torch.tensor([2.0, 5]) + torch.tensor([1.0, -2]), values)

    assert found == pytest.approx(1 + 4 + (deviation * 1) ** 2 + (deviation * 4) ** 2)


def test_the_frechet_distance_needs_no_more_pictures_than_features_and_no_order() -> None:
    features_nc = torch.randn(5, 40, generator=torch.Generator().manual_seed(1))

    assert frechet_distance(features_nc, features_nc.flip(0)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features_nc + 0.5, features_nc) == pytest.approx(40 * 0.25)


def test_originals_are_no_distance_from_themselves() -> None:
    pictures_nchw = some_pictures()

    of_each, of_all = make_reference(Means(), pictures_nchw).score(pictures_nchw)

    assert of_each["distance (means)"].tolist() == [0] * 12
    assert of_each["unlikeness (means)"].abs().max() < 1e-6
    assert of_all["frechet (means)"] == pytest.approx(0, abs=1e-6)


def test_a_pictures_distance_is_its_squared_error_over_the_originals_variance() -> None:
    pictures_nchw = some_pictures()
    decoded_nchw = pictures_nchw.clone()
    decoded_nchw[9] += 10

    of_each, of_all = make_reference(Means(), pictures_nchw).score(decoded_nchw)

    expected = 100 / float(pictures_nchw.float().var())
    assert of_each["distance (means)"].tolist() == pytest.approx([0] * 9 + [expected] + [0] * 2)
    assert of_all["frechet (means)"] > 0


def test_without_weights_the_independent_network_is_left_out_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "find_weights", lambda name: None)
    monkeypatch.setattr(face_features, "find_file", lambda: None)

    networks, notes = load_networks(backbone=None, features=None)

    assert [network.name for network in networks] == ["detector"]
    assert "training loss" in notes[0]
    assert "efficientnet_lite0 is left out" in notes[1]
    assert "--features" in notes[1]


def test_with_weights_both_networks_see_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "find_weights", lambda name: None)
    path = write_lite_weights(tmp_path / "lite.pth")

    networks, _ = load_networks(backbone=None, features=path)

    assert [network.name for network in networks] == ["detector", "efficientnet_lite0"]
    for network in networks:
        with torch.inference_mode():
            seen = network.see(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
        assert [level.shape[2] for level in seen.compared] == [32, 16, 8, 4]
        assert seen.deepest_nc.shape == (2, 320)
