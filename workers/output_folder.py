"""Files of a folder that a person will look into: each whole, or not there.

A file is written under a name in `.tmp` and then takes its own. What a killed writer leaves in `.tmp` means nothing,
and the next one removes it.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_FOLDER = ".tmp"
"""Folder for files that are being written."""

MARK = "restore.json"
"""What the command puts into the folder before any other file: says what the files are."""


def check_folder(folder: Path) -> None:
    """Check, where a worker runs, that the folder is the one that the command sees.

    Raises:
        FileNotFoundError: It isn't.
    """
    if not (folder / MARK).is_file():
        raise FileNotFoundError(
            f"{folder}: expected {MARK}, which the command put there: on a cluster, every machine must have the folder "
            "mounted under the same path"
        )


@contextmanager
def whole_file(path: Path, *, scratch: Path) -> Iterator[Path]:
    """Lend a path to write to; the file takes its own name, in the place of what had it, when all went well.

    Args:
        path: Where the file goes.
        scratch: Folder for the unfinished file, on the same disk.
    """
    # The suffix stays: writers go by it.
    temporary = scratch / f".{uuid.uuid4().hex}{path.suffix}"
    scratch.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(folder: Path, name: str, write: Callable[[Path], object]) -> int:
    """Write a file below a folder with a function that takes a path; return its bytes."""
    with whole_file(folder / name, scratch=folder / TEMPORARY_FOLDER) as path:
        write(path)
        return path.stat().st_size


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left."""
    shutil.rmtree(folder / TEMPORARY_FOLDER, ignore_errors=True)
