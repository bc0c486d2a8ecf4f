"""Keys of weight files: which layout they have, and what is wrong with them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from framevault.codecs.dicm.backbones.layouts import (
    backbone_shapes,
    backbone_tensors,
    find_layout,
    find_norm_epsilon,
)
from framevault.codecs.errors import CheckpointError

PATH = Path("own.pth")


def zeros(backbone: str = "resnet50", *, prefix: str = "", has_classifier: bool = True) -> dict[str, Tensor]:
    """Return tensors of the right names and shapes that take no memory."""
    shapes = backbone_shapes(backbone, has_classifier=has_classifier)
    return {f"{prefix}{key}": torch.zeros(1).expand(shape) for key, shape in shapes.items()}


def test_torchvisions_layout_passes_as_it_is() -> None:
    tensors = zeros()

    assert find_layout(tensors) == "torchvision"
    assert backbone_tensors(tensors, backbone="resnet50", layout="torchvision", path=PATH).keys() == tensors.keys()


def test_mobilenets_keys_are_torchvisions_too() -> None:
    tensors = zeros("mobilenet_v2")

    assert find_layout(tensors) == "torchvision"
    assert "classifier.1.weight" in backbone_tensors(tensors, backbone="mobilenet_v2", layout="torchvision", path=PATH)


def test_mocos_query_encoder_is_taken_without_its_projection() -> None:
    tensors = zeros(prefix="module.encoder_q.", has_classifier=False) | {
        "module.encoder_q.fc.0.weight": torch.zeros(1),
        "module.encoder_k.conv1.weight": torch.ones(1),
        "module.queue": torch.zeros(1),
    }

    found = backbone_tensors(tensors, backbone="resnet50", layout=find_layout(tensors), path=PATH)

    assert found.keys() == zeros(has_classifier=False).keys()


def test_a_detectors_body_is_taken_without_pyramid_and_heads() -> None:
    tensors = zeros(prefix="backbone.body.", has_classifier=False) | {
        "backbone.fpn.inner_blocks.0.weight": torch.zeros(1),
        "roi_heads.box_head.fc6.weight": torch.zeros(1),
    }

    found = backbone_tensors(tensors, backbone="resnet50", layout=find_layout(tensors), path=PATH)

    assert found.keys() == zeros(has_classifier=False).keys()


def test_counts_of_batches_may_be_there_or_not() -> None:
    tensors = zeros() | {"bn1.num_batches_tracked": torch.tensor(7)}

    found = backbone_tensors(tensors, backbone="resnet50", layout="torchvision", path=PATH)

    assert "bn1.num_batches_tracked" not in found


def test_a_missing_key_is_named_as_the_file_has_it() -> None:
    tensors = zeros(prefix="module.encoder_q.", has_classifier=False)
    del tensors["module.encoder_q.layer3.2.bn1.bias"]

    with pytest.raises(CheckpointError, match=r"own\.pth .* missing: module\.encoder_q\.layer3\.2\.bn1\.bias$"):
        backbone_tensors(tensors, backbone="resnet50", layout="moco_v2", path=PATH)


def test_an_extra_key_is_named() -> None:
    tensors = zeros() | {"layer5.0.conv1.weight": torch.zeros(1)}

    with pytest.raises(CheckpointError, match=r"too many: layer5\.0\.conv1\.weight$"):
        backbone_tensors(tensors, backbone="resnet50", layout="torchvision", path=PATH)


def test_a_wrong_shape_is_named_with_the_right_one() -> None:
    tensors = zeros() | {"fc.weight": torch.zeros(10, 2048)}

    with pytest.raises(CheckpointError, match=r"fc\.weight must be \[1000, 2048\], is \[10, 2048\]$"):
        backbone_tensors(tensors, backbone="resnet50", layout="torchvision", path=PATH)


def test_all_problems_stand_in_one_message_but_not_all_names() -> None:
    tensors = {key: value for key, value in zeros().items() if not key.startswith("layer4")} | {"x": torch.zeros(1)}

    with pytest.raises(CheckpointError, match=r"missing: layer4\.0\.conv1\.weight.* and \d+ more; too many: x$"):
        backbone_tensors(tensors, backbone="resnet50", layout="torchvision", path=PATH)


def test_keys_of_no_layout_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"keys must be torchvision's .*, got encoder\.weight$"):
        find_layout({"encoder.weight": torch.zeros(1)})


def test_the_first_detectors_run_their_frozen_normalisation_without_epsilon() -> None:
    frozen = zeros(prefix="backbone.body.", has_classifier=False)
    trained = {**frozen, "backbone.body.bn1.num_batches_tracked": torch.zeros(())}

    assert find_norm_epsilon(frozen, layout=find_layout(frozen)) == 0
    assert find_norm_epsilon(trained, layout=find_layout(trained)) == 1e-5
    assert find_norm_epsilon(zeros(), layout="torchvision") == 1e-5
