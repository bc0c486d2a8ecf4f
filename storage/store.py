"""Objects under keys: created once, whole, never changed; read with their checksum.

`open_store` takes a folder or any fsspec URL. S3 takes its endpoint and keys from the standard environment variables
(`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID` and so on). A server that does not know the checksums which botocore sends by
default needs `AWS_REQUEST_CHECKSUM_CALCULATION=when_required` as well. The server must support conditional puts.
`backends.py` says how each kind of store keeps the promises.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from google_crc32c import value as crc32c

from framevault.storage.backends import (
    TEMPORARY_FOLDER,
    Backend,
    LocalBackend,
    MemoryBackend,
    OtherBackend,
    S3Backend,
)
from framevault.storage.errors import (
    AlreadyExistsError,
    ChecksumError,
    DamagedError,
    NotFoundError,
    StoreError,
    StoreUnavailableError,
    VaultError,
)

S3_PROTOCOLS = {"s3", "s3a"}
"""URL schemes that s3fs serves."""

LONGEST_KEY = 512
"""Characters; S3 allows 1024 bytes, prefix included."""

NUM_READERS = 8
"""Reads at once in `Store.map`: they wait for a network more than they work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """What an object must be: where, how long, and with which checksum."""

    key: str
    """Path in the store."""
    size_bytes: int
    """Length of the object."""
    crc32c: int
    """CRC32C of all its bytes."""

    @classmethod
    def of(cls, key: str, payload: bytes) -> ObjectRef:
        """Describe bytes that are to lie, or lie, under a key."""
        return cls(key=key, size_bytes=len(payload), crc32c=crc32c(payload))


_ItemT = TypeVar("_ItemT")
_ResultT = TypeVar("_ResultT")


class Store:
    """Objects under keys below one URL. Pickles (it is opened again by its URL); safe for threads."""

    def __init__(self, url: str) -> None:
        """Open what lies at a URL; see `open_store`."""
        self.url = url if "://" in url else os.path.abspath(url)
        """As given, but for a path: absolute, so that it means the same in a worker."""
        self._backend, self.is_shared = _open_backend(self.url)
        """Whether other processes see the same objects (false for `memory://`)."""

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        """Pickle as the URL."""
        return Store, (self.url,)

    def __repr__(self) -> str:
        """Show the URL."""
        return f"Store({self.url!r})"

    def create(self, key: str, payload: bytes) -> ObjectRef:
        """Create an object; readers see it whole or not at all, at any moment and after any kill.

        Raises:
            AlreadyExistsError: The key is taken; what is there stays.
            StoreUnavailableError: The store can't be written; nothing was created.
        """
        with self._named(key):
            is_created = self._backend.put(check_key(key), payload)
        if not is_created:
            raise AlreadyExistsError(f"{self.url}: {key} exists already")
        return ObjectRef.of(key, payload)

    def create_or_keep(self, key: str, payload: bytes) -> tuple[ObjectRef, bool]:
        """Create an object, or take the one that is there as it is.

        Returns:
            What lies under the key now, by its real size and checksum, and whether this call created it.

        Raises:
            StoreUnavailableError: The store can't be read or written.
        """
        try:
            return self.create(key, payload), True
        except AlreadyExistsError:
            return ObjectRef.of(key, self.read(key)), False

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return an object's bytes from `start`, at most `length`; unchecked.

        Raises:
            NotFoundError: No object has this key.
            StoreUnavailableError: The store can't be read.
        """
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"start and length must not be negative, got {start} and {length}")
        with self._named(key):
            return self._backend.get(check_key(key), start=start, length=length)

    def read_checked(self, ref: ObjectRef) -> bytes:
        """Return a whole object, which is what was written.

        Raises:
            ChecksumError: Its size or checksum is another.
            NotFoundError: It is gone.
            StoreUnavailableError: The store can't be read.
        """
        payload = self.read(ref.key)
        if len(payload) != ref.size_bytes:
            raise ChecksumError(f"{self.url}: {ref.key} must have {ref.size_bytes} bytes, has {len(payload)}")
        if (found := crc32c(payload)) != ref.crc32c:
            raise ChecksumError(f"{self.url}: {ref.key} must have CRC32C {ref.crc32c:08x}, has {found:08x}")
        return payload

    def list(self, folder: str = "") -> Iterator[str]:
        """Give all keys below a folder, sorted; `""` is the whole store. Unfinished objects are not among them.

        Raises:
            StoreUnavailableError: The store can't be listed.
        """
        with self._named(folder):
            keys = sorted(self._backend.list(folder.rstrip("/")))
        return iter([key for key in keys if not key.startswith(f"{TEMPORARY_FOLDER}/")])

    def list_leftovers(self) -> Iterator[str]:
        """Give the keys of unfinished objects: being written right now, or left by a killed writer. They mean nothing.

        Raises:
            StoreUnavailableError: The store can't be listed.
        """
        with self._named(TEMPORARY_FOLDER):
            return iter(sorted(self._backend.list(TEMPORARY_FOLDER)))

    def exists(self, key: str) -> bool:
        """Say whether an object has this key.

        Raises:
            StoreUnavailableError: The store can't be asked.
        """
        with self._named(key):
            return self._backend.size(check_key(key)) is not None

    def check_writable(self) -> None:
        """Write a small temporary object and remove it, to learn early that a store is read-only or full.

        Raises:
            StoreUnavailableError: Nothing can be written.
        """
        key = f"{TEMPORARY_FOLDER}/writable-{uuid.uuid4().hex}"
        with self._named(key):
            self._backend.put(key, b"framevault looks whether it can write here\n")
            self._backend.remove(key)

    def remove(self, key: str) -> None:
        """Remove an object for good; nothing happens if there is none. `tombstones.py` says when that may be done.

        Raises:
            StoreUnavailableError: The store can't be written.
        """
        with self._named(key):
            self._backend.remove(check_key(key))

    def modified_s(self, key: str) -> float:
        """Return when an object was written, in seconds since 1970 by the store's own clock.

        Raises:
            NotFoundError: No object has this key.
            StoreUnavailableError: The store can't be asked, or does not tell.
        """
        with self._named(key):
            return self._backend.modified_s(check_key(key))

    def size_bytes(self, key: str) -> int:
        """Return the size of an object.

        Raises:
            NotFoundError: No object has this key.
            StoreUnavailableError: The store can't be asked.
        """
        with self._named(key):
            size_bytes = self._backend.size(check_key(key))
        if size_bytes is None:
            raise NotFoundError(f"{self.url}: there is no {key}")
        return size_bytes

    def now_s(self) -> float:
        """Return the store's own time, as `modified_s` gives it; writes a small temporary object.

        Raises:
            StoreUnavailableError: The store can't be written.
        """
        key = f"{TEMPORARY_FOLDER}/clock-{uuid.uuid4().hex}"
        with self._named(key):
            self._backend.put(key, b"framevault asks what time it is here\n")
            now_s = self._backend.modified_s(key)
            self._backend.remove(key)
        return now_s

    def map(self, read: Callable[[_ItemT], _ResultT], items: Sequence[_ItemT]) -> Iterator[_ResultT]:
        """Give the results of a function that reads, in order; several calls are on their way at once."""
        if len(items) < 2:
            yield from map(read, items)
            return
        with ThreadPoolExecutor(max_workers=NUM_READERS) as pool:
            yield from pool.map(read, items)

    @contextlib.contextmanager
    def _named(self, key: str) -> Iterator[None]:
        """Turn the environment's errors into ours, with the URL and key."""
        try:
            yield
        except StoreError:
            raise
        except FileNotFoundError as error:
            if getattr(error.__cause__, "response", {}).get("Error", {}).get("Code") == "NoSuchBucket":
                raise StoreUnavailableError(f"{self.url}: there is no such bucket") from error
            raise NotFoundError(f"{self.url}: there is no {key}") from error
        except _environment_errors() as error:
            raise StoreUnavailableError(f"{self.url}: {key}: {type(error).__name__}: {error}") from error


