"""The classifier on stored features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import mobilenet_v2

from framevault.codecs.dicm.backbones.files import read_tensors
from framevault.codecs.errors import CheckpointError
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec
from framevault.workers.classifier import (
    NUM_LABELS,
    Classifier,
    check_head,
    classifier_backbone,
    classifier_fingerprint,
    classifier_names,
    find_classifier,
)
from tests.codecs.dicm.backbones.random_weights import random_mobilenet_v2, random_resnet50
from tests.workers.classifier_weights import write_classifier


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("weights") / "own.pth")


@pytest.fixture(scope="module")
def classifier(weights: Path) -> Classifier:
    return Classifier("mobilenet_v2", weights)


def frames(num: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (num, 3, 64, 96), generator=generator, dtype=torch.uint8)


def test_from_pixels_it_says_what_torchvision_says(classifier: Classifier, weights: Path) -> None:
    reference = mobilenet_v2().eval()
    reference.load_state_dict(read_tensors(weights))
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected_nk = reference((frames().float() / 255 - mean) / std).softmax(dim=1)

    facts = classifier(classifier.head_features(frames()))

    scores_nk, ids_nk = expected_nk.topk(NUM_LABELS, dim=1)
    assert facts.label_ids_nk[:, 0].tolist() == ids_nk[:, 0].tolist()
    np.testing.assert_allclose(facts.scores_nk, scores_nk.numpy(), rtol=1e-3)
    np.testing.assert_allclose(
        facts.scores_nk, np.take_along_axis(expected_nk.numpy(), facts.label_ids_nk, axis=1), rtol=1e-3
    )


def test_what_is_said_has_the_promised_form(classifier: Classifier) -> None:
    facts = classifier(classifier.head_features(frames(3)))

    assert facts.label_ids_nk.shape == facts.scores_nk.shape == (3, NUM_LABELS)
    assert (np.diff(facts.scores_nk, axis=1) <= 0).all()
    assert facts.vectors_np.shape == (3, 1280)
    assert facts.vectors_np.dtype == np.float16
    assert len(classifier.labels) == 1000


def test_the_head_of_fitting_weights_is_the_codecs(classifier: Classifier, weights: Path) -> None:
    codec = load_codec(CodecSpec(name="dicm"))
    assert hasattr(codec, "head_features")

    check_head("mobilenet_v2", weights, CodecSpec(name="dicm"))

    torch.testing.assert_close(classifier.head_features(frames()), codec.head_features(frames()), rtol=1e-3, atol=1e-3)


def test_weights_of_another_head_are_refused(tmp_path: Path) -> None:
    torch.save(random_mobilenet_v2(seed=5).state_dict(), tmp_path / "other.pth")

    with pytest.raises(CheckpointError, match=r"other\.pth was trained behind another head than the codec's"):
        check_head("mobilenet_v2", tmp_path / "other.pth", CodecSpec(name="dicm"))


def test_resnet50_classifies_its_own_features(tmp_path: Path) -> None:
    torch.save(random_resnet50().state_dict(), tmp_path / "resnet.pth")
    classifier = Classifier("resnet50_v1", tmp_path / "resnet.pth")

    facts = classifier(classifier.head_features(frames()))

    assert facts.vectors_np.shape == (2, 2048)
    with pytest.raises(ValueError, match=r"features must be \[N, 256, h, w\], got \[1, 24, 8, 8\]"):
        classifier(torch.zeros(1, 24, 8, 8))


def test_the_names_are_those_that_classify() -> None:
    assert classifier_names() == ["mobilenet_v2", "resnet50_v1", "resnet50_v2"]
    assert classifier_backbone("resnet50_v2") == "resnet50"
    for name in ("moco_v2", "fasterrcnn_resnet50_fpn", "vgg16"):
        with pytest.raises(CheckpointError, match=f"classifier must be one of .*, got '{name}'"):
            find_classifier(name)


def test_the_fingerprint_goes_with_name_and_file(weights: Path, tmp_path: Path) -> None:
    other = write_classifier(tmp_path / "other.pth", seed=1)

    prints = {
        classifier_fingerprint("mobilenet_v2", weights),
        classifier_fingerprint("mobilenet_v2", other),
        classifier_fingerprint("resnet50_v1", weights),
    }

    assert len(prints) == 3
    assert classifier_fingerprint("mobilenet_v2", weights) in prints
