"""What a job on stored features leaves behind about frames that it could not look at: a failure a segment and model.

The failure is put into quarantine, where those of `framevault compress` are, and is over as soon as the same model has
looked through the whole segment: after a repair, by the same command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from framevault.pipeline.executors.base import TaskFailure
from framevault.storage.frame_facts import FactKind
from framevault.storage.index import SegmentRecord, VideoManifest
from framevault.storage.quarantine import Failure, look_id
from framevault.workers.salvage import FrameFault

MOST_NAMED = 8
"""So many damaged places of a segment stand in a reason; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Who looks through stored segments."""

    kind: Literal["detections"] | FactKind
    """What comes of it."""
    model_fp: str
    """Of the detector or other model."""
    command: str
    """What to type to try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LostFrames:
    """Some of a segment's frames, and why they were not looked at."""

    look: Look
    """Who could not."""
    video: VideoManifest
    """The video."""
    segment: SegmentRecord
    """The segment."""

    def of_segment(self, failure: TaskFailure) -> Failure:
        """Return the failure of the whole segment."""
        record = self.segment
        return Failure(
            **self._subject(),
            category=failure.category,
            reason=f"segment {record.segment_id}: {failure.reason}",
            attempts=failure.attempts,
            first_pts=record.first_pts,
            last_pts=record.last_pts,
            num_frames=record.num_frames,
        )

    def of_frames(self, faults: Sequence[FrameFault]) -> Failure:
        """Return the failure of one or more frames."""
        more = f"; and {len(faults) - MOST_NAMED} more damaged places" if len(faults) > MOST_NAMED else ""
        return Failure(
            **self._subject(),
            # Whoever keeps the objects damaged them: neither the video nor framevault did.
            category="environment",
            reason=f"segment {self.segment.segment_id}: {'; '.join(map(str, faults[:MOST_NAMED]))}{more}",
            attempts=1,
            first_pts=faults[0].first_pts,
            last_pts=faults[-1].last_pts,
            num_frames=sum(fault.num_frames for fault in faults),
        )

    def _subject(self) -> dict[str, str]:
        return {
            "subject_id": look_id(self.look.kind, self.look.model_fp, self.segment.segment_id),
            "video_id": self.video.video_id,
            "name": self.video.name,
            "source_url": self.video.source_url,
            "command": self.look.command,
        }
