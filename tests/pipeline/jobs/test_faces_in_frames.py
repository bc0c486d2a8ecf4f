"""Vaults of codec dicm+hsc, with the shipped checkpoints: faces are restored in place, edited, and found by a photo."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.spec import CodecSpec
from framevault.storage.packs import read_pack
from framevault.workers.placed_faces import CANVAS_LEVEL
from tests.face_vaults import drawn_faces
from tests.media import flip_bytes
from tests.pipeline.command_line import query_rows, run_command

HEIGHT, WIDTH = 160, 300
PLACES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((0, 100, 20),),
    (),
    ((1, 10, 20), (2, 150, 12)),
    ((3, 90, 16),),
)
"""Of each frame, which faces are in it, and the left and upper border of each."""

WALL = 90
"""Red, green and blue around the faces."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of faces, each of these as a picture of its own, and a vault of the frames."""
    folder = tmp_path_factory.mktemp("faces")
    faces_khwc = drawn_faces(load_hsc(CodecSpec(name="hsc")), 4)
    (folder / "stills").mkdir()
    (folder / "crops").mkdir()
    for number, face_hwc in enumerate(faces_khwc):
        Image.fromarray(face_hwc).save(folder / "crops" / f"{number:03d}.png")
    for number, places in enumerate(PLACES):
        frame_hwc = np.full((HEIGHT, WIDTH, 3), WALL, np.uint8)
        for face, left, top in places:
            frame_hwc[top : top + 128, left : left + 128] = faces_khwc[face]
        Image.fromarray(frame_hwc).save(folder / "stills" / f"{number:03d}.png")
    ended = run_command("compress", folder / "stills", folder / "vault", "--codec", "dicm+hsc")
    assert ended.code == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def boxes(folder: Path) -> dict[int, list[tuple[int, int, int, int]]]:
    """Of each frame, left, top, right and bottom of its faces' squares, in whole pixels that they lie within."""
    boxes: dict[int, list[tuple[int, int, int, int]]] = {number: [] for number in range(len(PLACES))}
    rows = query_rows(folder / "vault", "select * from faces order by frame_number, x_min")
    for row in rows:
        x_min, y_min, x_max, y_max = (float(str(row[name])) for name in ("x_min", "y_min", "x_max", "y_max"))
        box = (int(x_min), int(y_min), int(np.ceil(x_max)), int(np.ceil(y_max)))
        boxes[int(str(row["frame_number"]))].append(box)
    return boxes


def restored(out: Path) -> NDArray[np.uint8]:
    """Return restored frames, [N, H, W, 3]."""
    return np.stack([np.array(Image.open(path)) for path in sorted((out / "stills").iterdir())])


def stills(folder: Path) -> NDArray[np.uint8]:
    return np.stack([np.array(Image.open(path)) for path in sorted((folder / "stills").iterdir())])


def search(vault: Path, image: Path, *arguments: str | Path) -> tuple[int, list[dict[str, object]], dict[str, object]]:
    """Search for a face; return the exit code, the matches, and the rest of the summary with all that was said."""
    ended = run_command("similar", vault, "--face", "--image", image, "--apart", "0", "--json", *arguments)
    summary = json.loads(ended.stdout.splitlines()[-1])
    return ended.code, summary.pop("matches"), {**summary, "said": ended.stdout + ended.stderr}


def test_faces_are_restored_where_they_were_and_all_else_is_plain(
    folder: Path, tmp_path: Path, boxes: dict[int, list[tuple[int, int, int, int]]]
) -> None:
    ended = run_command("restore", folder / "vault", tmp_path / "out")

    assert ended.code == 0, ended.stderr
    found_nhwc, source_nhwc = restored(tmp_path / "out"), stills(folder)
    assert found_nhwc.shape == (len(PLACES), HEIGHT, WIDTH, 3)
    for number, places in enumerate(PLACES):
        assert len(boxes[number]) == len(places)
        for (_, x, y), (left, top, right, bottom) in zip(
            sorted(places, key=lambda at: at[1]), boxes[number], strict=True
        ):
            # Where it was drawn, up to some pixels; nearer than any other place would be.
            assert abs((left + right) / 2 - (x + 64)) < 10
            assert abs((top + bottom) / 2 - (y + 64)) < 10
            middle = (slice(top + 20, bottom - 20), slice(left + 20, right - 20))
            error = np.abs(found_nhwc[number][middle].astype(int) - source_nhwc[number][middle]).mean()
            assert error < 12
            found_nhwc[number][top:bottom, left:right] = CANVAS_LEVEL
        assert (found_nhwc[number] == CANVAS_LEVEL).all()


