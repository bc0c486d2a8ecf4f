"""From what a user names to the list of sources."""

from pathlib import Path

import pytest

from framevault.pipeline.sources import InputError, SourceLocation, expand_inputs


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_a_file_is_named_after_itself_whatever_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "clip.bin")

    found = expand_inputs([str(tmp_path / "clip.bin")])

    assert found == [SourceLocation(url=str(tmp_path / "clip.bin"), name="clip.bin", kind="video")]


def test_videos_in_a_folder_are_named_relative_to_it_and_come_by_name(tmp_path: Path) -> None:
    touch(tmp_path / "b.mp4", tmp_path / "day" / "a.MKV", tmp_path / "notes.txt", tmp_path / ".hidden.mp4")

    found = expand_inputs([str(tmp_path)])

    assert [location.name for location in found] == ["b.mp4", "day/a.MKV"]


def test_a_folder_of_pictures_is_one_source_named_after_the_folder(tmp_path: Path) -> None:
    touch(tmp_path / "stills" / "2.png", tmp_path / "stills" / "1.jpg", tmp_path / "stills" / "more" / "3.png")

    found = expand_inputs([str(tmp_path / "stills")])

    assert [(location.name, location.kind, len(location.files)) for location in found] == [
        ("more", "pictures", 1),
        ("stills", "pictures", 2),
    ]
    assert [Path(file).name for file in found[1].files] == ["1.jpg", "2.png"]


def test_a_glob_gives_its_matches_by_name(tmp_path: Path) -> None:
    touch(tmp_path / "b.mp4", tmp_path / "a.mp4", tmp_path / "c.mkv")

    found = expand_inputs([str(tmp_path / "*.mp4")])

    assert [location.name for location in found] == ["a.mp4", "b.mp4"]


def test_a_file_whose_name_looks_like_a_glob_is_taken_as_it_is(tmp_path: Path) -> None:
    touch(tmp_path / "[1].mp4", tmp_path / "1.mp4")

    found = expand_inputs([str(tmp_path / "[1].mp4")])

    assert [location.name for location in found] == ["[1].mp4"]


def test_an_input_named_twice_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")

    found = expand_inputs([str(tmp_path / "a.mp4"), str(tmp_path), str(tmp_path / "*.mp4")])

    assert len(found) == 1


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")

    assert expand_inputs([f"file://{tmp_path}/a.mp4"]) == expand_inputs([f"{tmp_path}/a.mp4"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{folder}/missing.mp4", "no such file or folder"),
        ("{folder}/*.mp4", "no file matches"),
        ("{folder}", "expected videos or pictures in it, found none"),
        ("memory://clips/a.mp4", "the decoding process has a memory of its own"),
        ("nosuchprotocol://a.mp4", "Protocol not known"),
        ("", "empty string"),
    ],
)
def test_an_input_without_sources_is_refused_with_the_reason(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        expand_inputs([text.format(folder=tmp_path)])
