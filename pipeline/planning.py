"""Cuts probed sources into segments; the same source and settings always give the same segments.

Sampling at `fps` has ticks at (first frame's time) + k / fps, k = 0, 1, ...; for each tick the first frame at or after
it is taken, and a frame is taken once however many ticks fall on it. The ticks run through the whole video, so where it
is cut makes no difference.

A segment begins at a keyframe at which nothing that is shown later has been coded before; it ends before the first such
keyframe at which it has `segment_frames` sampled frames or, with sparse sampling, spans MAX_SPAN times as many. Leading
pictures (shown before a keyframe, coded after it) go by their pts to the segment before. Folders of pictures are cut
where the size changes.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from framevault.pipeline.probing import PROBE_ERRORS, PictureTable, ProbedSource, ProbeError, SourceProber
from framevault.pipeline.sources import SourceLocation
from framevault.workers.face_search import FaceSearch
from framevault.workers.ids import digest_of, segment_id_of
from framevault.workers.packets import PacketTable
from framevault.workers.tasks import PacketRun, PictureFile, Segment, SourceInfo

SEGMENT_FRAMES = 128
"""Sampled frames after which a segment ends at the next keyframe, unless told otherwise."""

MAX_SPAN = 8
"""A segment ends when it spans this many times `segment_frames` frames of the source, however few are sampled."""

_SEGMENTATION_RULE = 0
"""Counts up when the rules above change: then the same settings give other segments."""
_RUN_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which frames of a source are kept."""

    fps: float | None = None
    """Frames a second; None keeps all."""

    def __post_init__(self) -> None:
        """Checks the rate; raises ValueError unless it is a positive number."""
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ValueError(f"fps must be a positive number, got {self.fps}")

    @property
    def text(self) -> str:
        """Its canonical name, such as `all` or `fps=5`: part of ids."""
        return "all" if self.fps is None else f"fps={self.fps:.10g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """All but the source that decides which segments there are and what they are called."""

    codec_fingerprint: str
    """The codec's fingerprint, from `codecs/spec.py`."""
    sampling: Sampling = Sampling()
    """Which frames are kept."""
    segment_frames: int = SEGMENT_FRAMES
    """Sampled frames after which a segment ends at the next keyframe."""
    faces: FaceSearch | None = None
    """How faces are looked for; None for codecs without."""

    def __post_init__(self) -> None:
        """Checks the numbers; raises ValueError."""
        if self.segment_frames < 1:
            raise ValueError(f"segment_frames must be at least 1, got {self.segment_frames}")

    @property
    def sampling_text(self) -> str:
        """Canonical name of what is taken of a source, such as `fps=5` or `all; faces from 0.4`: part of ids."""
        return self.sampling.text if self.faces is None else f"{self.sampling.text}; {self.faces.text}"

    @property
    def run_fp(self) -> str:
        """First 16 hex digits of the SHA-256 over codec, sampling and segmentation: part of a manifest's key."""
        segmentation = {"segment_frames": self.segment_frames, "max_span": MAX_SPAN, "rule": _SEGMENTATION_RULE}
        parts: dict[str, object] = {
            "codec_fingerprint": self.codec_fingerprint,
            "sampling": self.sampling_text,
            "segmentation": segmentation,
        }
        return digest_of(parts)[:_RUN_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlan:
    """One video with its segments and all the places where it was found."""

    info: SourceInfo
    """The source, under its first name."""
    locations: tuple[SourceLocation, ...]
    """Every location that holds these very bytes; the first is the one that is read."""
    segments: tuple[Segment, ...]
    """All segments, those included that a vault may hold already."""

    @property
    def num_frames(self) -> int:
        """Sampled frames of all segments."""
        return sum(segment.num_frames for segment in self.segments)

    def pending(self, stored: Container[str]) -> tuple[Segment, ...]:
        """Gives the segments whose ids are not among the stored ones."""
        return tuple(segment for segment in self.segments if segment.segment_id not in stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFailure:
    """A source that could not be planned."""

    location: SourceLocation
    """Which one."""
    error: ProbeError
    """Why; its class tells the input's own fault from the environment's and ours."""


def plan_sources(
    locations: Sequence[SourceLocation], prober: SourceProber, *, settings: PlanSettings
) -> tuple[list[SourcePlan], list[ProbeFailure]]:
    """Probes and cuts all sources; one with several names is planned once, one that fails does not stop the rest."""
    plans: dict[str, SourcePlan] = {}
    failures: list[ProbeFailure] = []
    for location in locations:
        try:
            probed = prober.probe(location)
        except PROBE_ERRORS as error:
            failures.append(ProbeFailure(location=location, error=error))
            continue
        known = plans.get(probed.info.video_id)
        segments = known.segments if known else tuple(plan_source(probed, settings=settings))
        info, earlier = (known.info, known.locations) if known else (probed.info, ())
        plans[info.video_id] = SourcePlan(info=info, locations=(*earlier, location), segments=segments)
    return list(plans.values()), failures


def plan_source(probed: ProbedSource, *, settings: PlanSettings) -> list[Segment]:
    """Cuts one source into segments."""
    if isinstance(probed.table, PictureTable):
        pieces = _cut_pictures(probed.table, settings=settings)
    else:
        pieces = _cut_video(probed.table, time_base=Fraction(*probed.info.time_base), settings=settings)
    return [
        _make_segment(probed, piece, number=number, is_last=number == len(pieces) - 1, settings=settings)
        for number, piece in enumerate(pieces)
    ]


def sample_frames(times: Sequence[int], *, time_base: Fraction, sampling: Sampling) -> list[int]:
    """Gives the positions of the frames to keep among the increasing pts `times`."""
    if sampling.fps is None:
        return list(range(len(times)))
    ticks_per_unit = time_base * Fraction(repr(sampling.fps))
    reached = [(time - times[0]) * ticks_per_unit // 1 for time in times]
    return [position for position in range(len(times)) if position == 0 or reached[position] > reached[position - 1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """The frames of one segment."""

    frame_pts: tuple[int, ...]
    packets: PacketRun | None
    files: tuple[PictureFile, ...]
    size: tuple[int, int] | None


def _cut_video(table: PacketTable, *, time_base: Fraction, settings: PlanSettings) -> list[_Piece]:
    frames = table.frames_in_display_order()
    times = [table.pts[number] for number in frames]
    kept = set(sample_frames(times, time_base=time_base, sampling=settings.sampling))
    cuts = _find_cuts(table)
    forced = len(table.pts) - table.num_missing
    pieces: list[_Piece] = []
    start, taken, span, cut = 0, [], 0, 1  # type: tuple[int, list[int], int, int]
    for position, number in enumerate(frames):
        while cut < len(cuts) and times[position] >= table.pts[table.keyframes[cuts[cut]].packet_number]:
            is_full = len(taken) >= settings.segment_frames or span >= MAX_SPAN * settings.segment_frames
            if taken and (is_full or table.keyframes[cuts[cut]].packet_number == forced):
                pieces.append(_video_piece(table, keyframe=cuts[start], frames=taken))
                taken, span = [], 0
            if not taken:
                start, span = cut, 0
            cut += 1
        span += 1
        if position in kept:
            taken.append(number)
    if taken:
        pieces.append(_video_piece(table, keyframe=cuts[start], frames=taken))
    return pieces


def _find_cuts(table: PacketTable) -> list[int]:
    """Gives the positions, among the keyframes, of those after which nothing is shown that was coded before."""
    hidden = set(table.hidden)
    visible = [table.pts[0] - 1 if number in hidden else pts for number, pts in enumerate(table.pts)]
    latest = list(accumulate(visible, max))
    return [
        position
        for position, keyframe in enumerate(table.keyframes)
        if keyframe.packet_number == 0 or latest[keyframe.packet_number - 1] < table.pts[keyframe.packet_number]
    ]


def _video_piece(table: PacketTable, *, keyframe: int, frames: Sequence[int]) -> _Piece:
    key = table.keyframes[keyframe]
    offsets = tuple(number - key.packet_number for number in frames)
    run = PacketRun(
        start_pts=key.pts,
        start_dts=key.dts,
        start_position=key.position,
        start_size=key.size,
        num_packets=max(offsets) + 1,
        num_leading_packets=_count_leading(table, key.packet_number),
        frame_packets=offsets,
    )
    return _Piece(frame_pts=tuple(table.pts[number] for number in frames), packets=run, files=(), size=None)


def _count_leading(table: PacketTable, start: int) -> int:
    """Counts the packets right after a keyframe that are shown before it and not by this segment."""
    hidden = set(table.hidden) if start == 0 else None
    count = 0
    for number in range(start + 1, len(table.pts)):
        is_foreign = table.pts[number] < table.pts[start] if hidden is None else number in hidden
        if not is_foreign:
            break
        count += 1
    return count


def _cut_pictures(table: PictureTable, *, settings: PlanSettings) -> list[_Piece]:
    kept = sample_frames(range(len(table.files)), time_base=Fraction(1), sampling=settings.sampling)
    pieces: list[_Piece] = []
    taken: list[int] = []
    for position in kept:
        if taken and (len(taken) == settings.segment_frames or table.sizes[taken[0]] != table.sizes[position]):
            pieces.append(_picture_piece(table, taken))
            taken = []
        taken.append(position)
    return [*pieces, _picture_piece(table, taken)]


def _picture_piece(table: PictureTable, positions: Sequence[int]) -> _Piece:
    files = tuple(table.files[position] for position in positions)
    return _Piece(frame_pts=tuple(positions), packets=None, files=files, size=table.sizes[positions[0]])


def _make_segment(
    probed: ProbedSource, piece: _Piece, *, number: int, is_last: bool, settings: PlanSettings
) -> Segment:
    info, sampling = probed.info, settings.sampling_text
    first_pts, last_pts = piece.frame_pts[0], piece.frame_pts[-1]
    # A picture whose header can't be read has no size; its segment fails when it is decoded, not before.
    width, height = (max(1, side) for side in piece.size or (info.width, info.height))
    return Segment(
        segment_id=segment_id_of(
            info.video_id,
            settings.codec_fingerprint,
            first_pts=first_pts,
            last_pts=last_pts,
            sampling=sampling,
        ),
        source=info,
        number=number,
        width=width,
        height=height,
        first_pts=first_pts,
        last_pts=last_pts,
        frame_pts=piece.frame_pts,
        is_last=is_last,
        sampling=sampling,
        packets=piece.packets,
        files=piece.files,
    )