def open_store(url: str) -> Store:
    """Open the store at a path or fsspec URL; looks at nothing in it yet.

    Raises:
        VaultError: The URL's scheme is unknown, or what serves it is not installed.
    """
    return Store(url)


def check_key(key: str) -> str:
    """Return a key that is a plain relative path: keys come from stored objects too, and must not lead out of a store.

    Raises:
        DamagedError: It is not.
    """
    parts = key.split("/")
    is_plain = key.isascii() and key.isprintable() and "\\" not in key and 0 < len(key) <= LONGEST_KEY
    if not is_plain or any(part in {"", ".", ".."} for part in parts):
        raise DamagedError(f"a key must be a plain relative path, got {key[:LONGEST_KEY]!r}")
    return key


def _open_backend(url: str) -> tuple[Backend, bool]:
    protocol = url.partition("://")[0] if "://" in url else "file"
    if protocol in {"file", "local"}:
        return LocalBackend(os.path.abspath(url.rpartition("://")[2])), True
    import fsspec  # only here: a vault in a local folder opens without it

    # The endpoint and keys come from the environment; a listing must never be an old one.
    options: dict[str, object] = {"use_listings_cache": False} if protocol in S3_PROTOCOLS else {}
    try:
        filesystem, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        extra = "s3" if protocol in S3_PROTOCOLS else None
        install = f"pip install 'framevault[{extra}]'" if extra else f"install what fsspec asks for: {error}"
        raise VaultError(f"{url}: what serves {protocol}:// is not installed; {install}") from error
    except ValueError as error:
        raise VaultError(f"{url}: not a path or URL of a known kind: {error}") from error
    if protocol == "memory":
        return MemoryBackend(filesystem, root=root), False
    if protocol in S3_PROTOCOLS:
        return S3Backend(filesystem, root=root), True
    return OtherBackend(filesystem, root=root), True


def _environment_errors() -> tuple[type[Exception], ...]:
    """Return what a store that does not work raises; botocore has errors that are no OSError."""
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError,) if botocore is None else (OSError, botocore.BotoCoreError)
