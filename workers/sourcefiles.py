"""Source files as nameless streams of bytes, with a token that changes when the file does.

libavformat gets an object that can only read, seek and tell: it has no name, so nothing in a file can make it open
another one. A path, or a `file://` URL, is opened directly; any other URL through fsspec, imported only then.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from framevault.workers.errors import SourceUnavailableError, UnreadableSourceError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

HASH_CHUNK_BYTES = 1 << 20
"""Bytes hashed at a time."""


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes | None: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...
    def close(self) -> None: ...


class SourceFile:
    """One opened source: read, seek and tell, and nothing by which it could be found again."""

    def __init__(
        self, stream: _Readable, *, size_bytes: int, token_at_open: str, read_token: Callable[[], str]
    ) -> None:
        """Wraps an open stream; use `open_source`."""
        self._stream = stream
        self._read_token = read_token
        self.size_bytes = size_bytes
        """Bytes of the file when it was opened."""
        self.version_token = token_at_open
        """The file's token when it was opened."""

    def read(self, size: int = -1) -> bytes:
        """Reads up to `size` bytes."""
        return self._stream.read(size) or b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to an offset and returns the position."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Gives the position."""
        return self._stream.tell()

    def close(self) -> None:
        """Closes the stream."""
        self._stream.close()

    def has_changed(self) -> bool:
        """Whether what lies under the source's URL now is not what was opened.

        Raises:
            OSError: Nothing can be reached there, which may pass.
        """
        return self._read_token() != self.version_token

    def hash_content(self, on_progress: Callable[[], None]) -> str:
        """Gives the SHA-256 of all bytes, in hex, and rewinds; calls `on_progress` after each chunk."""
        digest = hashlib.sha256()
        self.seek(0)
        while chunk := self.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
            on_progress()
        self.seek(0)
        return digest.hexdigest()


def open_source(url: str) -> SourceFile:
    """Opens a source for reading.

    Raises:
        SourceUnavailableError: It is missing, forbidden or can't be reached.
        UnreadableSourceError: It is no regular file.
    """
    try:
        return _open_local(url.removeprefix("file://")) if is_local(url) else _open_remote(url)
    except (SourceUnavailableError, UnreadableSourceError):
        raise
    except OSError as error:
        raise SourceUnavailableError(f"can't open {url}: {error}") from error


def is_local(url: str) -> bool:
    """Whether the URL is a path or a `file://` URL."""
    return "://" not in url or url.startswith("file://")


def _open_local(path: str) -> SourceFile:
    # O_NONBLOCK: opening a FIFO without a writer would hang for ever; it has no effect on regular files.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UnreadableSourceError(f"{path}: expected a regular file")
    stream = io.FileIO(descriptor, "rb", closefd=True)
    return SourceFile(
        stream,
        size_bytes=status.st_size,
        token_at_open=_local_token(status),
        read_token=lambda: _local_token(os.stat(path)),
    )


def _local_token(status: os.stat_result) -> str:
    # No inode number: a plan made on one node must hold on another, and network file systems make numbers up.
    return f"{status.st_size}-{status.st_mtime_ns}"


def _open_remote(url: str) -> SourceFile:
    import fsspec  # takes a while, and most children only ever see local files

    filesystem, path = fsspec.core.url_to_fs(url)
    token = _remote_token(filesystem, path)
    return SourceFile(
        filesystem.open(path, "rb", block_size=4 << 20),
        size_bytes=int(filesystem.size(path) or 0),
        token_at_open=token,
        read_token=lambda: _remote_token(filesystem, path),
    )


def _remote_token(filesystem: AbstractFileSystem, path: str) -> str:
    filesystem.invalidate_cache()
    facts = filesystem.info(path)
    for key in ("ETag", "etag", "md5", "checksum", "LastModified", "mtime", "created", "version_id"):
        if facts.get(key) is not None:
            return f"{facts.get('size')}-{str(facts[key]).strip(chr(34))}"
    return f"{facts.get('size')}"
