"""EfficientNet-Lite0's layers: padding, names, shapes; its real weights are no dependency."""

import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from framevault.codecs.errors import CheckpointError
from framevault.pipeline.jobs.bench import efficientnet_lite
from framevault.pipeline.jobs.bench.efficientnet_lite import (
    EfficientNetLite0,
    SamePaddingConv2d,
    find_file,
    load_efficientnet_lite0,
)
from tests.pipeline.jobs.bench.lite_weights import write_lite_weights


def test_levels_have_the_strides_that_are_compared() -> None:
    network = EfficientNetLite0().eval()

    with torch.no_grad():
        compared, deepest_nc = network(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))

    assert [tuple(level.shape[1:]) for level in compared] == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4)]
    assert deepest_nc.shape == (2, 320)


@pytest.mark.parametrize(("side", "before", "after"), [(8, 0, 1), (9, 1, 1)])
def test_padding_is_tensorflows(side: int, before: int, after: int) -> None:
    layer = SamePaddingConv2d(2, 3, 3, stride=2)
    x_nchw = torch.rand(1, 2, side, side)

    padded_nchw = functional.pad(x_nchw, (before, after, before, after))

    torch.testing.assert_close(layer(x_nchw), functional.conv2d(padded_nchw, layer.weight, stride=2))


def test_a_file_with_the_classifier_in_it_is_read(tmp_path: Path) -> None:
    path = write_lite_weights(tmp_path / "lite.pth")

    network = load_efficientnet_lite0(path)

    stored = torch.load(path, weights_only=True)
    assert torch.equal(network.state_dict()["_blocks.9._bn2.weight"], stored["_blocks.9._bn2.weight"])


def test_missing_and_other_files_are_named(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")

    with pytest.raises(CheckpointError, match=r"no file .*gone\.pth"):
        load_efficientnet_lite0(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth must be those of efficientnet_lite0"):
        load_efficientnet_lite0(tmp_path / "other.pth")


def test_the_package_that_brings_the_weights_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "brings_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", package.name)
    assert find_file() is None

    (package / efficientnet_lite.PACKAGE_FILE).touch()

    assert find_file() == package / efficientnet_lite.PACKAGE_FILE
    assert package.name not in sys.modules
