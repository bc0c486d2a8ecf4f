"""torchvision's R50-FPN detectors on stored features, behind framevault's detector protocol.

torchvision resizes frames to 800 pixels a side before it looks at them. Stored features can't be resized, so objects
are looked for at the size that the frames were coded at: what is smaller there than in torchvision's 800-pixel frames
is found less well. Letters in shapes: N frames, K objects.
"""

from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from framevault.codecs.dicm.backbones.checkpoints import categories, known_file
from framevault.codecs.dicm.backbones.files import read_tensors
from framevault.codecs.dicm.backbones.pixels import normalise
from framevault.codecs.dicm.backbones.resnet50 import HEAD_CHANNELS, HEAD_STRIDE
from framevault.codecs.errors import CheckpointError
from framevault.workers.detectors.base import SCORE_FLOOR, Detections, DetectorError
from framevault.workers.detectors.pasting import paste_as_rle
from framevault.workers.detectors.peaks import check_features
from framevault.workers.detectors.split_models import CELL, FoundTensors, SplitModel, build_split_model


class TorchvisionDetector:
    """Runs a split model on features; thread-safe."""

    backbone = "resnet50"
    """Whose features it reads."""

    def __init__(
        self, model: SplitModel, *, name: str, labels: tuple[str, ...], has_masks: bool, device: str = "cpu"
    ) -> None:
        """Take a split model; it is moved to the device.

        Args:
            model: What `build_split_model` made.
            name: In the registry.
            labels: What the model's label numbers mean.
            has_masks: Whether it gives masks.
            device: A torch device.
        """
        self._model = model.to(device)
        self._device = torch.device(device)
        self._has_masks = has_masks
        self.name = name
        """Its name in the registry."""
        self.labels = labels
        """What it can find; a detection's label is a position in this. The first is the background, never found."""

    @classmethod
    def from_checkpoint(cls, path: Path, *, name: str, device: str, has_masks: bool = False) -> Self:
        """Load a checkpoint in torchvision's old or new key layout.

        Raises:
            DetectorError: It is missing, damaged or another model's; or masks are asked of a model without.
        """
        try:
            file = known_file(name)
            if has_masks and file.task != "segmentation":
                raise DetectorError(f"detector {name!r} gives no masks; maskrcnn_resnet50_fpn and its _v2 do")
            model = build_split_model(name, read_tensors(path), file=file, path=path, has_masks=has_masks)
        except CheckpointError as error:
            raise DetectorError(f"detector {name!r}: {error}") from error
        return cls(model, name=name, labels=categories(file), has_masks=has_masks, device=device)

    @torch.inference_mode()
    def __call__(
        self, features_nchw: Tensor, *, height: int, width: int, score_floor: float = SCORE_FLOOR
    ) -> list[Detections]:
        """Find the objects in frames of one size; see `Detector`.

        Raises:
            DetectorError: The features have another shape or type, or the floor is below the models' own.
        """
        check_features(features_nchw, channels=HEAD_CHANNELS, height=height, width=width)
        if score_floor < SCORE_FLOOR:
            raise DetectorError(f"score_floor of {self.name!r} must be at least {SCORE_FLOOR}, got {score_floor}")
        found = self._model(features_nchw.to(self._device), height=height, width=width)
        return [self._read_frame(each, height=height, width=width, score_floor=score_floor) for each in found]

    @torch.inference_mode()
    def head_features(self, frames_nchw: Tensor) -> Tensor:
        """Return what the detector's own backbone makes of pixels: the features that a perfect codec would give.

        Args:
            frames_nchw: RGB uint8 [N, 3, H, W].

        Returns:
            float32 [N, 256, ceil(H/4), ceil(W/4)].
        """
        height, width = frames_nchw.shape[2:]
        rgb_nchw = normalise(frames_nchw, device=self._device)
        cell = CELL * HEAD_STRIDE
        # As torchvision pads: with zeros after the normalisation.
        padded_nchw = F.pad(rgb_nchw, (0, -width % cell, 0, -height % cell))
        features_nchw = self._model.features_of(padded_nchw)
        return features_nchw[:, :, : -(-height // HEAD_STRIDE), : -(-width // HEAD_STRIDE)]

    def _read_frame(self, found: FoundTensors, *, height: int, width: int, score_floor: float) -> Detections:
        # torchvision's order is that of the best scores, but says so nowhere.
        order_k = found["scores"].argsort(descending=True, stable=True)
        order_k = order_k[found["scores"][order_k] >= score_floor]
        boxes_k4 = found["boxes"][order_k]
        masks = None
        if self._has_masks:
            masks = paste_as_rle(found["masks"][order_k], boxes_k4, height=height, width=width)
        return Detections(
            boxes_xyxy=boxes_k4.cpu().numpy(),
            scores=found["scores"][order_k].cpu().numpy(),
            labels=found["labels"][order_k].cpu().numpy(),
            masks_rle=masks,
        )
