"""From a detector's name to its weights' fingerprint (without torch) and to the loaded detector."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from framevault.workers.detectors.base import DetectorError

if TYPE_CHECKING:
    from framevault.workers.detectors.base import Detector

DEFAULT_DETECTOR = "mobilenet_v2"
"""The shipped one."""

CHECKPOINTS = {"mobilenet_v2": "checkpoints/mobilenet_v2.safetensors"}
"""Every detector there is, by name, and its weights below this folder."""


def checkpoint_path(name: str) -> Path:
    """Return where a detector's weights are.

    Raises:
        DetectorError: There is no detector of that name.
    """
    if name not in CHECKPOINTS:
        raise DetectorError(f"detector must be one of {', '.join(sorted(CHECKPOINTS))}, got {name!r}")
    return Path(__file__).parent / CHECKPOINTS[name]


@cache
def detector_fingerprint(name: str = DEFAULT_DETECTOR) -> str:
    """Return the SHA-256 of a detector's checkpoint in hex: weights, labels and settings are all in that file.

    Raises:
        DetectorError: There is no detector of that name, or its checkpoint can't be read.
    """
    path = checkpoint_path(name)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DetectorError(f"detector {name!r}: its checkpoint can't be read: {error}") from error


def load_detector(name: str = DEFAULT_DETECTOR, device: str = "cpu") -> Detector:
    """Load a detector onto a torch device.

    Raises:
        DetectorError: There is no detector of that name, or its checkpoint is missing or damaged.
    """
    path = checkpoint_path(name)
    # Imported here so that fingerprints and names cost no torch.
    from framevault.workers.detectors.peaks import PeakDetector

    return PeakDetector.from_checkpoint(path, name=name, device=device)
