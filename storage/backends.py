"""Where objects lie: a local folder, this process's memory, S3, or any other file system that fsspec knows.

A backend does a few things with keys and bytes and lets the environment's own errors (OSError) through; `store.py`
gives them names. What matters is `put`: it must never replace an object and never show half of one.

| backend | how `put` keeps that promise |
| --- | --- |
| `LocalBackend` | temporary file, fsync, hard link under the final name (fails if taken), fsync of the folder |
| `MemoryBackend` | one lock for this process |
| `S3Backend` | conditional put (`If-None-Match: *`), which the server decides |
| `OtherBackend` | looks first, writes a temporary object, moves it: whole objects, but **one writer at a time** |
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

TEMPORARY_FOLDER = ".tmp"
"""Folder in a vault for objects that are being written; what a killed writer leaves there means nothing."""

ERRORS_OF_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What link(2) fails with on file systems that have no hard links."""

MOST_CONFLICTS = 20
"""S3 answers 409 while another conditional put of the same key runs; more in a row than this is no coincidence."""

_memory_lock = threading.Lock()


class Backend(Protocol):
    """Objects under keys; keys are relative paths with `/`, checked by the caller."""

    def put(self, key: str, payload: bytes) -> bool:
        """Create an object, whole or not at all; False if the key is taken."""
        ...

    def get(self, key: str, *, start: int, length: int | None) -> bytes:
        """Return the bytes from `start`, at most `length`.

        Raises:
            FileNotFoundError: No object has this key.
        """
        ...

    def size(self, key: str) -> int | None:
        """Return the size of an object in bytes; None if there is none."""
        ...

    def list(self, folder: str) -> Iterator[str]:
        """Give the keys below a folder (`""`: all), in any order; nothing if it does not exist."""
        ...

    def remove(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...

    def modified_s(self, key: str) -> float:
        """Return when an object came to be, in seconds since 1970 by the store's own clock.

        Raises:
            FileNotFoundError: No object has this key.
        """
        ...


class LocalBackend:
    """A folder of this machine, or one that is mounted."""

    def __init__(self, root: str) -> None:
        """Take a folder, which need not exist."""
        self._root = Path(root)

    def put(self, key: str, payload: bytes) -> bool:
        """Create a file by linking a finished temporary one under its name."""
        target = self._root / key
        if target.exists():
            return False
        self._make_folder(target.parent)
        temporary = self._root / TEMPORARY_FOLDER / f"{os.getpid()}-{uuid.uuid4().hex}"
        self._make_folder(temporary.parent)
        try:
            _write_synced(temporary, payload)
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in ERRORS_OF_NO_LINKS and temporary.exists() and os.access(target.parent, os.W_OK):
                raise OSError(error.errno, "the file system has no hard links, which create-if-absent needs") from error
            raise
        finally:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                temporary.unlink()
        _sync_folder(target.parent)
        return True

    def get(self, key: str, *, start: int, length: int | None) -> bytes:
        """Read from a file."""
        with (self._root / key).open("rb") as file:
            file.seek(start)
            return file.read() if length is None else file.read(length)

    def size(self, key: str) -> int | None:
        """Ask for a file's size."""
        try:
            return (self._root / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list(self, folder: str) -> Iterator[str]:
        """Walk through a folder."""
        for path, _, names in os.walk(self._root / folder, onerror=_raise_unless_missing):
            for name in names:
                yield (Path(path) / name).relative_to(self._root).as_posix()

    def remove(self, key: str) -> None:
        """Unlink a file."""
        (self._root / key).unlink(missing_ok=True)

    def modified_s(self, key: str) -> float:
        """Ask for a file's time."""
        return (self._root / key).stat().st_mtime

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and its parents, so that a power cut does not lose the entries."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            _sync_folder(each.parent)


class FsspecBackend:
    """What the backends on top of fsspec share: reading and listing."""

    def __init__(self, filesystem: AbstractFileSystem, *, root: str) -> None:
        """Take a file system and a path in it."""
        self.filesystem = filesystem
        self.root = root.rstrip("/")

    def path(self, key: str) -> str:
        """Return an object's path in the file system."""
        return f"{self.root}/{key}"

    def get(self, key: str, *, start: int, length: int | None) -> bytes:
        """Read a range of an object."""
        if length == 0:
            return b""
        if start == 0 and length is None:
            return bytes(self.filesystem.cat_file(self.path(key)))
        end = None if length is None else start + length
        return bytes(self.filesystem.cat_file(self.path(key), start=start, end=end))

    def size(self, key: str) -> int | None:
        """Ask for an object's size."""
        try:
            return int(self.filesystem.info(self.path(key), refresh=True)["size"])
        except FileNotFoundError:
            return None

    def list(self, folder: str) -> Iterator[str]:
        """List what lies below a folder."""
        try:
            found = self.filesystem.find(self.path(folder).rstrip("/"), refresh=True)
        except FileNotFoundError:
            return
        below = self.root.lstrip("/") + "/"
        for path in found:
            yield path.lstrip("/").removeprefix(below)

    def remove(self, key: str) -> None:
        """Delete an object."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.rm_file(self.path(key))

    def modified_s(self, key: str) -> float:
        """Ask for an object's time, which not every file system of fsspec tells."""
        try:
            return float(self.filesystem.modified(self.path(key)).timestamp())
        except NotImplementedError as error:
            raise OSError(errno.ENOTSUP, "this kind of store does not tell when objects were written") from error


class MemoryBackend(FsspecBackend):
    """Objects in the memory of this process; other processes see nothing of them."""

    def put(self, key: str, payload: bytes) -> bool:
        """Create an object under a lock."""
        with _memory_lock:
            if self.size(key) is not None:
                return False
            self.filesystem.pipe_file(self.path(key), payload)
            return True

    def size(self, key: str) -> int | None:
        """Ask for an object's size."""
        try:
            return int(self.filesystem.info(self.path(key))["size"])
        except FileNotFoundError:
            return None

    def list(self, folder: str) -> Iterator[str]:
        """List what lies below a folder."""
        with _memory_lock:
            found = self.filesystem.find(self.path(folder).rstrip("/"))
        yield from (path.lstrip("/").removeprefix(self.root.lstrip("/") + "/") for path in found)


class S3Backend(FsspecBackend):
    """A bucket, or a prefix in one."""

    def get(self, key: str, *, start: int, length: int | None) -> bytes:
        """Read a range of an object; S3 itself calls one that starts behind the end an error."""
        try:
            return super().get(key, start=start, length=length)
        except OSError as error:
            if _s3_error_code(error) in {"InvalidRange", "416"}:
                return b""
            raise

    def put(self, key: str, payload: bytes) -> bool:
        """Create an object with a conditional put."""
        for _ in range(MOST_CONFLICTS):
            try:
                self.filesystem.pipe_file(self.path(key), payload, mode="create")
                return True
            except OSError as error:
                code = _s3_error_code(error)
                if code in {"PreconditionFailed", "412"}:
                    return False
                if code not in {"ConditionalRequestConflict", "409"}:
                    raise
        raise OSError(errno.EBUSY, f"{MOST_CONFLICTS} conflicting writes of {key} in a row")


class OtherBackend(FsspecBackend):
    """Any other file system of fsspec; safe against kills, but not against a second writer at the same moment."""

    def put(self, key: str, payload: bytes) -> bool:
        """Create an object by moving a finished temporary one, and look whether it is what lies there then."""
        if self.size(key) is not None:
            return False
        temporary = f"{TEMPORARY_FOLDER}/{uuid.uuid4().hex}"
        self._make_folder(temporary)
        self.filesystem.pipe_file(self.path(temporary), payload)
        self._make_folder(key)
        self.filesystem.mv(self.path(temporary), self.path(key))
        return self.get(key, start=0, length=None) == payload

    def size(self, key: str) -> int | None:
        """Ask for an object's size."""
        self.filesystem.invalidate_cache()
        try:
            return int(self.filesystem.info(self.path(key))["size"])
        except FileNotFoundError:
            return None

    def list(self, folder: str) -> Iterator[str]:
        """List what lies below a folder."""
        self.filesystem.invalidate_cache()
        path = self.path(folder).rstrip("/")
        if not self.filesystem.exists(path):
            return
        for found in self.filesystem.find(path):
            yield found.lstrip("/").removeprefix(self.root.lstrip("/") + "/")

    def _make_folder(self, key: str) -> None:
        self.filesystem.makedirs(self.path(key).rpartition("/")[0], exist_ok=True)


def _write_synced(path: Path, payload: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        view = memoryview(payload)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _s3_error_code(error: OSError) -> str:
    """Return the server's own error code; s3fs keeps it in the cause alone."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
