"""From heat maps to boxes: the detector that runs a `DetectorNetwork` and reads its peaks.

Letters in shapes: N frames, C labels, h and w positions at stride 4, K objects.
"""

from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from framevault.codecs.dicm.backbone import HEAD_CHANNELS, HEAD_STRIDE
from framevault.workers.detectors.base import SCORE_FLOOR, Detections, DetectorError
from framevault.workers.detectors.checkpoint import DetectorConfig, load_network
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork, boxes_from_distances

MAX_CANDIDATES = 400
"""Peaks of a frame that are looked at; the best are taken."""

MAX_OBJECTS = 200
"""Objects of a frame that are returned; the best are taken."""


class PeakDetector:
    """Runs the network on features and returns the boxes at the peaks of its heat map; thread-safe."""

    backbone = "mobilenet_v2"
    """Whose features it reads."""

    def __init__(self, network: DetectorNetwork, config: DetectorConfig, *, device: str = "cpu") -> None:
        """Take a folded network; it is moved to the device."""
        self._network = network.to(device)
        self._config = config
        self._device = torch.device(device)

    @classmethod
    def from_checkpoint(cls, path: Path, *, name: str, device: str) -> Self:
        """Load a checkpoint.

        Raises:
            DetectorError: It is missing, damaged or another detector's.
        """
        network, config = load_network(path, name=name)
        return cls(network, config, device=device)

    @property
    def name(self) -> str:
        """Its name in the registry."""
        return self._config.name

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can find; a detection's label is a position in this."""
        return self._config.labels

    @torch.inference_mode()
    def __call__(
        self, features_nchw: Tensor, *, height: int, width: int, score_floor: float = SCORE_FLOOR
    ) -> list[Detections]:
        """Find the objects in frames of one size; see `Detector`."""
        check_features(features_nchw, height=height, width=width)
        on_device_nchw = features_nchw.to(self._device).contiguous(memory_format=torch.channels_last)
        logits_nchw, log_distances_nchw = self._network(on_device_nchw)
        scores_nchw = keep_peaks(logits_nchw.float().sigmoid())
        boxes_nchw = boxes_from_distances(log_distances_nchw)
        return [
            self._read_frame(scores_chw, boxes_chw, height=height, width=width, score_floor=score_floor)
            for scores_chw, boxes_chw in zip(scores_nchw, boxes_nchw, strict=True)
        ]

    def _read_frame(
        self, scores_chw: Tensor, boxes_chw: Tensor, *, height: int, width: int, score_floor: float
    ) -> Detections:
        """Read the peaks of one frame's heat map."""
        labels_k, rows_k, columns_k = torch.nonzero(scores_chw >= score_floor, as_tuple=True)
        scores_k = scores_chw[labels_k, rows_k, columns_k]
        # A stable sort: equal scores keep their order, so that the result is the same each time.
        order_k = scores_k.argsort(descending=True, stable=True)[:MAX_CANDIDATES]
        labels_k, rows_k, columns_k, scores_k = (x[order_k] for x in (labels_k, rows_k, columns_k, scores_k))
        boxes_k4 = clip_boxes_to_image(boxes_chw[:, rows_k, columns_k].T.contiguous(), (height, width))
        has_area_k = ((boxes_k4[:, 2:] - boxes_k4[:, :2]) > 0).all(dim=1)
        boxes_k4, labels_k, scores_k = boxes_k4[has_area_k], labels_k[has_area_k], scores_k[has_area_k]
        kept_k = batched_nms(boxes_k4, scores_k, labels_k, self._config.nms_iou)[:MAX_OBJECTS]
        return Detections(
            boxes_xyxy=boxes_k4[kept_k].cpu().numpy(),
            scores=scores_k[kept_k].cpu().numpy(),
            labels=labels_k[kept_k].cpu().numpy(),
        )


def check_features(features_nchw: Tensor, *, height: int, width: int, channels: int = HEAD_CHANNELS) -> None:
    """Check what a detector was given.

    Raises:
        DetectorError: It is not float32 [N, channels, ceil(height / 4), ceil(width / 4)].
    """
    expected = [channels, -(-height // HEAD_STRIDE), -(-width // HEAD_STRIDE)]
    if features_nchw.dtype != torch.float32 or list(features_nchw.shape[1:]) != expected:
        raise DetectorError(
            f"features of frames of {width} x {height} pixels must be float32 [N, {', '.join(map(str, expected))}], "
            f"got {features_nchw.dtype} {list(features_nchw.shape)}"
        )


def keep_peaks(scores_nchw: Tensor) -> Tensor:
    """Set every score to 0 that is not the highest of its 3 x 3 neighbourhood."""
    highest_nchw = F.max_pool2d(scores_nchw, 3, stride=1, padding=1)
    return torch.where(highest_nchw == scores_nchw, scores_nchw, torch.zeros_like(scores_nchw))
