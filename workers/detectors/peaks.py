"""From heat maps to boxes: reading the peaks, and the detector on features that does so.

Letters in shapes: N frames, C labels, h and w positions at stride 4, P candidates, K objects.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from framevault.codecs.dicm.backbone import HEAD_CHANNELS, HEAD_STRIDE
from framevault.codecs.layers.precision import fastest_dtype
from framevault.workers.detectors.base import SCORE_FLOOR, Detections, DetectorError
from framevault.workers.detectors.checkpoint import DetectorConfig, load_network
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork, boxes_at, set_precision

MAX_OBJECTS = 200
"""Objects of a frame that are returned, unless told otherwise; the best are taken."""

CANDIDATES_PER_OBJECT = 2
"""Peaks of a frame that are looked at, for each object that is returned at most; the best are taken."""


class PeakDetector:
    """Runs the network on features and returns the boxes at the peaks of its heat map; thread-safe.

    Where the device multiplies bfloat16, it runs in that, in half the time; the last projections stay in float32.
    """

    backbone = "mobilenet_v2"
    """Whose features it reads."""

    def __init__(self, network: DetectorNetwork, config: DetectorConfig, *, device: str = "cpu") -> None:
        """Take a folded network; it is moved to the device."""
        self._device = torch.device(device)
        self._dtype = fastest_dtype(self._device)
        self._network = network.to(self._device)
        set_precision(self._network, self._dtype, branches=(network.heat, network.distances))
        self._config = config

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
        logits_nchw, log_distances_nchw = self._look(features_nchw, height=height, width=width)
        return read_peaks(
            logits_nchw,
            log_distances_nchw,
            height=height,
            width=width,
            score_floor=score_floor,
            nms_iou=self._config.nms_iou,
        )

    @torch.inference_mode()
    def find_label(
        self, label: str, features_nchw: Tensor, *, height: int, width: int, score_floor: float, most: int
    ) -> list[Detections]:
        """Find the objects of one label alone, with no regard to how many others there are.

        Args:
            label: One of `labels`.
            features_nchw: As when it is called.
            height: Of the frames, in pixels.
            width: Of the frames, in pixels.
            score_floor: Objects of a lower score are left out.
            most: Objects of a frame, at most; the best are taken.

        Raises:
            DetectorError: It knows no such label, or the features have another shape or type.
        """
        if label not in self.labels:
            raise DetectorError(f"detector {self.name!r} finds no {label!r}, only {', '.join(self.labels)}")
        number = self.labels.index(label)
        logits_nchw, log_distances_nchw = self._look(features_nchw, height=height, width=width)
        found = read_peaks(
            logits_nchw[:, number : number + 1],
            log_distances_nchw,
            height=height,
            width=width,
            score_floor=score_floor,
            nms_iou=self._config.nms_iou,
            most=most,
        )
        return [replace(each, labels=np.full_like(each.labels, number)) for each in found]

    def _look(self, features_nchw: Tensor, *, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Run the network."""
        check_features(features_nchw, height=height, width=width)
        on_device_nchw = features_nchw.to(self._device, self._dtype).contiguous(memory_format=torch.channels_last)
        logits_nchw, log_distances_nchw = self._network(on_device_nchw)
        return logits_nchw, log_distances_nchw


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


def read_peaks(
    logits_nchw: Tensor,
    log_distances_nchw: Tensor,
    *,
    height: int,
    width: int,
    score_floor: float,
    nms_iou: float,
    most: int = MAX_OBJECTS,
) -> list[Detections]:
    """Return the objects at the peaks of heat maps.

    Args:
        logits_nchw: Heat maps before the sigmoid, [N, C, h, w].
        log_distances_nchw: Logarithms of the distances to each box's sides in positions, [N, 4, h, w].
        height: Of the frames, in pixels: boxes end there.
        width: Of the frames, in pixels.
        score_floor: Objects of a lower score are left out, 0..1.
        nms_iou: Of two objects of one label that overlap more than this, only the better is kept.
        most: Objects of a frame, at most; the best are taken.
    """
    peaks_p4 = find_peaks(logits_nchw, score_floor=score_floor)
    frames_p, labels_p, rows_p, columns_p = peaks_p4.unbind(1)
    scores_p = logits_nchw[frames_p, labels_p, rows_p, columns_p].float().sigmoid()
    boxes_p4 = boxes_at(log_distances_nchw[frames_p, :, rows_p, columns_p], rows_p, columns_p)
    boxes_p4 = clip_boxes_to_image(boxes_p4, (height, width))
    has_area_p = ((boxes_p4[:, 2:] - boxes_p4[:, :2]) > 0).all(dim=1)
    found = []
    for frame in range(len(logits_nchw)):
        mine_k = torch.nonzero((frames_p == frame) & has_area_p)[:, 0]
        found.append(_best(boxes_p4[mine_k], scores_p[mine_k], labels_p[mine_k], nms_iou=nms_iou, most=most))
    return found


def _best(boxes_k4: Tensor, scores_k: Tensor, labels_k: Tensor, *, nms_iou: float, most: int) -> Detections:
    """Return the best objects of a frame, best first."""
    # A stable sort: equal scores keep their order, so that the result is the same each time.
    order_k = scores_k.argsort(descending=True, stable=True)[: CANDIDATES_PER_OBJECT * most]
    boxes_k4, scores_k, labels_k = boxes_k4[order_k], scores_k[order_k], labels_k[order_k]
    kept_k = batched_nms(boxes_k4, scores_k, labels_k, nms_iou)[:most]
    return Detections(
        boxes_xyxy=boxes_k4[kept_k].cpu().numpy(),
        scores=scores_k[kept_k].cpu().numpy(),
        labels=labels_k[kept_k].cpu().numpy(),
    )


def find_peaks(logits_nchw: Tensor, *, score_floor: float) -> Tensor:
    """Return where a heat map is nowhere higher in the 3 x 3 neighbourhood, and at least as high as the floor.

    Few positions reach the floor, so only their neighbourhoods are looked at: a pooling of whole maps, one a label,
    took as long as a third of the network.

    Returns:
        int64 [P, 4]: frame, label, row and column, in this order.
    """
    if score_floor <= 0:
        least = -math.inf
    else:
        least = math.inf if score_floor >= 1 else math.log(score_floor / (1 - score_floor))
    candidates_p4 = torch.nonzero(logits_nchw >= least)
    frames_p, labels_p, rows_p, columns_p = candidates_p4.unbind(1)
    # Rows and columns are counted from the border that is added.
    padded_nchw = F.pad(logits_nchw, (1, 1, 1, 1), value=-math.inf)
    steps_9 = torch.arange(9, device=logits_nchw.device)
    rows_p9, columns_p9 = rows_p[:, None] + steps_9 // 3, columns_p[:, None] + steps_9 % 3
    highest_p = padded_nchw[frames_p[:, None], labels_p[:, None], rows_p9, columns_p9].amax(dim=1)
    return candidates_p4[logits_nchw[frames_p, labels_p, rows_p, columns_p] == highest_p]
