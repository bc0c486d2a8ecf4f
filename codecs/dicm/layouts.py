"""How the bitstream versions of segments differ: rows of data, for one coder.

Thinned versions differ from whole ones in the slices that they hold, not in their layout.
"""

from dataclasses import dataclass

import numpy as np

from framevault.codecs.entropy.tables import FrequencyTables
from framevault.codecs.spec import CODECS

INTRA, PREDICTED, MOVED = 1, 0, 2
"""Kinds of frames, as streams have them."""

INTRA_VERSION = 1
"""The bitstream version that codes each frame by itself."""

VIDEO_VERSION = 2
"""The bitstream version with predicted frames."""

MOTION_VERSION = 9
"""The one with moved frames, too. Versions 5 to 8 are of codec dicm+hsc alone."""

BACKGROUND_VERSION = 13
"""The one in which what comes into view again is taken from the background. 11 and 12 are of dicm+hsc alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoLayout:
    """What is particular to a version."""

    kind_table: FrequencyTables
    """How likely each kind of frame is."""
    most_vectors: int = 0
    """Of a moved frame; 0: no frame is moved."""
    has_background: bool = False
    """Whether a vector of nothing means that a position is taken from the background (`background.py`)."""
    pull16: int = 0
    """Sixteenths by which a latent lies nearer to its mean than its symbol says, if that is not 0."""

    @property
    def kinds(self) -> tuple[int, ...]:
        """Those that streams may have."""
        return (PREDICTED, INTRA, MOVED) if self.most_vectors else (PREDICTED, INTRA)


_STILL = FrequencyTables(
    cumulative=np.array([[0, 65279, 65535, 65536]], np.int32),
    lengths=np.array([4], np.int32),
    offsets=np.array([PREDICTED], np.int32),
)
"""A predicted frame's kind costs 0.006 bits, an intra frame's a byte."""

_MOVING = FrequencyTables(
    cumulative=np.array([[0, 45000, 45256, 65535, 65536]], np.int32),
    lengths=np.array([5], np.int32),
    offsets=np.array([PREDICTED], np.int32),
)
"""A predicted frame's kind costs half a bit, a moved one's 1.7, an intra frame's a byte."""

VIDEO_LAYOUTS = {
    VIDEO_VERSION: VideoLayout(kind_table=_STILL),
    MOTION_VERSION: VideoLayout(kind_table=_MOVING, most_vectors=8),
    BACKGROUND_VERSION: VideoLayout(kind_table=_MOVING, most_vectors=16, has_background=True, pull16=3),
}
"""Of whole streams, by version."""


def layout_of(version: int) -> VideoLayout | None:
    """Return the layout of a version, whole or thinned; None where each frame is coded by itself."""
    return VIDEO_LAYOUTS.get(CODECS["dicm"].whole_version(version))
