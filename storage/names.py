"""Names under which a video was found: the same source under two names is stored once and findable by both."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from framevault.storage.documents import seal, unseal
from framevault.storage.errors import AlreadyExistsError, DamagedError
from framevault.storage.store import Store

NAME_FORMAT = "framevault name"
"""What a name document says about itself."""

NAME_VERSION = 1
"""Of name documents."""

NAME_KEY = re.compile(r"names/([0-9a-f]{32})/[0-9a-f]{16}\.json")
"""Key of a name: video_id, hash of the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredName:
    """A name under which a source was found."""

    video_id: str
    """Of the source."""
    name: str
    """The name."""
    source_url: str
    """Where it was read when it first had this name."""

    @property
    def key(self) -> str:
        """Its key in the store."""
        name = self.name.encode("utf-8", "surrogateescape")  # a file's name as the bytes that it is
        return f"names/{self.video_id}/{hashlib.sha256(name).hexdigest()[:16]}.json"

    def to_document(self) -> bytes:
        """Return it as it is stored."""
        body = {"video_id": self.video_id, "name": self.name, "source_url": self.source_url}
        return seal(body, kind=NAME_FORMAT, version=NAME_VERSION)


def add_name(store: Store, video_id: str, *, name: str, source_url: str) -> None:
    """Make a video findable under a name; the URL that first came with the name stays.

    Raises:
        StoreUnavailableError: The store can't be written.
    """
    stored = StoredName(video_id=video_id, name=name, source_url=source_url)
    try:
        store.create(stored.key, stored.to_document())
    except AlreadyExistsError:
        return


def read_name(store: Store, key: str) -> StoredName:
    """Read one name.

    Raises:
        DamagedError: It is damaged, or not what its key says.
        StoreUnavailableError: The store can't be read.
    """
    members = unseal(f"{store.url}: {key}", store.read(key))
    members.check_kind(NAME_FORMAT, version=NAME_VERSION)
    stored = StoredName(
        video_id=members.hexadecimal("video_id", length=32),
        name=members.text("name"),
        source_url=members.text("source_url"),
    )
    if stored.key != key:
        raise DamagedError(f"{members.key}: holds the name {stored.name!r} of video {stored.video_id}")
    return stored


def load_names(store: Store) -> Mapping[str, tuple[str, ...]]:
    """Return all names of every video, sorted.

    Raises:
        DamagedError: A name is damaged; names the key.
        StoreUnavailableError: The store can't be read.
    """
    keys = [key for key in store.list("names") if NAME_KEY.fullmatch(key)]
    names: defaultdict[str, set[str]] = defaultdict(set)
    for stored in store.map(lambda key: read_name(store, key), keys):
        names[stored.video_id].add(stored.name)
    return {video_id: tuple(sorted(found)) for video_id, found in names.items()}
