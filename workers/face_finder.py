"""Where faces are: the shipped detector's boxes in a frame's decoded features, made into the squares that hsc codes.

::

    features [N, C, h, w] -> heat map and boxes of `face` -> large ones -> the best 300 of a frame -> squares

Letters in shapes: N frames, C channels, h and w positions at stride 4, K faces.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from framevault.codecs.errors import CheckpointError
from framevault.codecs.faces.framing import MOST_FACES, FaceRegion, quantise
from framevault.codecs.spec import CodecSpec, frames_spec
from framevault.workers.detectors.base import Detections
from framevault.workers.detectors.peaks import PeakDetector
from framevault.workers.detectors.registry import DEFAULT_DETECTOR, checkpoint_path, detector_head
from framevault.workers.weights import backbone_of, has_head

FACE_LABEL = "face"
"""What the detector calls them."""

MOST_FACES_CODED = 300
"""Faces of a frame that are coded; the best are taken, and how many are left out is said.

At some 120 bytes each, more would outweigh a frame many times, and what is so small shows nobody.
"""

SIDE_OF_BOX = 1.08
"""Side of a face's square, in square roots of its box's area; with `DOWN_OF_BOX`, so that it shows what hsc learned on.

hsc was trained on aligned UTKFace crops, in which the five points of MTCNN (facenet-pytorch) hardly move: eyes at
(0.304, 0.295) and (0.695, 0.294) of the side, mouth's corners at (0.32, 0.70) and (0.68, 0.70), deviation 0.02 to 0.04
(117 crops). In 70 faces of 18 clips (asl_gestures, carphone, computer_asl; detector on decoded dicm features, quality
5), the square that puts a face's five points there has 1.05 +- 0.05 roots of the box's area, its middle 0.084 +- 0.025
below the box's. 40 such crops pasted into plain frames at 48 to 200 pixels: 1.15 and 0.03, but there the crop's own
border draws the box. In between, nearer to what was not pasted. It hardly matters: from 1.05 to 1.15 and from 0.04 to
0.08, hsc restores 18 faces of these clips with 27.7 to 28.3 dB in 117 to 120 bytes, none outside its domain.
"""

DOWN_OF_BOX = 0.06
"""How far the square's middle lies below the box's, in the same measure."""


HEIGHT_OF_BOX = 1.25
"""Height of a whole face's box, in its widths: the median of those 70. What the frame's border cuts off is added."""

TOUCH = 1.0
"""Pixels from the border up to which a box is taken to be cut off there."""

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels."""


class FoundFaces(NamedTuple):
    """The faces of a frame."""

    regions: tuple[FaceRegion, ...]
    """Where they are, as a stream says it; best first. Whether they are outside a domain is not known yet."""
    num_left_out: int
    """Faces beyond `MOST_FACES_CODED`, counted up to the 4095 best; small ones are not among them."""
    num_small: int = 0
    """Faces that are smaller than wanted, of the 4095 best."""


@dataclass(frozen=True, slots=True)
class FaceFinder:
    """Finds faces in features; thread-safe."""

    detector: PeakDetector
    """What looks for them."""
    score: float
    """Faces of a lower score are left out."""
    size_pixels: int = 0
    """Faces whose box has a shorter side below this are left out, before the best are taken."""

    def __call__(self, features_nchw: Tensor, *, height: int, width: int) -> list[FoundFaces]:
        """Find the faces in frames of one size.

        Args:
            features_nchw: float32 [N, C, ceil(height / 4), ceil(width / 4)], on any device.
            height: Of the frames, in pixels.
            width: Of the frames, in pixels.
        """
        found = self.detector.find_label(
            FACE_LABEL, features_nchw, height=height, width=width, score_floor=self.score, most=MOST_FACES
        )
        return [self._best(each, height=height, width=width) for each in found]

    def _best(self, found: Detections, *, height: int, width: int) -> FoundFaces:
        """Return the squares of a frame's faces, of those that are large enough the best."""
        boxes_k4 = found.boxes_xyxy
        is_large_k = (boxes_k4[:, 2:] - boxes_k4[:, :2]).min(axis=1) >= self.size_pixels
        boxes, scores = boxes_k4[is_large_k].tolist(), found.scores[is_large_k].tolist()
        regions = tuple(
            square_of(complete(box, height=height, width=width), score=score)
            for box, score in zip(boxes[:MOST_FACES_CODED], scores[:MOST_FACES_CODED], strict=True)
        )
        return FoundFaces(regions, num_left_out=len(boxes) - len(regions), num_small=len(is_large_k) - len(boxes))


def load_finder(spec: CodecSpec, *, score: float, size_pixels: int = 0) -> FaceFinder:
    """Load the detector onto the codec's device.

    Args:
        spec: What codes the frames: its features are looked at.
        score: Faces of a lower score are left out.
        size_pixels: So are those whose box has a shorter side below this.

    Raises:
        CheckpointError: The detector can't read this checkpoint's features.
        DetectorError: The detector's checkpoint is missing or damaged.
    """
    frames = frames_spec(spec)
    backbone = backbone_of(frames)
    if backbone != PeakDetector.backbone or not has_head(frames, detector_head(DEFAULT_DETECTOR)):
        raise CheckpointError(
            f"{frames.checkpoint_path} has features of backbone {backbone!r}, and faces are found in those of the "
            f"shipped {PeakDetector.backbone!r}: compress with --codec {frames.name}, or with other --weights"
        )
    path = checkpoint_path(DEFAULT_DETECTOR)
    return FaceFinder(PeakDetector.from_checkpoint(path, name=DEFAULT_DETECTOR, device=spec.device), score, size_pixels)


def complete(box: Box, *, height: int, width: int) -> Box:
    """Return a face's box with what the border of a frame, in pixels, cuts off: a detector's boxes end there.

    One that touches two borders on one axis stays as it is: which of them cuts off how much can't be told.
    """
    x_min, y_min, x_max, y_max = box
    x_missing = max(0.0, (y_max - y_min) / HEIGHT_OF_BOX - (x_max - x_min))
    y_missing = max(0.0, (x_max - x_min) * HEIGHT_OF_BOX - (y_max - y_min))
    is_left, is_right = x_min <= TOUCH, x_max >= width - TOUCH
    is_top, is_bottom = y_min <= TOUCH, y_max >= height - TOUCH
    if is_left != is_right:
        x_min, x_max = x_min - x_missing * is_left, x_max + x_missing * is_right
    if is_top != is_bottom:
        y_min, y_max = y_min - y_missing * is_top, y_max + y_missing * is_bottom
    return x_min, y_min, x_max, y_max


def square_of(box: Box, *, score: float) -> FaceRegion:
    """Return the square that is coded of a face with this box; as it comes back from a stream."""
    x_min, y_min, x_max, y_max = box
    size = math.sqrt((x_max - x_min) * (y_max - y_min))
    side = SIDE_OF_BOX * size
    return quantise(
        FaceRegion(
            x_min=(x_min + x_max - side) / 2,
            y_min=(y_min + y_max - side) / 2 + DOWN_OF_BOX * size,
            side=side,
            angle_degrees=0.0,
            score=score,
            is_outside=False,
        )
    )
