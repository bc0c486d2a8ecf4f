"""Which pictures there are to train on: files of pictures, and frames of videos, found but not decoded yet.

What is held out is decided by names alone, so that the same pictures are held out whatever else is added. Frames of a
video that are close in time look alike: they are held out or trained on by blocks of ten seconds.
"""

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.planning import PlanSettings, Sampling, plan_source
from framevault.pipeline.probing import PROBE_ERRORS, ProbedSource, SourceProber
from framevault.pipeline.sources import SourceLocation
from framevault.workers.limits import DecodeLimits
from framevault.workers.tasks import Segment

BLOCK_S = 10.0
"""Seconds of a video that are held out or trained on together."""

LEAST_SIDE = 32
"""Pictures with a shorter side are no use."""

_NO_CODEC = "0" * 64
"""Stands where a plan has the codec's fingerprint; these segments are never stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One picture that could be decoded."""

    name: str
    """What people know it by: `street/001.png`, or `clip.mp4 at 12.5 s`."""
    group: str
    """Candidates of one group are held out together."""
    segment: Segment
    """Gives it."""
    position: int
    """Which frame of the segment it is."""
    height: int
    """Upright and scaled down, in pixels."""
    width: int
    """Upright and scaled down, in pixels."""
    time_s: float | None
    """When it is shown in its video; None for a picture file."""

    @property
    def size_bytes(self) -> int:
        """Bytes of it when decoded."""
        return 3 * self.height * self.width

    @property
    def key(self) -> str:
        """Says which bytes it comes from, and what of them; changes when the source does."""
        segment = self.segment
        place = segment.files[self.position].version_token if segment.files else segment.source.version_token
        return f"{segment.source.url}\0{self.name}\0{place}\0{segment.frame_pts[self.position]}\0{self.height}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Something that was left out."""

    name: str
    """What people know it by."""
    reason: str
    """What was expected and what came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that the sources hold."""

    candidates: tuple[Candidate, ...]
    """In the order of the sources, and of the frames within each."""
    unreadable: tuple[Unreadable, ...]
    """Sources and pictures that can't be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What is trained on and what is measured on."""

    training: tuple[Candidate, ...]
    """As many as there is room for."""
    held_out: tuple[Candidate, ...]
    """As many as are measured."""
    num_without_room: int
    """Training pictures that were left out, since there is no room for them."""


def find_candidates(
    locations: Sequence[SourceLocation], *, video_fps: float, short_side: int, limits: DecodeLimits
) -> Found:
    """Look into all sources, one after another in a guarded child."""
    candidates: list[Candidate] = []
    unreadable: list[Unreadable] = []
    with SourceProber(limits=limits) as prober:
        for location in locations:
            try:
                probed = prober.probe(location)
            except PROBE_ERRORS as error:
                unreadable.append(Unreadable(name=location.name, reason=str(error)))
                continue
            for each in _candidates_of(probed, video_fps=video_fps, short_side=short_side):
                if isinstance(each, Candidate):
                    candidates.append(each)
                else:
                    unreadable.append(each)
    return Found(candidates=tuple(candidates), unreadable=tuple(unreadable))


def split_candidates(candidates: Sequence[Candidate], *, held_out: float, num_measured: int, room_bytes: int) -> Split:
    """Hold a share out by the hashes of the groups' names, and choose what there is room for by those of the names.

    Raises:
        PreflightError: All is of one group, so that nothing can be held out.
    """
    hashes = {group: _hash(group) for group in {candidate.group for candidate in candidates}}
    if held_out and len(hashes) < 2:
        raise PreflightError(
            f"data: expected several pictures, or more than {BLOCK_S:.0f} s of video, to hold {held_out:.0%} of them "
            f"out for measuring; got {len(candidates)} of one place. held_out: 0 trains without measuring"
        )
    chosen = {group for group, value in hashes.items() if value < held_out}
    if held_out and not chosen:
        chosen = {min(hashes, key=hashes.__getitem__)}
    if len(chosen) == len(hashes) and chosen:
        chosen.remove(max(hashes, key=hashes.__getitem__))
    measured = _first_by_hash([each for each in candidates if each.group in chosen])[:num_measured]
    training = [each for each in candidates if each.group not in chosen]
    kept = _fit(training, room_bytes - sum(each.size_bytes for each in measured))
    return Split(training=tuple(kept), held_out=tuple(measured), num_without_room=len(training) - len(kept))


def _candidates_of(probed: ProbedSource, *, video_fps: float, short_side: int) -> Iterator[Candidate | Unreadable]:
    is_video = probed.info.kind == "video"
    # A damaged picture costs its segment: each has one of its own.
    settings = (
        PlanSettings(codec_fingerprint=_NO_CODEC, sampling=Sampling(fps=video_fps))
        if is_video
        else PlanSettings(codec_fingerprint=_NO_CODEC, segment_frames=1)
    )
    for segment in plan_source(probed, settings=settings):
        height, width = _scaled(segment.display_height, segment.display_width, short_side)
        for position, pts in enumerate(segment.frame_pts):
            time_s = None if segment.files else float(pts * Fraction(*segment.source.time_base))
            name, group = _names(segment, position, time_s)
            if min(height, width) >= LEAST_SIDE:
                yield Candidate(
                    name=name,
                    group=group,
                    segment=segment,
                    position=position,
                    height=height,
                    width=width,
                    time_s=time_s,
                )
            elif max(segment.height, segment.width) == 1:
                yield Unreadable(name=name, reason="expected a picture, got a file whose header can't be read")
            else:
                yield Unreadable(
                    name=name, reason=f"expected at least {LEAST_SIDE} pixels a side, got {width}x{height}"
                )


def _names(segment: Segment, position: int, time_s: float | None) -> tuple[str, str]:
    """Return a picture's name and its group's."""
    source = segment.source
    if time_s is None:
        name = posixpath.join(source.name, posixpath.basename(segment.files[position].url))
        # A picture that was named itself is a source of its own name.
        return (source.name, source.name) if posixpath.basename(name) == source.name else (name, name)
    return f"{source.name} at {time_s:.2f} s", f"{source.name} block {time_s // BLOCK_S:.0f}"


def _scaled(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return a size with at most so short a side and the same aspect."""
    factor = min(1.0, short_side / min(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _fit(candidates: list[Candidate], room_bytes: int) -> list[Candidate]:
    """Return as many as there is room for, spread evenly over the groups, in their order."""
    kept: set[int] = set()
    for candidate in sorted(candidates, key=lambda candidate: (_hash(candidate.group), candidate.group)):
        room_bytes -= candidate.size_bytes
        if room_bytes < 0:
            break
        kept.add(id(candidate))
    return [candidate for candidate in candidates if id(candidate) in kept]


def _first_by_hash(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: (_hash(candidate.key), candidate.key))


def _hash(text: str) -> float:
    """Return a number in 0..1 that is as good as random, and always the same."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2.0**64
