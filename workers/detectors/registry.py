"""From a detector's name to its weights' fingerprint (without torch for the shipped one) and to the loaded detector."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safetensors import SafetensorError, safe_open

from framevault.workers.detectors.base import DetectorError

if TYPE_CHECKING:
    from torch import nn

    from framevault.workers.detectors.base import Detector

DEFAULT_DETECTOR = "mobilenet_v2"
"""The shipped one on features: it looks through what any codec of its backbone stored, and through pixels."""

LATENT_DETECTOR = "dicm_latents"
"""The shipped one on the latents of one codec checkpoint: twice as fast, less precise."""

PREFERRED_DETECTOR = DEFAULT_DETECTOR
"""Taken unless another is asked for, where it reads all chosen videos; elsewhere `DEFAULT_DETECTOR`.

Not `LATENT_DETECTOR`: it misses too many small objects, as its card says.
"""

CONFIG_KEY = "framevault_detector"
"""Metadata entry of shipped checkpoints, with the detector's configuration as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorRow:
    """What is known of a detector without loading it."""

    backbone: str
    """Whose features it reads: a key of `BACKBONES`."""
    checkpoint: str | None = None
    """Its shipped weights, below this folder; None for torchvision's, which are known by the detector's name."""
    gives_masks: bool = False
    """Whether it can give masks beside boxes."""
    reads: Literal["features", "latents"] = "features"
    """Whether it looks at features, or at the latents that one codec checkpoint makes them from."""


DETECTORS: dict[str, DetectorRow] = {
    "mobilenet_v2": DetectorRow(backbone="mobilenet_v2", checkpoint="checkpoints/mobilenet_v2.safetensors"),
    "dicm_latents": DetectorRow(
        backbone="mobilenet_v2", checkpoint="checkpoints/dicm_latents.safetensors", reads="latents"
    ),
    "fasterrcnn_resnet50_fpn": DetectorRow(backbone="resnet50"),
    "fasterrcnn_resnet50_fpn_v2": DetectorRow(backbone="resnet50"),
    "maskrcnn_resnet50_fpn": DetectorRow(backbone="resnet50", gives_masks=True),
    "maskrcnn_resnet50_fpn_v2": DetectorRow(backbone="resnet50", gives_masks=True),
    "retinanet_resnet50_fpn": DetectorRow(backbone="resnet50"),
    "retinanet_resnet50_fpn_v2": DetectorRow(backbone="resnet50"),
}
"""Every detector there is, by name."""


def detector_row(name: str, *, has_masks: bool = False) -> DetectorRow:
    """Return a detector's row.

    Raises:
        DetectorError: There is no detector of that name, or it gives no masks and they are asked for.
    """
    if name not in DETECTORS:
        raise DetectorError(f"detector must be one of {', '.join(sorted(DETECTORS))}, got {name!r}")
    row = DETECTORS[name]
    if has_masks and not row.gives_masks:
        able = ", ".join(other for other, each in DETECTORS.items() if each.gives_masks)
        raise DetectorError(f"detector {name!r} gives no masks; these do: {able}")
    return row


def checkpoint_path(name: str, *, weights: str | None = None) -> Path:
    """Return where a detector's weights are; known ones that are nowhere are downloaded into torch's hub cache.

    Args:
        name: A key of `DETECTORS`.
        weights: Path of another file to take.

    Raises:
        DetectorError: There is no detector of that name, or no file; says what to do.
    """
    row = detector_row(name)
    if row.checkpoint is not None:
        return Path(__file__).parent / row.checkpoint if weights is None else Path(weights)
    # Imported here so that the shipped detector's fingerprint costs no torch.
    from framevault.codecs.dicm.backbones.files import obtain_weights
    from framevault.codecs.errors import CheckpointError

    try:
        return obtain_weights(name, path=weights)
    except CheckpointError as error:
        raise DetectorError(f"detector {name!r}: {error}") from error


def detector_fingerprint(name: str = DEFAULT_DETECTOR, *, weights: str | None = None, has_masks: bool = False) -> str:
    """Return the SHA-256 over a detector in hex: over its checkpoint, and whatever else makes it find something else.

    Raises:
        DetectorError: There is no such detector, or its checkpoint can't be read.
    """
    row = detector_row(name, has_masks=has_masks)
    path = checkpoint_path(name, weights=weights)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DetectorError(f"detector {name!r}: its checkpoint can't be read: {error}") from error
    if row.checkpoint is not None:
        # Weights, labels and settings are all in that file.
        return digest
    return hashlib.sha256(f"{name} {digest} {'masks' if has_masks else 'boxes'}".encode()).hexdigest()


def detector_codec(name: str, *, weights: str | None = None) -> str | None:
    """Return the SHA-256 in hex of the codec checkpoint whose latents a detector reads; None if it reads features.

    Args:
        name: A key of `DETECTORS`.
        weights: Path of another checkpoint to take.

    Raises:
        DetectorError: There is no such detector, or its checkpoint can't be read or names no codec.
    """
    if detector_row(name).reads == "features":
        return None
    path = checkpoint_path(name, weights=weights)
    try:
        # Tensors stay on the disk; numpy stands in for torch, which takes seconds to import.
        with safe_open(path, framework="numpy") as file:
            config = json.loads((file.metadata() or {})[CONFIG_KEY])
        return str(config["codec_weights"])
    except (OSError, SafetensorError) as error:
        raise DetectorError(f"{path} can't be read as a safetensors checkpoint: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DetectorError(f"{path}: {CONFIG_KEY} must name the codec that {name!r} reads: {error!r}") from error


def detector_head(name: str, *, weights: str | None = None) -> nn.Module:
    """Return the head behind which a detector was trained, on the CPU.

    A codec's features are those of its own head: where the two differ, the detector finds less in them.

    Args:
        name: A key of `DETECTORS`.
        weights: Path of another checkpoint to take. The shipped detector's family has no head in its own: it is trained
            on the shipped codec's features.

    Raises:
        DetectorError: There is no such detector, or its checkpoint is missing or damaged.
    """
    from framevault.codecs.dicm.backbones.registry import build_head, load_backbone
    from framevault.codecs.errors import CheckpointError
    from framevault.codecs.spec import CodecSpec
    from framevault.workers.weights import read_head

    if detector_row(name).checkpoint is not None:
        return read_head(CodecSpec(name="dicm"))
    try:
        return build_head(load_backbone(name, path=checkpoint_path(name, weights=weights)))
    except CheckpointError as error:
        raise DetectorError(f"detector {name!r}: {error}") from error


def load_detector(
    name: str = DEFAULT_DETECTOR, device: str = "cpu", *, weights: str | None = None, has_masks: bool = False
) -> Detector:
    """Load a detector onto a torch device.

    Args:
        name: A key of `DETECTORS`.
        device: A torch device.
        weights: Path of another checkpoint to take.
        has_masks: Whether it shall give masks beside boxes.

    Raises:
        DetectorError: There is no such detector, or its checkpoint is missing or damaged.
    """
    row = detector_row(name, has_masks=has_masks)
    path = checkpoint_path(name, weights=weights)
    # Imported here so that fingerprints and names cost no torch.
    if row.checkpoint is not None:
        if row.reads == "latents":
            from framevault.workers.detectors.latent_detector import LatentDetector

            return LatentDetector.from_checkpoint(path, name=name, device=device)
        from framevault.workers.detectors.peaks import PeakDetector

        return PeakDetector.from_checkpoint(path, name=name, device=device)
    from framevault.workers.detectors.torchvision_models import TorchvisionDetector

    return TorchvisionDetector.from_checkpoint(path, name=name, device=device, has_masks=has_masks)