def test_slices_and_edits_are_the_faces(
    folder: Path, tmp_path: Path, boxes: dict[int, list[tuple[int, int, int, int]]]
) -> None:
    mean = run_command("restore", folder / "vault", tmp_path / "mean", "--slices", "nothing")
    edited = run_command(
        "restore", folder / "vault", tmp_path / "edited", "--slices", "core", "--edit", "brightness=+2"
    )
    plain = run_command("restore", folder / "vault", tmp_path / "plain", "--slices", "core")

    assert (mean.code, edited.code, plain.code) == (0, 0, 0), mean.stderr + edited.stderr + plain.stderr
    bright_nhwc, plain_nhwc = restored(tmp_path / "edited").astype(int), restored(tmp_path / "plain").astype(int)
    (left, top, right, bottom), (other_left, other_top, *_) = boxes[2]
    mean_hwc = restored(tmp_path / "mean")[2]
    first_hwc = mean_hwc[top + 20 : top + 90, left + 20 : left + 90].astype(int)
    second_hwc = mean_hwc[other_top + 20 : other_top + 90, other_left + 20 : other_left + 90]
    assert np.abs(first_hwc - second_hwc).mean() < 4
    assert (bright_nhwc - plain_nhwc)[2, top:bottom, left:right].mean() > 5
    assert (bright_nhwc[1] == CANVAS_LEVEL).all()


def test_frames_with_faces_become_a_video_and_a_sheet(folder: Path, tmp_path: Path) -> None:
    video = run_command("restore", folder / "vault", tmp_path / "out", "--as", "video", "--slices", "nothing")
    sheet = run_command("restore", folder / "vault", tmp_path / "sheet.png", "--as", "sheet", "--slices", "nothing")

    assert (video.code, sheet.code) == (0, 0), video.stderr + sheet.stderr
    assert (tmp_path / "out" / "stills.mp4").stat().st_size > 0
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 160


def test_slices_out_of_range_are_a_usage_error(folder: Path, tmp_path: Path) -> None:
    ended = run_command("restore", folder / "vault", tmp_path / "out", "--slices", "9")

    assert ended.code == 2
    assert "slices must be nothing, core, or 0 to 8, which the streams have, got 9" in ended.stderr


def test_a_photo_finds_its_own_face_and_it_is_said_which_was_taken(folder: Path) -> None:
    code, matches, summary = search(folder / "vault", folder / "stills" / "002.png")

    assert code == 0, summary["said"]
    assert "002.png: took the face in x " in str(summary["said"])
    assert ", the surest of 2)" in str(summary["said"])
    assert len(matches) == sum(map(len, PLACES))
    best, second = matches[:2]
    assert best["distance"] == pytest.approx(0, abs=1e-3)
    assert float(str(second["distance"])) > 0.1
    (row,) = query_rows(
        folder / "vault",
        "select video_frame, face_number, x_min, y_min, x_max, y_max from faces where frame_number = 2 "
        "order by score desc limit 1",
    )
    assert {name: best[name] for name in row} == row


def test_vectors_are_made_once_and_the_vault_stays_clean(folder: Path) -> None:
    search(folder / "vault", folder / "crops" / "003.png")
    code, matches, summary = search(folder / "vault", folder / "crops" / "003.png", "--top", "1")

    assert (code, summary["num_cached"]) == (0, 1)
    assert [(match["video_frame"], match["face_number"]) for match in matches] == [(3, 0)]
    assert run_command("verify", folder / "vault").code == 0


def test_faces_of_frames_and_frames_of_faces_are_searched_together(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vault", tmp_path / "vault")
    ended = run_command("compress", folder / "crops", tmp_path / "vault", "--codec", "hsc")
    assert ended.code == 0, ended.stderr

    code, matches, summary = search(tmp_path / "vault", folder / "crops" / "002.png", "--top", "2")

    assert code == 0, summary["said"]
    assert {str(match["video"]): (match["video_frame"], match["face_number"] is None) for match in matches} == {
        "crops": (2, True),
        "stills": (2, False),
    }
    whole = next(match for match in matches if match["video"] == "crops")
    assert [whole[name] for name in ("x_min", "y_min", "x_max", "y_max")] == [None] * 4


def test_a_photo_without_a_face_is_a_usage_error(folder: Path) -> None:
    ended = run_command("similar", folder / "vault", "--face", "--image", folder / "stills" / "001.png")

    assert ended.code == 2
    assert "001.png: no face was found on it" in ended.stderr


def test_a_damaged_frame_costs_itself_until_it_is_repaired(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vault", tmp_path / "vault", ignore=shutil.ignore_patterns("face_vectors"))
    (path,) = (tmp_path / "vault" / "packs").rglob("*.fvp")
    whole = path.read_bytes()
    flip_bytes(path, start=read_pack(whole).frames[2].offset + 30, count=1)

    out = run_command("restore", tmp_path / "vault", tmp_path / "out", "--slices", "nothing")
    lost = search(tmp_path / "vault", folder / "crops" / "001.png")
    open_failures = query_rows(tmp_path / "vault", "select count(*) as n from failures where not is_resolved")
    path.write_bytes(whole)
    found = search(tmp_path / "vault", folder / "crops" / "001.png")

    assert out.code == 3
    assert "frame 2: " in out.stderr
    assert len(restored(tmp_path / "out")) == len(PLACES) - 1
    assert lost[0] == 3
    assert sorted(int(str(match["video_frame"])) for match in lost[1]) == [0, 3]
    assert open_failures == [{"n": 1}]
    assert found[0] == 0
    assert len(found[1]) == 4
    assert query_rows(tmp_path / "vault", "select count(*) as n from failures where not is_resolved") == [{"n": 0}]
