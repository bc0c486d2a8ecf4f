"""What a whole frame shows: ImageNet's labels and a vector to search by, from the features that a codec carries.

::

    f [N, C, h, w] -> tail -> mean over positions -> vector [N, P] -> classifier, softmax -> the best K labels

The whole frame is pooled, whatever its size; ImageNet's networks were trained on squares cut from the middle.
Letters in shapes: N frames, C channels, h and w positions, P values of a vector, K labels.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framevault.codecs.dicm.backbones.checkpoints import KNOWN_FILES, categories, known_file
from framevault.codecs.dicm.backbones.files import file_sha256, obtain_weights
from framevault.codecs.dicm.backbones.pixels import normalise
from framevault.codecs.dicm.backbones.registry import (
    BACKBONES,
    build_head,
    build_tail,
    head_difference,
    load_backbone,
    pooled_vectors,
)
from framevault.codecs.errors import CheckpointError
from framevault.codecs.spec import CodecSpec
from framevault.workers.weights import SAME_HEAD, read_head

DEFAULT_CLASSIFIER = "mobilenet_v2"
"""Reads the shipped codec's features."""

NUM_LABELS = 10
"""Labels of a frame that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameFacts:
    """What is said about some frames."""

    label_ids_nk: NDArray[np.int64]
    """Numbers of the best labels, best first."""
    scores_nk: NDArray[np.float32]
    """Their probabilities."""
    vectors_np: NDArray[np.float16]
    """What the classifier reads."""


def classifier_names() -> list[str]:
    """Return the names of all classifiers: the known files that were trained to classify."""
    return sorted(name for name, file in KNOWN_FILES.items() if file.task == "classification")


def classifier_backbone(name: str) -> str:
    """Return whose features a classifier reads.

    Raises:
        CheckpointError: There is no classifier of that name.
    """
    if name not in classifier_names():
        raise CheckpointError(f"classifier must be one of {', '.join(classifier_names())}, got {name!r}")
    return known_file(name).backbone


def find_classifier(name: str, *, weights: str | None = None) -> Path:
    """Return where a classifier's weights are; those that are nowhere are downloaded into torch's hub cache.

    Raises:
        CheckpointError: There is no such classifier, or its weights can't be had; says what to do.
    """
    classifier_backbone(name)
    return obtain_weights(name, path=weights)


def classifier_fingerprint(name: str, path: Path) -> str:
    """Return the SHA-256 in hex over a classifier and what is kept of its answers.

    Raises:
        CheckpointError: The file can't be read.
    """
    return hashlib.sha256(f"classifier {name} {file_sha256(path)} {NUM_LABELS} labels".encode()).hexdigest()


def check_head(name: str, path: Path, spec: CodecSpec) -> None:
    """Check that a classifier understands the features of a codec: that it was trained behind the same head.

    Raises:
        CheckpointError: It was not, or a file can't be read.
    """
    difference = head_difference(build_head(load_backbone(name, path=path)), read_head(spec))
    if difference > SAME_HEAD:
        raise CheckpointError(
            f"classifier {name!r} with weights {path} was trained behind another head than the codec's "
            f"{spec.checkpoint_path}: they differ by {difference:.2g}, relatively"
        )


class Classifier:
    """Says what whole frames show; thread-safe."""

    def __init__(self, name: str, path: Path, *, device: str = "cpu") -> None:
        """Load a classifier's head and tail.

        Raises:
            CheckpointError: The file is damaged, or holds other weights.
        """
        weights = load_backbone(name, path=path)
        self._device = torch.device(device)
        self._row = BACKBONES[weights.backbone]
        self._head = build_head(weights).to(self._device)
        self._tail = build_tail(weights).to(self._device)
        self.labels = categories(known_file(name))
        """Names of the label numbers."""

    @torch.inference_mode()
    def __call__(self, features_nchw: Tensor) -> FrameFacts:
        """Say what frames show.

        Args:
            features_nchw: float32 [N, C, h, w], on any device.

        Raises:
            ValueError: The features are another backbone's.
        """
        if features_nchw.shape[1] != self._row.head_channels:
            raise ValueError(f"features must be [N, {self._row.head_channels}, h, w], got {list(features_nchw.shape)}")
        on_device_nchw = features_nchw.to(self._device).contiguous(memory_format=torch.channels_last)
        stages, _ = self._tail(on_device_nchw)
        vectors_np = pooled_vectors(self._tail, stages[-1])
        assert self._tail.classifier is not None
        probabilities_nk = self._tail.classifier(vectors_np).softmax(dim=1)
        scores_nk, ids_nk = probabilities_nk.topk(NUM_LABELS, dim=1)
        return FrameFacts(ids_nk.cpu().numpy(), scores_nk.cpu().numpy(), vectors_np.half().cpu().numpy())

    @torch.inference_mode()
    def head_features(self, frames_nchw: Tensor) -> Tensor:
        """Return the features of RGB frames, uint8 [N, 3, H, W], as a perfect codec would give them."""
        rgb_nchw = normalise(frames_nchw, device=self._device)
        features_nchw: Tensor = self._head(rgb_nchw.contiguous(memory_format=torch.channels_last))
        return features_nchw
