"""Where restored files go: a folder that says what its files are, or one PNG file. Nothing is ever replaced."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from framevault.pipeline.contact_sheet import SheetTile, choose_columns, draw_sheet
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.restore_tasks import ChosenVideo
from framevault.workers.output_folder import MARK, TEMPORARY_FOLDER, remove_leftovers, whole_file, write_whole
from framevault.workers.restore import Tile


def open_output(folder: Path, settings: Mapping[str, object]) -> None:
    """Make a folder ready, which is empty or holds what a command with the same settings wrote; one runs at a time.

    Args:
        folder: Where files go; made if it is not there.
        settings: All that decides what a file of one name holds; written into the folder as `restore.json`.

    Raises:
        PreflightError: It holds something else, or can't be written.
    """
    mark = folder / MARK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        if mark.exists():
            _check_mark(mark, settings)
            return
        others = [path.name for path in folder.iterdir() if path.name != TEMPORARY_FOLDER]
        if others:
            raise PreflightError(f"{folder}: expected an empty folder, it holds {min(others)!r}; name another one")
        text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
        write_whole(folder, MARK, lambda path: path.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise PreflightError(f"{folder}: can't be written: {error.strerror}") from error


def present_files(folder: Path) -> frozenset[str]:
    """Return the paths of all files in a folder, relative to it."""
    return frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def check_sheet(path: Path) -> None:
    """Check the place of a sheet.

    Raises:
        PreflightError: Something is there already.
    """
    if path.exists():
        raise PreflightError(f"{path}: is there already; name another file, or remove it")


def write_sheet(path: Path, videos: Sequence[ChosenVideo], tiles: Sequence[Tile]) -> int:
    """Draw the tiles in the order of their videos and times; return the file's bytes.

    Raises:
        PreflightError: The file can't be written.
    """
    pictures = {(tile.segment_id, tile.frame_number): tile.png for tile in tiles}
    drawn = [
        SheetTile(
            picture=Image.open(io.BytesIO(pictures[frame.segment_id, frame.frame_number])).convert("RGB"),
            caption=f"{video.manifest.name}  {video.time_s(frame):.2f} s",
        )
        for video in videos
        for frame in video.frames
        if (frame.segment_id, frame.frame_number) in pictures
    ]
    sheet = draw_sheet(drawn, num_columns=choose_columns(len(drawn)))
    try:
        with whole_file(path, scratch=path.parent) as temporary:
            sheet.save(temporary)
            return temporary.stat().st_size
    except OSError as error:
        raise PreflightError(f"{path}: can't be written: {error}") from error


def _check_mark(mark: Path, settings: Mapping[str, object]) -> None:
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PreflightError(f"{mark}: expected what framevault restore writes: {error}") from error
    wanted = json.loads(json.dumps(settings))
    if found != wanted:
        members = found if isinstance(found, dict) else {}
        names = [name for name in sorted({*wanted, *members}) if members.get(name) != wanted.get(name)]
        differences = ", ".join(f"{name} {members.get(name)!r} instead of {wanted.get(name)!r}" for name in names)
        raise PreflightError(f"{mark.parent}: its files were restored with {differences}; name another folder")
