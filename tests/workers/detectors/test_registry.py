"""Tests of the registry and of the shipped detector."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from skimage import data

from framevault.codecs.base import SupportsLatents
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec, weights_digest
from framevault.workers.detectors.base import Detector, DetectorError, ReadsLatents
from framevault.workers.detectors.registry import checkpoint_path, detector_fingerprint, load_detector

WANTED = {"person", "bicycle", "car", "motorcycle", "bus", "truck", "dog", "chair", "bottle", "face"}


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector()


def test_the_fingerprint_is_the_checkpoints_and_needs_no_torch() -> None:
    program = (
        "import sys; from framevault.workers.detectors.registry import detector_fingerprint;"
        "print(detector_fingerprint('mobilenet_v2'), 'torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    digest = hashlib.sha256(checkpoint_path("mobilenet_v2").read_bytes()).hexdigest()
    assert done.stdout.split() == [digest, "False"]


def test_the_codec_that_a_detector_on_latents_reads_is_known_without_torch() -> None:
    program = (
        "import sys; from framevault.workers.detectors.registry import detector_codec;"
        "print(detector_codec('dicm_latents'), 'torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == [weights_digest(CodecSpec(name="dicm")), "False"]


def test_the_shipped_detector_on_latents_finds_the_same_labels_and_is_smaller(detector: Detector) -> None:
    assert load_detector("dicm_latents").labels == detector.labels
    assert checkpoint_path("dicm_latents").stat().st_size < 4_000_000


def test_an_unknown_detector_is_refused_with_the_names_there_are() -> None:
    for ask in (detector_fingerprint, load_detector):
        with pytest.raises(DetectorError, match=r"must be one of .*mobilenet_v2, .*, got 'resnet'"):
            ask("resnet")


def test_the_shipped_checkpoint_is_small_and_knows_the_labels_it_should(detector: Detector) -> None:
    assert checkpoint_path("mobilenet_v2").stat().st_size < 5_000_000
    assert set(detector.labels) >= WANTED
    assert len(set(detector.labels)) == len(detector.labels)
    assert detector.name == "mobilenet_v2"


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 33), (4096, 16)])
def test_the_shipped_detector_takes_frames_of_any_size(detector: Detector, height: int, width: int) -> None:
    features_nchw = torch.zeros(1, 24, -(-height // 4), -(-width // 4))

    (found,) = detector(features_nchw, height=height, width=width)

    assert found.boxes_xyxy.shape == (len(found.scores), 4)


@pytest.mark.parametrize("name", ["mobilenet_v2", "dicm_latents"])
def test_the_shipped_detectors_find_the_astronauts_face_in_what_is_decoded(name: str) -> None:
    # A portrait of 512 x 512 pixels; the face's place was read off the picture.
    detector = load_detector(name)
    pixels_hwc = torch.from_numpy(data.astronaut())  # type: ignore[no-untyped-call]  # scikit-image has no types
    frames_nchw = pixels_hwc.permute(2, 0, 1)[None]
    codec = load_codec(CodecSpec(name="dicm", quality=8))
    streams = codec.encoder(height=512, width=512).encode(frames_nchw)
    decoder = codec.decoder(height=512, width=512)
    assert isinstance(decoder, SupportsLatents)
    reads_latents = isinstance(detector, ReadsLatents)
    features_nchw = decoder.decode_latent_changes(streams).decoded if reads_latents else decoder.decode(streams)

    (found,) = detector(features_nchw, height=512, width=512, score_floor=0.3)

    names = [detector.labels[label] for label in found.labels]
    assert "face" in names
    x_min, y_min, x_max, y_max = found.boxes_xyxy[names.index("face")]
    assert np.hypot((x_min + x_max) / 2 - 224, (y_min + y_max) / 2 - 120) < 40
    assert 60 < x_max - x_min < 180
