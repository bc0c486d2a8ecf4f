"""Which sources are meant: files, folders, globs and fsspec URLs become a list of videos and picture folders."""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from framevault.workers.sourcefiles import is_local
from framevault.workers.tasks import SourceKind

_MPEG_SUFFIXES = (".m2ts", ".m4v", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".vob")
_OTHER_SUFFIXES = (".3gp", ".asf", ".avi", ".divx", ".flv", ".mkv", ".mov", ".mxf", ".ogg", ".ogv", ".webm", ".wmv")
VIDEO_SUFFIXES = frozenset(_MPEG_SUFFIXES + _OTHER_SUFFIXES)
"""Files with these suffixes are taken from a folder as videos; a file named itself is taken whatever its suffix."""

PICTURE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
"""Files with these suffixes are taken as pictures."""

# fsspec's file systems that live in one process: the decoding child, another process, would find them empty.
_LOCAL_PROTOCOLS = ("memory",)


class InputError(ValueError):
    """An input names nothing that could be a source; says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLocation:
    """One source that was found but not looked into yet."""

    url: str
    """Absolute path or fsspec URL of the video file or of the folder of pictures."""
    name: str
    """Its path relative to the folder that was given; the last part of the path if it was named itself."""
    kind: SourceKind
    """A video file, or pictures."""
    files: tuple[str, ...] = ()
    """Of pictures: their paths or URLs, in the order of their names."""


def expand_inputs(inputs: Sequence[str]) -> list[SourceLocation]:
    """Finds the sources that the inputs name, in their order, within a folder by name, each once.

    An input is a path, a glob (`**` goes into folders) or an fsspec URL, of a file or a folder. A folder is searched to
    the bottom, hidden files left out: each video in it is a source, and each folder that directly holds pictures is
    one, named after the folder, with the pictures as frames in the order of their names.

    Raises:
        InputError: An input matches nothing, is not there, or holds neither videos nor pictures.
    """
    found = [location for text in inputs for location in _expand(text)]
    return list(dict.fromkeys(found))


def _expand(text: str) -> Iterator[SourceLocation]:
    if not text:
        raise InputError("expected a file, folder, glob or URL, got an empty string")
    locations = list(_expand_local(text.removeprefix("file://")) if is_local(text) else _expand_remote(text))
    if not locations:
        raise InputError(f"{text}: expected videos or pictures in it, found none")
    yield from locations


def _expand_local(text: str) -> Iterator[SourceLocation]:
    if os.path.lexists(text):
        paths = [text]
    elif glob.has_magic(text):
        paths = sorted(glob.glob(text, recursive=True))
    else:
        raise InputError(f"{text}: no such file or folder")
    if not paths:
        raise InputError(f"{text}: no file matches")
    for path in paths:
        absolute = os.path.abspath(path)
        if os.path.isdir(absolute):
            yield from _sort_files(_walk(absolute), folder=absolute)
        else:
            yield _locate_file(absolute)


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(parent, name) for name in files if not name.startswith("."))


def _expand_remote(text: str) -> Iterator[SourceLocation]:
    import fsspec  # takes a while, and most inputs are local

    protocol = text.split("://", 1)[0]
    if protocol in _LOCAL_PROTOCOLS:
        raise InputError(f"{text}: sources can't lie in {protocol}://, as the decoding process has a memory of its own")
    try:
        filesystem, path = fsspec.core.url_to_fs(text)
        paths = sorted(filesystem.glob(path)) if glob.has_magic(path) else [path]
        for each in paths:
            if filesystem.isdir(each):
                urls = [filesystem.unstrip_protocol(file) for file in filesystem.find(each)]
                yield from _sort_files(_visible(urls), folder=filesystem.unstrip_protocol(each).rstrip("/"))
            elif filesystem.exists(each):
                yield _locate_file(filesystem.unstrip_protocol(each))
            else:
                raise InputError(f"{text}: no such file or folder")
    except InputError:
        raise
    except (ImportError, OSError, ValueError) as error:
        raise InputError(f"{text}: can't be listed: {error}") from error


def _visible(urls: Iterable[str]) -> Iterator[str]:
    return (url for url in urls if not posixpath.basename(url).startswith("."))


def _sort_files(paths: Iterable[str], *, folder: str) -> Iterator[SourceLocation]:
    """Yields the sources among the files below a folder, by name."""
    pictures: dict[str, list[str]] = {}
    locations: list[SourceLocation] = []
    for path in paths:
        suffix = Path(path).suffix.lower()
        if suffix in VIDEO_SUFFIXES:
            locations.append(SourceLocation(url=path, name=_relative_name(path, folder), kind="video"))
        elif suffix in PICTURE_SUFFIXES:
            pictures.setdefault(posixpath.dirname(path), []).append(path)
    for parent, files in pictures.items():
        name = posixpath.basename(folder) if parent == folder else _relative_name(parent, folder)
        locations.append(SourceLocation(url=parent, name=name, kind="pictures", files=tuple(sorted(files))))
    yield from sorted(locations, key=lambda location: location.name)


def _relative_name(path: str, folder: str) -> str:
    return path[len(folder) :].lstrip("/")


def _locate_file(path: str) -> SourceLocation:
    name = posixpath.basename(path)
    if Path(path).suffix.lower() in PICTURE_SUFFIXES:
        return SourceLocation(url=path, name=name, kind="pictures", files=(path,))
    return SourceLocation(url=path, name=name, kind="video")
