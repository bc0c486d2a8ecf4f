"""Backbones from weight files of every layout."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from framevault.codecs.dicm.backbones.registry import (
    BACKBONES,
    build_head,
    build_tail,
    head_difference,
    load_backbone,
    pooled_vectors,
    read_backbone,
)
from framevault.codecs.errors import CheckpointError
from tests.codecs.dicm.backbones.random_weights import moco_checkpoint, random_mobilenet_v2, random_resnet50


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return random_resnet50()


def frames(seed: int = 1) -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed))


def logits_of(path: Path, backbone: str) -> Tensor:
    """Return what head and tail from a file say."""
    weights = read_backbone(path, backbone=backbone)
    with torch.inference_mode():
        _, logits_nk = build_tail(weights)(build_head(weights)(frames()))
    assert isinstance(logits_nk, Tensor)
    return logits_nk


def test_torchvisions_resnet50_gives_its_own_logits(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(resnet.state_dict(), tmp_path / "x.pth")

    logits_nk = logits_of(tmp_path / "x.pth", "resnet50")

    with torch.inference_mode():
        torch.testing.assert_close(logits_nk, resnet(frames()), rtol=1e-4, atol=1e-4)


def test_torchvisions_mobilenet_gives_its_own_logits(tmp_path: Path) -> None:
    model = random_mobilenet_v2()
    torch.save(model.state_dict(), tmp_path / "x.pth")

    logits_nk = logits_of(tmp_path / "x.pth", "mobilenet_v2")

    with torch.inference_mode():
        torch.testing.assert_close(logits_nk, model(frames()), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_mocos_checkpoint_gives_the_same_features_and_no_logits(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(moco_checkpoint(resnet), tmp_path / "moco.pth.tar")
    torch.save(resnet.state_dict(), tmp_path / "x.pth")
    moco = load_backbone("moco_v2", path=tmp_path / "moco.pth.tar")
    plain = load_backbone("resnet50_v2", path=tmp_path / "x.pth")

    with torch.inference_mode():
        stages, logits_nk = build_tail(moco)(build_head(moco)(frames()))
        expected, _ = build_tail(plain)(build_head(plain)(frames()))

    assert logits_nk is None
    assert torch.equal(stages[2], expected[2])


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_the_table_says_what_the_networks_give(name: str, resnet: nn.Module, tmp_path: Path) -> None:
    model = resnet if name == "resnet50" else random_mobilenet_v2()
    torch.save(model.state_dict(), tmp_path / "x.pth")
    weights, row = read_backbone(tmp_path / "x.pth", backbone=name), BACKBONES[name]
    tail = build_tail(weights)

    with torch.inference_mode():
        features_nchw = build_head(weights)(frames())
        stages, logits_nk = tail(features_nchw)
        vectors_np = pooled_vectors(tail, stages[-1])

    assert features_nchw.shape == (2, row.head_channels, 16, 24)
    assert tuple(stage.shape[1] for stage in stages) == row.stage_channels
    assert vectors_np.shape == (2, row.pooled_channels)
    assert tail.classifier is not None
    torch.testing.assert_close(tail.classifier(vectors_np), logits_nk)


def test_a_head_differs_from_another_runs_and_not_from_itself(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(resnet.state_dict(), tmp_path / "x.pth")
    torch.save(random_resnet50(seed=9).state_dict(), tmp_path / "y.pth")
    head, again, other = (
        build_head(read_backbone(tmp_path / name, backbone="resnet50")) for name in ("x.pth", "x.pth", "y.pth")
    )

    assert head_difference(head, again) == 0
    assert head_difference(head, other) > 0.5


def test_an_unknown_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="backbone must be one of mobilenet_v2, resnet50, got 'vgg16'"):
        read_backbone(tmp_path / "x.pth", backbone="vgg16")


def test_a_file_of_another_backbone_is_refused(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(resnet.state_dict(), tmp_path / "x.pth")

    with pytest.raises(CheckpointError, match=r"x\.pth are not those of mobilenet_v2"):
        read_backbone(tmp_path / "x.pth", backbone="mobilenet_v2")


def test_a_file_of_no_layout_is_named(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "x.pth")

    with pytest.raises(CheckpointError, match=r"x\.pth: keys must be"):
        read_backbone(tmp_path / "x.pth", backbone="resnet50")


def test_an_impossible_normalisation_names_the_file(resnet: nn.Module, tmp_path: Path) -> None:
    state = dict(resnet.state_dict())
    state["bn1.running_var"] = torch.full((64,), -1.0)
    torch.save(state, tmp_path / "x.pth")

    with pytest.raises(CheckpointError, match=r"x\.pth: bn1\.running_var must be positive"):
        build_head(read_backbone(tmp_path / "x.pth", backbone="resnet50"))
