"""The task that crosses processes (a segment of a source) and what came of it (a receipt).

Plain data: it pickles, compares and prints, and importing it needs neither torch nor av.

Geometry: `width` and `height` are always the coded size, as the decoder gives the frames. A source that is shown turned
(`rotation_degrees`, a multiple of 90, clockwise) has `display_width` and `display_height`, which are the coded ones
swapped at 90 and 270; frames are turned when they become RGB (`workers/colour.py`). Non-square pixels are recorded
(`sample_aspect_ratio`) and never resampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from framevault.storage.frame_facts import FactPart
    from framevault.storage.index import SegmentRecord

SourceKind = Literal["video", "pictures"]
"""A video file, or a folder of pictures."""

ColourMatrix = Literal["bt601", "bt709", "bt2020", "smpte240m", "fcc", "rgb", "unspecified"]
"""How luma and chroma make red, green and blue; `unspecified`: the source does not say."""

ColourRange = Literal["limited", "full"]
"""Whether 8-bit luma goes from 16 to 235 (limited) or from 0 to 255 (full)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """One probed source: what it is, where it lies, and what its frames look like."""

    video_id: str
    """First 32 hex digits of the SHA-256 of the source's bytes (pictures: of the sorted `name NUL sha256 LF` list)."""
    url: str
    """Path or fsspec URL of the file, or of the folder of pictures."""
    name: str
    """The name under which people find it: its path relative to the folder that was given."""
    kind: SourceKind
    """A video file, or a folder of pictures."""
    size_bytes: int
    """Bytes of the file, or of all the pictures together."""
    version_token: str
    """Changes when the source changes: size and modification time, or size and ETag; checked while it is read."""
    container: str
    """libavformat's name of the container; `pictures` for a folder of pictures."""
    codec: str
    """libavcodec's name of the codec; for pictures, that of the first one's file format, such as `png`."""
    width: int
    """Coded width of the frames, in pixels, before any rotation (of a folder: of its first picture)."""
    height: int
    """Coded height of the frames, in pixels, before any rotation (of a folder: of its first picture)."""
    pixel_format: str
    """libavutil's name of the decoder's pixel format; `rgb24` for pictures."""
    time_base: tuple[int, int]
    """Seconds of one pts tick, as numerator and denominator."""
    rotation_degrees: int
    """Clockwise turn that makes a decoded frame upright: 0, 90, 180 or 270."""
    sample_aspect_ratio: tuple[int, int]
    """Width to height of one coded pixel, as numerator and denominator; (1, 1) where the source does not say."""
    colour_matrix: ColourMatrix
    """The source's own statement about its colour matrix."""
    colour_range: ColourRange
    """The source's range of sample values; limited where it does not say."""
    fps: float
    """Mean frames a second."""
    duration_s: float
    """Seconds from the first frame's pts to the end of the last."""
    num_frames: int
    """Frames that the source should give: all that its packet table lists, those of a lost tail included."""

    @property
    def display_width(self) -> int:
        """Width of an upright frame, in pixels."""
        return self.height if self.rotation_degrees in (90, 270) else self.width

    @property
    def display_height(self) -> int:
        """Height of an upright frame, in pixels."""
        return self.width if self.rotation_degrees in (90, 270) else self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketRun:
    """The packets of a video that must be decoded, in decoding order, to get the frames of one segment."""

    start_pts: int | None
    """The keyframe packet's own pts as the container gives it, before any repair; None if it gives none."""
    start_dts: int | None
    """The keyframe packet's own dts as the container gives it; None if it gives none."""
    start_position: int
    """Byte position of the keyframe packet in the file; -1 if the container does not tell."""
    start_size: int
    """Bytes of the keyframe packet."""
    num_packets: int
    """Packets to decode, the keyframe included."""
    num_leading_packets: int
    """Packets right after the keyframe that are shown before it: another segment's, so errors in them don't count."""
    frame_packets: tuple[int, ...]
    """For each frame of the segment, how many packets after the keyframe its packet comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFile:
    """One picture of a folder."""

    url: str
    """Path or fsspec URL."""
    version_token: str
    """As `SourceInfo.version_token`, of this file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of sampled frames of one source, cut at keyframes: the unit of work, retry, quarantine and commit."""

    segment_id: str
    """First 32 hex digits of the SHA-256 over video, first and last pts, sampling and codec fingerprint."""
    source: SourceInfo
    """The source that it is cut from."""
    number: int
    """Position among the segments of its source, from 0."""
    width: int
    """Coded width of its frames, in pixels."""
    height: int
    """Coded height of its frames, in pixels."""
    first_pts: int
    """The first frame's pts, in ticks of the source's time base."""
    last_pts: int
    """The last frame's pts."""
    frame_pts: tuple[int, ...]
    """The pts of every frame that it must give, strictly increasing."""
    is_last: bool
    """Whether no segment of its source comes after it."""
    sampling: str
    """Which frames were taken: `all`, or `fps=5` and the like."""
    packets: PacketRun | None
    """What to decode, for a video; None for pictures."""
    files: tuple[PictureFile, ...]
    """One file a frame, for pictures; empty for a video."""

    @property
    def task_id(self) -> str:
        """The executor's name for it: the segment's id."""
        return self.segment_id

    @property
    def video_id(self) -> str:
        """The id of its source."""
        return self.source.video_id

    @property
    def num_frames(self) -> int:
        """How many frames it must give."""
        return len(self.frame_pts)

    @property
    def display_width(self) -> int:
        """Width of an upright frame, in pixels."""
        return self.height if self.source.rotation_degrees in (90, 270) else self.width

    @property
    def display_height(self) -> int:
        """Height of an upright frame, in pixels."""
        return self.width if self.source.rotation_degrees in (90, 270) else self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What came of one segment: the stored parts and where the time went."""

    segment_id: str
    """The segment's id."""
    record: SegmentRecord
    """Keys, sizes and checksums of what was stored: what the video's manifest will name."""
    num_frames: int
    """Frames stored."""
    decode_s: float
    """Seconds that the decoding child worked, waiting for space not included."""
    encode_s: float
    """Seconds in colour conversion and the codec."""
    write_s: float
    """Seconds in the store."""
    wait_s: float
    """Seconds that the worker waited for decoded frames."""
    num_outside: int = 0
    """Frames that are outside the codec's domain: what is restored of them differs by more than it should."""
    faces: FaceReceipt | None = None
    """What came of the faces in them; None for codecs without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceReceipt:
    """What came of the faces of one segment."""

    part: FactPart
    """The stored part, a row a face."""
    num_outside: int
    """Faces that are outside the domain of what codes them."""
    num_left_out: int
    """Faces that were found and not coded: there were too many in their frames."""
    num_small: int
    """Faces that were found and not coded: they are smaller than wanted."""
