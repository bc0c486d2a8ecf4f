"""torchvision's detectors behind our protocol."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from framevault.storage.rle import decode_mask
from framevault.workers.detectors.base import BringsHead, DetectorError
from framevault.workers.detectors.torchvision_models import TorchvisionDetector
from tests.workers.detectors.random_detectors import lighten, published_state, random_detector, random_pictures

NAME = "maskrcnn_resnet50_fpn"
HEIGHT, WIDTH = 96, 160


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """Torchvision's model, which resizes frames of our size to themselves."""
    return random_detector(NAME, short_side=HEIGHT, long_side=WIDTH)


@pytest.fixture(scope="module")
def checkpoint(reference: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "own.pth"
    torch.save(published_state(NAME, reference), path)
    return path


@pytest.fixture(scope="module")
def detector(checkpoint: Path) -> TorchvisionDetector:
    detector = TorchvisionDetector.from_checkpoint(checkpoint, name=NAME, device="cpu", has_masks=True)
    lighten(detector._model.model)
    return detector


def frames(num: int = 1) -> torch.Tensor:
    return (random_pictures(num, HEIGHT, WIDTH) * 255).round().to(torch.uint8)


def test_from_pixels_it_finds_what_torchvision_finds(detector: TorchvisionDetector, reference: nn.Module) -> None:
    frames_nchw = frames()
    with torch.inference_mode():
        (expected,) = reference([frame.float() / 255 for frame in frames_nchw])

    (found,) = detector(detector.head_features(frames_nchw), height=HEIGHT, width=WIDTH)

    assert len(found.scores) == len(expected["scores"]) > 10
    assert found.labels[:10].tolist() == expected["labels"][:10].tolist()
    assert np.abs(found.scores - expected["scores"].numpy()).max() < 1e-4
    assert np.abs(found.boxes_xyxy[:10] - expected["boxes"][:10].numpy()).max() < 1e-4 * WIDTH
    assert found.masks_rle is not None
    first_hw = decode_mask(found.masks_rle[0], height=HEIGHT, width=WIDTH)
    assert (first_hw != (expected["masks"][0, 0] >= 0.5).numpy()).mean() < 1e-3


def test_detections_keep_the_protocols_promises(detector: TorchvisionDetector) -> None:
    for found in detector(detector.head_features(frames(2)), height=HEIGHT, width=WIDTH):
        dtypes = (found.boxes_xyxy.dtype, found.scores.dtype, found.labels.dtype)
        assert [dtype.name for dtype in dtypes] == ["float32", "float32", "int64"]
        assert (np.diff(found.scores) <= 0).all()
        assert found.scores.min() >= 0.05
        assert found.boxes_xyxy.min() >= 0
        assert (found.boxes_xyxy.max(axis=0)[2:] <= (WIDTH, HEIGHT)).all()
        assert 0 < found.labels.min() <= found.labels.max() < len(detector.labels)


def test_a_score_floor_leaves_the_rest_out(detector: TorchvisionDetector) -> None:
    features_nchw = detector.head_features(frames())
    (every,) = detector(features_nchw, height=HEIGHT, width=WIDTH)
    middle = float(np.median(every.scores))

    (some,) = detector(features_nchw, height=HEIGHT, width=WIDTH, score_floor=middle)

    assert 0 < len(some.scores) < len(every.scores)
    assert some.scores.tolist() == every.scores[every.scores >= np.float32(middle)].tolist()
    assert some.masks_rle is not None
    assert len(some.masks_rle) == len(some.scores)


def test_a_floor_below_the_models_own_is_refused(detector: TorchvisionDetector) -> None:
    with pytest.raises(DetectorError, match=r"must be at least 0\.05, got 0\.01"):
        detector(torch.zeros(1, 256, 8, 8), height=32, width=32, score_floor=0.01)


def test_labels_are_cocos(detector: TorchvisionDetector) -> None:
    assert (detector.labels[0], detector.labels[1], len(detector.labels)) == ("__background__", "person", 91)


def test_features_of_pixels_have_a_position_for_every_four_begun(detector: TorchvisionDetector) -> None:
    assert isinstance(detector, BringsHead)

    features_nchw = detector.head_features(torch.zeros(2, 3, 33, 50, dtype=torch.uint8))

    assert features_nchw.shape == (2, 256, 9, 13)


def test_any_frame_size_is_looked_through(detector: TorchvisionDetector) -> None:
    for height, width in ((1, 1), (5, 300), (33, 50)):
        features_nchw = detector.head_features(torch.zeros(1, 3, height, width, dtype=torch.uint8))

        (found,) = detector(features_nchw, height=height, width=width)

        assert (found.boxes_xyxy <= (width, height, width, height)).all()


def test_features_of_another_backbone_are_refused(detector: TorchvisionDetector) -> None:
    with pytest.raises(DetectorError, match=r"must be float32 \[N, 256, 8, 8\], got torch.float32 \[1, 24, 8, 8\]"):
        detector(torch.zeros(1, 24, 8, 8), height=32, width=32)


def test_masks_of_a_model_without_are_refused(checkpoint: Path) -> None:
    with pytest.raises(DetectorError, match="'retinanet_resnet50_fpn' gives no masks; maskrcnn_resnet50_fpn"):
        TorchvisionDetector.from_checkpoint(checkpoint, name="retinanet_resnet50_fpn", device="cpu", has_masks=True)


def test_a_wrong_checkpoint_names_detector_and_file(checkpoint: Path) -> None:
    with pytest.raises(DetectorError, match=r"detector 'retinanet_resnet50_fpn': weights .*own\.pth are not those of"):
        TorchvisionDetector.from_checkpoint(checkpoint, name="retinanet_resnet50_fpn", device="cpu")
