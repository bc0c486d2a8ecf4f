"""How faces are looked for while a video is compressed: settings that cross processes. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

USUAL_SCORE = 0.4
"""Lowest score of a face that is coded, unless told otherwise.

Above the 0.3 from which detections are shown; nine of ten UTKFace crops of 48 to 128 pixels have 0.77 and more. What is
coded without being a face costs some 120 bytes, and is flagged if it is outside the domain.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceSearch:
    """What is looked through, and what counts as a face."""

    score: float = USUAL_SCORE
    """Faces of a lower score are left out."""
    size_pixels: int = 0
    """Faces whose box has a shorter side below this are left out."""
    fps: float | None = None
    """Frames a second that are looked through; None for every frame."""

    @property
    def text(self) -> str:
        """Its canonical name, such as `faces from 0.4` or `faces from 0.4 and 24 pixels at fps=2`: part of ids."""
        of_size = f" and {self.size_pixels} pixels" if self.size_pixels else ""
        of_some = "" if self.fps is None else f" at fps={self.fps:.10g}"
        return f"faces from {self.score:.10g}{of_size}{of_some}"

    def chosen(self, frame_pts: Sequence[int], *, time_base: tuple[int, int]) -> list[bool]:
        """Say which frames of a segment are looked through.

        Ticks are at k / fps, k a whole number, by the source's own clock; of each segment, the first frame and the
        first at or after every tick are looked through.

        Args:
            frame_pts: Of its frames, rising.
            time_base: Seconds a tick of the pts, as numerator and denominator.
        """
        if self.fps is None:
            return [True] * len(frame_pts)
        rate = Fraction(*time_base) * Fraction(repr(self.fps))
        reached = [pts * rate // 1 for pts in frame_pts]
        return [number == 0 or reached[number] > reached[number - 1] for number in range(len(frame_pts))]
