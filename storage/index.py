"""What a vault holds of a video: its segments, and the manifests that make them visible.

A segment is written first (pack, then frames part); nothing sees it. The manifest of its video, written last, names
every part with size and checksum. Manifests of one video and run have rising generations; the highest counts, and holds
all that the ones before it held.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from typing import Protocol, TypeVar

from framevault.storage.documents import LARGEST_COUNT, LARGEST_OBJECT, Fields, ref_members, seal, unseal, utc_now
from framevault.storage.errors import AlreadyExistsError, DamagedError, StoreError
from framevault.storage.pack_table import MOST_FRAMES
from framevault.storage.packs import HIGHEST_BITSTREAM_VERSION, HIGHEST_QUALITY, LARGEST_SIDE, Pack, read_pack
from framevault.storage.segment_parts import (
    pack_key,
    parse_stored_pack,
    read_rescued,
    write_frames,
    write_pack,
)
from framevault.storage.store import ObjectRef, Store

MANIFEST_FORMAT = "framevault manifest"
"""What a manifest says about itself."""

MANIFEST_VERSION = 1
"""Of video manifests."""

MANIFEST_KEY = re.compile(r"manifests/([0-9a-f]{32})/([0-9a-f]{16})-([0-9]{4,9})\.json")
"""Key of a video's manifest: video_id, run_fp, generation."""

