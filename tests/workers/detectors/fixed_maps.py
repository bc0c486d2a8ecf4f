"""Detectors that see what a test wants, whatever they are shown."""

import torch
from torch import Tensor

from framevault.workers.detectors.checkpoint import DetectorConfig
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork, NetworkShape
from framevault.workers.detectors.peaks import PeakDetector


class FixedMaps(DetectorNetwork):
    """Says the same of every picture."""

    def __init__(self, logits_chw: Tensor, log_distances_4hw: Tensor) -> None:
        super().__init__(NetworkShape(num_labels=len(logits_chw), pyramid_channels=8, map_channels=8))
        self.logits_chw, self.log_distances_4hw = logits_chw, log_distances_4hw

    def forward(self, features_nchw: Tensor) -> tuple[Tensor, Tensor]:
        num = len(features_nchw)
        return self.logits_chw.repeat(num, 1, 1, 1), self.log_distances_4hw.repeat(num, 1, 1, 1)


def detector_that_sees(
    *peaks: tuple[int, int, int, float],
    size: float = 2.0,
    rows: int = 10,
    columns: int = 20,
    labels: tuple[str, ...] = ("person", "car"),
) -> PeakDetector:
    """Make a detector of some positions that sees rows (label, row, column, score), all of `size` each way."""
    logits_chw = torch.full((len(labels), rows, columns), -20.0)
    for label, row, column, score in peaks:
        logits_chw[label, row, column] = torch.logit(torch.tensor(score))
    config = DetectorConfig(name="toy", labels=labels, pyramid_channels=8, map_channels=8, nms_iou=0.6)
    return PeakDetector(FixedMaps(logits_chw, torch.full((4, rows, columns), size).log()), config)
