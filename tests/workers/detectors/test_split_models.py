"""The split models against torchvision's own, from pixels to boxes, labels, scores and masks."""

import copy

import pytest
import torch
from torch import Tensor, nn

from framevault.codecs.errors import CheckpointError
from framevault.workers.detectors.split_models import SplitModel
from tests.workers.detectors.random_detectors import (
    FIRST,
    NAMES,
    published_state,
    random_detector,
    random_pictures,
    split,
)

TOLERANCE = 1e-4
"""Of scores, of masks, and of boxes in pixels."""


def run_bypassed(model: nn.Module, ours: SplitModel, pictures_nchw: Tensor) -> list[dict[str, Tensor]]:
    """Run our model on the same normalised, resized, padded input, and bring the objects back to the pictures."""
    sizes = [tuple(picture.shape[1:]) for picture in pictures_nchw]
    images, _ = model.transform(list(pictures_nchw))  # type: ignore[operator]  # a module
    (height, width) = images.image_sizes[0]
    found = ours(ours.features_of(images.tensors), height=height, width=width)
    result: list[dict[str, Tensor]] = model.transform.postprocess(found, images.image_sizes, sizes)  # type: ignore[operator, union-attr]  # a method
    return result


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_bypassed_codec_gives_torchvisions_own_objects(name: str) -> None:
    """Two frames of 72 x 100 that torchvision resizes to 90 x 125 and pads to 96 x 128.

    In float64, since two equal scores in float32 change places with the last bit; our folded weights are float32.
    """
    model = copy.deepcopy(random_detector(name, short_side=90, long_side=160))
    has_masks = name.startswith("mask")
    ours = split(name, published_state(name, model), has_masks=has_masks).double()
    pictures_nchw = random_pictures(2, 72, 100).double()

    with torch.inference_mode():
        expected = model.double()(list(pictures_nchw))
        found = run_bypassed(model, ours, pictures_nchw)

    for one, other in zip(found, expected, strict=True):
        assert len(other["boxes"]) > 10
        assert one.keys() == other.keys() == {"boxes", "labels", "scores", *(("masks",) if has_masks else ())}
        assert one["labels"].tolist() == other["labels"].tolist()
        for part in one.keys() - {"labels"}:
            assert float((one[part] - other[part]).abs().max()) <= TOLERANCE, part
    if has_masks:
        assert 0.03 < float((expected[0]["masks"] > 0.5).double().mean(dim=(1, 2, 3)).max()) < 1


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn_v2"])
def test_in_float32_nearly_all_objects_are_torchvisions_to_the_last_decimals(name: str) -> None:
    """All but those that change places where scores or overlaps are equal to the last bit."""
    model = random_detector(name, short_side=90, long_side=160)
    ours = split(name, published_state(name, model))
    pictures_nchw = random_pictures(1, 90, 125)

    with torch.inference_mode():
        (expected,) = model(list(pictures_nchw))
        (found,) = run_bypassed(model, ours, pictures_nchw)

    # float32 has 7 digits, and a box went through 50 layers: 1e-4 of the frame's side.
    is_near = torch.cdist(expected["boxes"], found["boxes"], p=torch.inf) <= TOLERANCE * 125
    is_near &= (expected["scores"][:, None] - found["scores"]).abs() <= TOLERANCE
    is_near &= expected["labels"][:, None] == found["labels"]
    assert len(expected["boxes"]) > 10
    assert float(is_near.any(dim=1).float().mean()) > 0.95


@pytest.mark.parametrize("name", FIRST)
def test_the_new_layout_of_a_first_model_gives_the_same_model(name: str) -> None:
    model = random_detector(name, short_side=90, long_side=160)
    old = split(name, published_state(name, model), has_masks=True)
    new = split(name, dict(model.state_dict()), has_masks=True)

    assert set(published_state(name, model)) != set(model.state_dict())
    assert old.state_dict().keys() == new.state_dict().keys()
    assert all(torch.equal(x, new.state_dict()[key]) for key, x in old.state_dict().items())


