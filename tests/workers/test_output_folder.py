"""Files for people: whole, or not there."""

from pathlib import Path

import pytest

from framevault.workers.output_folder import MARK, check_folder, remove_leftovers, write_whole


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def write(path: Path) -> None:
        path.write_bytes(b"half")
        seen.append([each.name for each in tmp_path.rglob("*.png") if not each.name.startswith(".")])
        path.write_bytes(b"whole")

    size_bytes = write_whole(tmp_path, "video/1.png", write)

    assert (size_bytes, seen) == (5, [[]])
    assert (tmp_path / "video" / "1.png").read_bytes() == b"whole"


def test_an_error_leaves_nothing_but_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"before")

    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(tmp_path, "x.png", write)

    remove_leftovers(tmp_path)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("x.png", b"before")]


def test_a_worker_that_sees_another_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="every machine must have the folder mounted"):
        check_folder(tmp_path)

    (tmp_path / MARK).write_text("{}")
    check_folder(tmp_path)