MOST_LOST_RACES = 100
"""Other writers' manifests of one video in a row; each is progress, so this many mean a fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRecord:
    """One stored segment."""

    segment_id: str
    """32 hex digits."""
    video_id: str
    """Of its source, 32 hex digits."""
    first_pts: int
    """Of its first frame, in ticks of the source's time base."""
    last_pts: int
    """Of its last frame."""
    num_frames: int
    """Frames in it."""
    pack: ObjectRef
    """Its streams."""
    frames: ObjectRef
    """Its frames part."""
    payload_bytes: int
    """Bytes of all its streams, without header and table."""

    @classmethod
    def of_pack(cls, pack: Pack, *, pack_ref: ObjectRef, frames_ref: ObjectRef) -> SegmentRecord:
        """Return the record of a stored pack and its frames part."""
        return cls(
            segment_id=pack.header.segment_id,
            video_id=pack.header.video_id,
            first_pts=pack.frames[0].pts,
            last_pts=pack.frames[-1].pts,
            num_frames=len(pack.frames),
            pack=pack_ref,
            frames=frames_ref,
            payload_bytes=sum(frame.length for frame in pack.frames),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingSegment:
    """A segment that could not be stored."""

    segment_id: str
    """32 hex digits."""
    first_pts: int
    """Of its first frame, in ticks of the source's time base."""
    last_pts: int
    """Of its last frame."""
    num_frames: int
    """Frames that it would have."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoManifest:
    """All that is stored of one source by one kind of run."""

    video_id: str
    """32 hex digits."""
    run_fp: str
    """Over codec, sampling and segmentation, 16 hex digits."""
    name: str
    """The name it was first stored under."""
    source_url: str
    """Where it was read."""
    source_bytes: int
    """Size of the source."""
    source_version: str
    """The source's size with its modification time or ETag, when it was read."""
    container: str
    """Name of the container format."""
    source_codec: str
    """Name of the source's own codec."""
    width: int
    """Of an upright frame, in pixels."""
    height: int
    """Of an upright frame, in pixels."""
    time_base: tuple[int, int]
    """Seconds a pts tick, as numerator and denominator."""
    fps: float
    """The source's mean frames a second."""
    duration_s: float
    """Of the source."""
    num_source_frames: int
    """Frames of the source, before sampling."""
    codec: str
    """Name of our codec."""
    bitstream_version: int
    """Of the codec's streams; counts up when their layout changes."""
    quality: int
    """Its rate level."""
    codec_fingerprint: str
    """64 hex digits."""
    sampling: str
    """Which frames were taken."""
    segments: tuple[SegmentRecord, ...]
    """What is stored; by first pts once committed."""
    missing: tuple[MissingSegment, ...]
    """What is not; by first pts once committed."""
    created_at: str = field(default_factory=utc_now, compare=False)
    """When it was written, ISO 8601 in UTC."""
    generation: int = field(default=0, compare=False)
    """Which of the manifests of this video and run; `commit_video` sets it."""
    slices: int | None = None
    """Slices that its streams were thinned to; None for whole ones."""
    face_slices: int | None = None
    """Slices that the faces in its streams were thinned to; None for whole ones, and where there are none."""

    @property
    def key(self) -> str:
        """Its key in the store."""
        return f"manifests/{self.video_id}/{self.run_fp}-{self.generation:04d}.json"

    @property
    def is_complete(self) -> bool:
        """Whether every segment is stored."""
        return not self.missing

    @property
    def num_frames(self) -> int:
        """Frames that are stored."""
        return sum(segment.num_frames for segment in self.segments)

    @property
    def stored_bytes(self) -> int:
        """Bytes of packs and frames parts."""
        return sum(segment.pack.size_bytes + segment.frames.size_bytes for segment in self.segments)

    def to_document(self) -> bytes:
        """Return it as it is stored."""
        plain = {member.name: getattr(self, member.name) for member in fields(self)}
        body = {
            **plain,
            "segments": [_segment_members(segment) for segment in self.segments],
            "missing": [_plain_members(segment) for segment in self.missing],
        }
        for name in ("slices", "face_slices"):
            if body[name] is None:
                del body[name]
        return seal(body, kind=MANIFEST_FORMAT, version=MANIFEST_VERSION)

    @classmethod
    def from_fields(cls, members: Fields) -> VideoManifest:
        """Build it from a stored document.

        Raises:
            DamagedError: A member is not what it must be.
        """
        members.check_kind(MANIFEST_FORMAT, version=MANIFEST_VERSION)
        texts = ("name", "source_url", "source_version", "container", "source_codec", "sampling")
        manifest = cls(
            **{name: members.text(name) for name in texts},
            video_id=members.hexadecimal("video_id", length=32),
            run_fp=members.hexadecimal("run_fp", length=16),
            codec_fingerprint=members.hexadecimal("codec_fingerprint", length=64),
            source_bytes=members.integer("source_bytes"),
            width=members.integer("width", minimum=1, maximum=LARGEST_SIDE),
            height=members.integer("height", minimum=1, maximum=LARGEST_SIDE),
            num_source_frames=members.integer("num_source_frames"),
            codec=members.word("codec"),
            bitstream_version=members.integer("bitstream_version", minimum=1, maximum=HIGHEST_BITSTREAM_VERSION),
            quality=members.integer("quality", maximum=HIGHEST_QUALITY),
            created_at=members.time("created_at"),
            generation=members.integer("generation"),
            slices=members.integer_or_none("slices"),
            face_slices=members.integer_or_none("face_slices"),
            fps=members.number("fps"),
            duration_s=members.number("duration_s"),
            time_base=members.fraction("time_base"),
            segments=tuple(_read_segment(item) for item in members.items("segments")),
            missing=tuple(_read_missing(item) for item in members.items("missing")),
        )
        _check_segments(members.key, manifest)
        return manifest


def write_segment(store: Store, pack: bytes) -> SegmentRecord:
    """Store a segment's pack and its frames part; nothing sees them before a manifest names them.

    Whoever finds the pack stored already takes it as it is: another device may have encoded the same frames into other,
    equally valid bytes. So the frames part is made from the stored pack's table, never from the given one's.

    Raises:
        PackError: The given bytes are not a pack.
        DamagedError: What lies under the segment's keys is damaged or belongs to another segment; names the key.
        StoreUnavailableError: The store can't be read or written.
    """
    given = read_pack(pack, key="the given pack")
    given.check_payloads()
    pack_ref, stored = write_pack(store, given)
    return SegmentRecord.of_pack(stored, pack_ref=pack_ref, frames_ref=write_frames(store, stored))


def recover_segment(store: Store, segment_id: str) -> SegmentRecord | None:
    """Return the record of a segment that is stored, whether or not a manifest names it; None if it is not.

    A frames part that is missing is made from the pack.

    Raises:
        DamagedError: What lies under the segment's keys is damaged; names the key.
        StoreUnavailableError: The store can't be read or written.
    """
    key = pack_key(segment_id)
    payload = read_rescued(store, segment_id)
    if payload is None:
        return None
    pack = parse_stored_pack(store, key, payload)
    return SegmentRecord.of_pack(pack, pack_ref=ObjectRef.of(key, payload), frames_ref=write_frames(store, pack))


def commit_video(store: Store, manifest: VideoManifest) -> str:
    """Make a video's segments visible, together with those that are visible already.

    A manifest that adds nothing to the stored one changes nothing, not even name or time. Writers of the same video at
    once end with a manifest that holds the segments of all.

    Returns:
        The key of the manifest that holds them.

    Raises:
        StoreUnavailableError: The store can't be read or written.
        DamagedError: The manifest that is there is damaged.
    """
    for _ in range(MOST_LOST_RACES):
        current = find_manifest(store, manifest.video_id, manifest.run_fp)
        merged = _merge(current, manifest)
        if current is not None and _shows_same(current, merged):
            return current.key
        try:
            return store.create(merged.key, merged.to_document()).key
        except AlreadyExistsError:
            continue
    raise StoreError(f"{store.url}: lost {MOST_LOST_RACES} races for the manifest of video {manifest.video_id}")


def find_manifest(store: Store, video_id: str, run_fp: str) -> VideoManifest | None:
    """Return what is visible of a video by one kind of run; None if nothing is.

    Raises:
        DamagedError: The manifest is damaged; names the key.
        StoreUnavailableError: The store can't be read.
    """
    latest = latest_manifest_keys(list(store.list(f"manifests/{video_id}")))
    found = [key for key in latest if key.startswith(f"manifests/{video_id}/{run_fp}-")]
    return read_manifest(store, found[0]) if found else None


def load_manifests(store: Store) -> list[VideoManifest]:
    """Return all that is visible, by name, video and run; runs of which nothing is left are not.

    Raises:
        DamagedError: A manifest is damaged; names the key.
        StoreUnavailableError: The store can't be read.
    """
    keys = latest_manifest_keys(list(store.list("manifests")))
    manifests = store.map(lambda key: read_manifest(store, key), keys)
    left = [manifest for manifest in manifests if manifest.segments or manifest.missing]
    return sorted(left, key=lambda manifest: (manifest.name, manifest.video_id, manifest.run_fp))


def latest_manifest_keys(keys: list[str]) -> list[str]:
    """Return, of keys of any kind, those of each video and run's highest generation."""
    latest: dict[tuple[str, str], tuple[int, str]] = {}
    for key in keys:
        if match := MANIFEST_KEY.fullmatch(key):
            video_id, run_fp, generation = match.groups()
            candidate = (int(generation), key)
            latest[video_id, run_fp] = max(candidate, latest.get((video_id, run_fp), candidate))
    return [key for _, key in latest.values()]


def read_manifest(store: Store, key: str) -> VideoManifest:
    """Read one manifest.

    Raises:
        DamagedError: It is damaged, or not what its key says.
        NotFoundError: There is none.
        StoreUnavailableError: The store can't be read.
    """
    members = unseal(f"{store.url}: {key}", store.read(key))
    manifest = VideoManifest.from_fields(members)
    if manifest.key != key:
        raise DamagedError(f"{members.key}: holds the manifest of {manifest.key}")
    return manifest


def _merge(current: VideoManifest | None, added: VideoManifest) -> VideoManifest:
    """Return the next generation: all segments of both, by first pts."""
    segments = {segment.segment_id: segment for segment in current.segments} if current else {}
    segments |= {segment.segment_id: segment for segment in added.segments}
    missing = {segment.segment_id: segment for segment in added.missing}
    missing |= {segment.segment_id: segment for segment in current.missing} if current else {}
    return replace(
        added,
        segments=by_pts(list(segments.values())),
        missing=by_pts([segment for name, segment in missing.items() if name not in segments]),
        generation=current.generation + 1 if current else 0,
    )


def _shows_same(current: VideoManifest, merged: VideoManifest) -> bool:
    return current.segments == merged.segments and current.missing == merged.missing


def _check_segments(key: str, manifest: VideoManifest) -> None:
    if manifest.segments != by_pts(list(manifest.segments)) or manifest.missing != by_pts(list(manifest.missing)):
        raise DamagedError(f"{key}: segments must be sorted by first_pts")
    everything: list[SegmentRecord | MissingSegment] = [*manifest.segments, *manifest.missing]
    if len({segment.segment_id for segment in everything}) != len(everything):
        raise DamagedError(f"{key}: a segment stands in it twice")
    if any(segment.first_pts > segment.last_pts for segment in everything):
        raise DamagedError(f"{key}: a segment ends before it begins")
    if any(segment.video_id != manifest.video_id for segment in manifest.segments):
        raise DamagedError(f"{key}: a segment is of another video")


class _HasPts(Protocol):
    @property
    def first_pts(self) -> int: ...

    @property
    def segment_id(self) -> str: ...


_SegmentT = TypeVar("_SegmentT", bound=_HasPts)


def by_pts(segments: list[_SegmentT]) -> tuple[_SegmentT, ...]:
    """Return segments in the order in which manifests have them."""
    return tuple(sorted(segments, key=lambda segment: (segment.first_pts, segment.segment_id)))


def _plain_members(segment: SegmentRecord | MissingSegment) -> dict[str, object]:
    return {member.name: getattr(segment, member.name) for member in fields(segment)}


def _segment_members(segment: SegmentRecord) -> dict[str, object]:
    refs = {"pack": ref_members(segment.pack), "frames": ref_members(segment.frames)}
    return {**_plain_members(segment), **refs}


def _read_segment(members: Fields) -> SegmentRecord:
    return SegmentRecord(
        segment_id=members.hexadecimal("segment_id", length=32),
        video_id=members.hexadecimal("video_id", length=32),
        first_pts=members.pts("first_pts"),
        last_pts=members.pts("last_pts"),
        num_frames=members.integer("num_frames", minimum=1, maximum=MOST_FRAMES),
        pack=members.object_ref("pack"),
        frames=members.object_ref("frames"),
        payload_bytes=members.integer("payload_bytes", maximum=LARGEST_OBJECT),
    )


def _read_missing(members: Fields) -> MissingSegment:
    return MissingSegment(
        segment_id=members.hexadecimal("segment_id", length=32),
        first_pts=members.pts("first_pts"),
        last_pts=members.pts("last_pts"),
        num_frames=members.integer("num_frames", maximum=LARGEST_COUNT),
        reason=members.text("reason"),
    )