def test_without_masks_boxes_are_the_same_and_the_mask_branch_is_gone() -> None:
    name = "maskrcnn_resnet50_fpn"
    state = published_state(name, random_detector(name, short_side=90, long_side=160))
    features_nchw = torch.randn(1, 256, 16, 24, generator=torch.Generator().manual_seed(5)).relu()
    with_masks, without = split(name, state, has_masks=True), split(name, state)

    with torch.inference_mode():
        (masked,) = with_masks(features_nchw, height=64, width=96)
        (plain,) = without(features_nchw, height=64, width=96)

    assert "masks" in masked
    assert "masks" not in plain
    assert torch.equal(masked["boxes"], plain["boxes"])
    assert not [key for key in without.state_dict() if "mask" in key]


def test_features_of_part_cells_are_filled_up_with_what_padding_gives() -> None:
    """A frame of 68 x 125 pixels has 17 x 32 positions, of the 24 x 32 that torchvision's padding makes."""
    name = "fasterrcnn_resnet50_fpn"
    model = random_detector(name, short_side=68, long_side=160)
    ours = split(name, published_state(name, model))

    with torch.inference_mode():
        images, _ = model.transform(list(random_pictures(1, 68, 125)))  # type: ignore[operator]  # a module
        whole_nchw = ours.features_of(images.tensors)
        filled_nchw = ours._pad(whole_nchw[:, :, :17])
        (found,) = ours(whole_nchw[:, :, :17], height=68, width=125)

    assert filled_nchw.shape == whole_nchw.shape == (1, 256, 24, 32)
    assert torch.equal(filled_nchw[:, :, :17], whole_nchw[:, :, :17])
    # The first rows of padding see pixels too; the others, hardly anything else.
    padding_nchw = whole_nchw[:, :, 19:, :30]
    error_nchw = filled_nchw[:, :, 19:, :30] - padding_nchw
    assert float(error_nchw.square().mean()) < 0.1 * float(padding_nchw.square().mean())
    assert len(found["boxes"]) > 0
    assert float(found["boxes"].min()) >= 0
    assert (found["boxes"].amax(dim=0)[2:] <= torch.tensor([125, 68])).all()


def test_a_tiny_first_frame_changes_nothing_for_the_next() -> None:
    """The RoI pooling of torchvision reads scales off its first frame, where 3 pixels padded to 32 mislead it."""
    name = "fasterrcnn_resnet50_fpn_v2"
    state = published_state(name, random_detector(name, short_side=90, long_side=160))
    features_nchw = torch.randn(1, 256, 32, 32, generator=torch.Generator().manual_seed(5)).relu()
    fresh, used = split(name, state), split(name, state)

    with torch.inference_mode():
        used(torch.zeros(1, 256, 1, 1), height=3, width=3)
        (expected,) = fresh(features_nchw, height=128, width=128)
        (found,) = used(features_nchw, height=128, width=128)

    assert len(expected["boxes"]) > 0
    assert torch.equal(found["boxes"], expected["boxes"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("body", r"own\.pth .* missing: backbone\.body\.layer2\.0\.bn1\.weight$"),
        ("head", r"own\.pth are not those of fasterrcnn_resnet50_fpn: missing: rpn\.head\.conv\.0\.0\.bias$"),
        ("extra", r"too many: roi_heads\.keypoint_head\.weight$"),
        ("shape", r"size mismatch for roi_heads\.box_predictor\.cls_score\.weight"),
    ],
)
def test_keys_that_do_not_fit_are_named(change: str, message: str) -> None:
    name = "fasterrcnn_resnet50_fpn"
    state = published_state(name, random_detector(name, short_side=90, long_side=160))
    if change == "body":
        del state["backbone.body.layer2.0.bn1.weight"]
    elif change == "head":
        del state["rpn.head.conv.bias"]
    elif change == "extra":
        state["roi_heads.keypoint_head.weight"] = torch.zeros(1)
    else:
        state["roi_heads.box_predictor.cls_score.weight"] = torch.zeros(3, 1024)

    with pytest.raises(CheckpointError, match=message):
        split(name, state)


def test_another_models_weights_are_refused() -> None:
    state = published_state(
        "retinanet_resnet50_fpn", random_detector("retinanet_resnet50_fpn", short_side=90, long_side=160)
    )

    with pytest.raises(CheckpointError, match="are not those of fasterrcnn_resnet50_fpn"):
        split("fasterrcnn_resnet50_fpn", state)
