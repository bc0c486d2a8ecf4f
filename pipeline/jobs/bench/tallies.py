"""What a network makes of decoded frames, scored: top-1 of a classifier, or average precision of a detector.

A tally is kept for each codec and setting. Letters in shapes: N frames, C channels, h and w positions, P pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from framevault.pipeline.jobs.bench.labels import drop_duplicates
from framevault.pipeline.jobs.bench.material import Frame, cut_size
from framevault.pipeline.jobs.bench.truth import TruthImage
from framevault.workers.classifier import Classifier
from framevault.workers.detectors.base import Detector
from framevault.workers.detectors.evaluation import SCORED_FROM, CocoDict, CocoResult, average_precision, coco_results

T = TypeVar("T")

TOP = 5
"""Of how many best labels one must be right, besides the very best."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """What came of some frames."""

    metrics: Mapping[str, float]
    """By name, 0..1: `top1` and `top5`, or `ap50` and `ap`."""
    values_p: Mapping[str, NDArray[np.float64]]
    """Metrics that are means over pictures: what each picture adds, in the order in which they were added."""


class Tally(Protocol[T]):
    """Scores what a network makes of frames of one codec and setting."""

    def add(self, frames: Sequence[Frame[T]], features_nchw: Tensor) -> None:
        """Score frames of one size, all of which have a target.

        Args:
            frames: What is known of them.
            features_nchw: float32 [N, C, h, w].
        """
        ...

    def result(self) -> Scored:
        """Return the scores of all frames added."""
        ...


@dataclass(slots=True)
class Top1Tally:
    """How often a classifier is right."""

    classifier: Classifier
    """Reads features."""
    right: list[NDArray[np.bool_]] = field(default_factory=list)
    """For each picture, whether each of the best labels is the right one, best first."""

    def add(self, frames: Sequence[Frame[int]], features_nchw: Tensor) -> None:
        """Score pictures against the numbers of their classes; see `Tally.add`."""
        found_nk = self.classifier(features_nchw).label_ids_nk
        self.right.extend(found_nk == np.asarray([frame.target for frame in frames])[:, None])

    def result(self) -> Scored:
        """Return the shares of right answers."""
        right_pk = np.stack(self.right)
        values = {"top1": right_pk[:, 0].astype(np.float64), "top5": right_pk[:, :TOP].any(axis=1).astype(np.float64)}
        return Scored(metrics={name: float(value.mean()) for name, value in values.items()}, values_p=values)


@dataclass(slots=True)
class BoxTally:
    """How well a detector's boxes match those that people drew."""

    detector: Detector
    """Reads features."""
    names: Sequence[str | None]
    """What each of its labels is called in the truth; None leaves it out."""
    truth: CocoDict
    """The boxes."""
    size: tuple[int, int] | None
    """Width and height that the frames were scaled to; None if they were not."""
    results: list[CocoResult] = field(default_factory=list)
    """What was found so far, in the source's pixels."""
    image_ids: list[int] = field(default_factory=list)
    """The frames so far."""

    def add(self, frames: Sequence[Frame[TruthImage]], features_nchw: Tensor) -> None:
        """Look for objects in frames; see `Tally.add`."""
        width, height = self.size or cut_size(frames[0].source_size)
        found = self.detector(features_nchw, height=height, width=width, score_floor=SCORED_FROM)
        for frame, detections in zip(frames, found, strict=True):
            assert frame.target is not None
            across, down = (1.0, 1.0) if self.size is None else np.divide(frame.source_size, self.size).tolist()
            for row in coco_results(frame.target.image_id, drop_duplicates(detections, self.names), self.names):
                x, y, box_width, box_height = row.bbox_xywh
                box = (x * across, y * down, box_width * across, box_height * down)
                self.results.append(replace(row, bbox_xywh=box))
            self.image_ids.append(frame.target.image_id)

    def result(self) -> Scored:
        """Return the means over the labels that have boxes."""
        scores = average_precision(self.truth, self.results, image_ids=self.image_ids)
        metrics = {
            "ap50": float(np.mean([score.ap50 for score in scores])),
            "ap": float(np.mean([score.ap for score in scores])),
        }
        return Scored(metrics=metrics, values_p={})
