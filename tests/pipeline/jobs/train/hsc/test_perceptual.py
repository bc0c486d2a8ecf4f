"""Whose features are compared, and what their distance says."""

from pathlib import Path

import pytest
import torch
from torchvision.models import mobilenet_v2

from framevault.codecs.errors import CheckpointError
from framevault.pipeline.jobs.train.hsc import perceptual
from framevault.pipeline.jobs.train.hsc.perceptual import feature_distance, make_perceptual, unlikeness


def some_pictures(num_pictures: int = 2) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(num_pictures, 3, 64, 64) * 2 - 1


def test_without_weights_the_shipped_ones_are_taken_under_their_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "find_weights", lambda name: None)

    network = make_perceptual(None, precision=torch.float32)

    levels = network(some_pictures(), is_deep=True)
    assert network.name == "detector"
    assert [level.shape[1:] for level in levels.compared] == [(16, 32, 32), (24, 16, 16), (32, 8, 8), (96, 4, 4)]
    assert levels.deepest_nc is not None
    assert levels.deepest_nc.shape == (2, 320)


def test_a_file_of_ones_own_gives_what_torchvisions_network_gives(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = mobilenet_v2().eval()
    torch.save(model.state_dict(), tmp_path / "mine.pth")

    network = make_perceptual(str(tmp_path / "mine.pth"), precision=torch.float32)

    rgb_nchw = some_pictures()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised_nchw = ((rgb_nchw + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        expected = [model.features[: end + 1](normalised_nchw) for end in (1, 3, 6, 13)]
        deepest_nc = model.features[:18](normalised_nchw).mean(dim=(2, 3))
    levels = network(rgb_nchw, is_deep=True)
    assert network.name == "mobilenet_v2"
    for mine, theirs in zip((*levels.compared, levels.deepest_nc), (*expected, deepest_nc), strict=True):
        # Batch normalisation is folded into the weights: float32 rounds another way.
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_a_backbone_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gone"):
        make_perceptual(str(tmp_path / "gone.pth"), precision=torch.float32)


def test_another_backbone_is_refused() -> None:
    with pytest.raises(CheckpointError, match="resnet50"):
        make_perceptual("resnet50_v1", precision=torch.float32)


def test_a_picture_is_no_distance_from_itself_and_gradients_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "find_weights", lambda name: None)
    network = make_perceptual(None, precision=torch.float32)
    rgb_nchw = some_pictures()
    other_nchw = (rgb_nchw + 0.1).requires_grad_()

    target, other = network(rgb_nchw, is_deep=True), network(other_nchw, is_deep=True)
    distance_n = feature_distance(other, target)
    distance_n.sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    assert feature_distance(target, target).tolist() == [0, 0]
    assert unlikeness(target, target).abs().max() < 1e-5
    assert bool((distance_n > 0).all())
    assert other_nchw.grad is not None
    assert float(other_nchw.grad.abs().sum()) > 0
