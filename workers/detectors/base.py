"""What a detector is: features of frames in, boxes with labels and scores out.

Letters in shapes: N frames, C channels, h and w positions at stride 4, K objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

SCORE_FLOOR = 0.05
"""Objects of a lower score are not worth storing."""


class DetectorError(ValueError):
    """A detector can't be loaded, or was given something else than features."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """The objects of one frame, best first."""

    boxes_xyxy: NDArray[np.float32]
    """[K, 4]: x_min, y_min, x_max, y_max in pixels, inside the frame."""
    scores: NDArray[np.float32]
    """[K], 0..1, falling."""
    labels: NDArray[np.int64]
    """[K]: numbers of labels, as the detector's `labels` counts them."""
    masks_rle: tuple[str, ...] | None = None
    """K masks as large as the frame, as COCO's compressed counts; None from detectors that give boxes only."""


class Detector(Protocol):
    """Finds objects in features; deterministic on one machine, and thread-safe."""

    @property
    def name(self) -> str:
        """Its name in the registry."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can find; a detection's label is a position in this."""
        ...

    @property
    def backbone(self) -> str:
        """Whose features it reads: a key of `BACKBONES`."""
        ...

    def __call__(
        self, features_nchw: Tensor, *, height: int, width: int, score_floor: float = SCORE_FLOOR
    ) -> list[Detections]:
        """Find the objects in frames of one size.

        Args:
            features_nchw: float32 [N, C, ceil(height / 4), ceil(width / 4)], on any device; C is the backbone's.
                Latents, if it `ReadsLatents`.
            height: Of the frames, in pixels.
            width: Of the frames, in pixels.
            score_floor: Objects of a lower score are left out.

        Returns:
            One entry a frame, in order.

        Raises:
            DetectorError: The features have another shape or type.
        """
        ...


@runtime_checkable
class ReadsLatents(Protocol):
    """A detector that reads a codec's decoded latents in the place of features.

    It is called with latents float32 [N, M, ceil(height / 16), ceil(width / 16)], as `SupportsLatents` gives them.
    """

    @property
    def codec_weights(self) -> str:
        """SHA-256 in hex of the codec checkpoint whose latents it reads."""
        ...


@runtime_checkable
class BringsHead(Protocol):
    """A detector that brings its backbone's head along, and so can look at pixels too."""

    def head_features(self, frames_nchw: Tensor) -> Tensor:
        """Return the features of RGB frames, uint8 [N, 3, H, W], as float32 [N, C, ceil(H/4), ceil(W/4)]."""
        ...
