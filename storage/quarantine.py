"""What could not be stored or looked at, and why; written beside the vault's content: the rest of a job goes on."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, field, fields
from typing import Literal

from framevault.storage.documents import LARGEST_COUNT, Fields, seal, unseal, utc_now
from framevault.storage.errors import AlreadyExistsError, DamagedError, StoreError
from framevault.storage.store import Store

FailureCategory = Literal["input", "killed", "environment", "bug"]
"""Whose fault it is: the source's, nobody knows (its worker died each time), the machine's, or ours."""

CATEGORIES: tuple[FailureCategory, ...] = ("input", "killed", "environment", "bug")
"""All of them."""

FAILURE_FORMAT = "framevault failure"
"""What a failure document says about itself."""

FAILURE_VERSION = 1
"""Of failure documents."""

FAILURE_KEY = re.compile(r"quarantine/([0-9a-f]{32})/([0-9]{4,9})\.json")
"""Key of a failure: subject, number of the failure of this subject."""

MOST_LOST_RACES = 100
"""Other writers' failures of one subject in a row; so many mean that something is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A segment, or a whole source, that could not be stored; or stored frames that could not be looked at."""

    subject_id: str
    """The segment's id, or the video's if nothing could be planned, or a `look_id`; 32 hex digits."""
    video_id: str
    """Of the source."""
    name: str
    """Of the source, as people find it."""
    source_url: str
    """Where it was read."""
    category: FailureCategory
    """Whose fault it is."""
    reason: str
    """What happened, in words."""
    attempts: int
    """How often it was tried."""
    first_pts: int | None
    """Of the first frame that is missing; None for a whole source."""
    last_pts: int | None
    """Of the last frame that is missing; None for a whole source."""
    num_frames: int
    """Frames that are missing; 0 if unknown."""
    command: str
    """What to type to try again."""
    created_at: str = field(default_factory=utc_now, compare=False)
    """When it was given up, ISO 8601 in UTC."""

    def to_document(self) -> bytes:
        """Return it as it is stored."""
        plain = {member.name: getattr(self, member.name) for member in fields(self)}
        return seal(plain, kind=FAILURE_FORMAT, version=FAILURE_VERSION)


def look_id(kind: str, model_fp: str, segment_id: str) -> str:
    """Return what the failure to look through a stored segment is about.

    The segment itself is stored; what is missing is a detector's or another model's say about it.

    Args:
        kind: What would have been said: `detections`, or a kind of facts.
        model_fp: Of the detector or other model.
        segment_id: The segment.
    """
    return hashlib.sha256(f"{kind} {model_fp} {segment_id}".encode()).hexdigest()[:32]


def write_failure(store: Store, failure: Failure) -> str:
    """Put a failure into quarantine; one that says the same as the subject's latest changes nothing.

    Returns:
        Its key.

    Raises:
        StoreUnavailableError: The store can't be read or written.
        DamagedError: The subject's latest failure is damaged.
    """
    for _ in range(MOST_LOST_RACES):
        keys = [key for key in store.list(f"quarantine/{failure.subject_id}") if FAILURE_KEY.fullmatch(key)]
        latest = max(keys, key=_number, default=None)
        if latest is not None and read_failure(store, latest) == failure:
            return latest
        number = 1 if latest is None else _number(latest) + 1
        try:
            return store.create(f"quarantine/{failure.subject_id}/{number:04d}.json", failure.to_document()).key
        except AlreadyExistsError:
            continue
    raise StoreError(f"{store.url}: lost {MOST_LOST_RACES} races for the failure of {failure.subject_id}")


def load_failures(store: Store) -> list[Failure]:
    """Return each subject's latest failure, by name and pts; also of those that were stored later on.

    Raises:
        DamagedError: A failure is damaged; names the key.
        StoreUnavailableError: The store can't be read.
    """
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for key in store.list("quarantine"):
        if match := FAILURE_KEY.fullmatch(key):
            keys[match[1]].append(key)
    latest = [max(found, key=_number) for found in keys.values()]
    failures = store.map(lambda key: read_failure(store, key), latest)
    return sorted(failures, key=lambda failure: (failure.name, failure.first_pts or 0, failure.subject_id))


def read_failure(store: Store, key: str) -> Failure:
    """Read one failure.

    Raises:
        DamagedError: It is damaged, or not what its key says.
        StoreUnavailableError: The store can't be read.
    """
    members = unseal(f"{store.url}: {key}", store.read(key))
    members.check_kind(FAILURE_FORMAT, version=FAILURE_VERSION)
    texts = ("name", "source_url", "reason", "command")
    failure = Failure(
        **{name: members.text(name) for name in texts},
        subject_id=members.hexadecimal("subject_id", length=32),
        video_id=members.hexadecimal("video_id", length=32),
        category=_read_category(members),
        attempts=members.integer("attempts", maximum=LARGEST_COUNT),
        first_pts=members.pts_or_none("first_pts"),
        last_pts=members.pts_or_none("last_pts"),
        num_frames=members.integer("num_frames", maximum=LARGEST_COUNT),
        created_at=members.time("created_at"),
    )
    if not key.startswith(f"quarantine/{failure.subject_id}/"):
        raise DamagedError(f"{members.key}: holds the failure of {failure.subject_id}")
    return failure


def _read_category(members: Fields) -> FailureCategory:
    stored = members.text("category")
    for category in CATEGORIES:
        if stored == category:
            return category
    raise DamagedError(f"{members.key}: category must be one of {CATEGORIES}, got {stored!r}")


def _number(key: str) -> int:
    return int(key.rpartition("/")[2].removesuffix(".json"))
