"""A damaged frame costs at most its segment's rest, and says so: what is found in the others, and what is reported."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from framevault.storage.packs import read_pack
from tests.pipeline.command_line import Ended, query_rows, run_command
from tests.workers.classifier_weights import write_classifier

NUM_FRAMES = 6
"""Of each vault's one segment."""

DAMAGED = 3
"""The frame whose stream is damaged."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two vaults of one clip, coded in either way: a portrait, and a small square that moves below it."""
    folder = tmp_path_factory.mktemp("lost")
    portrait = Image.fromarray(astronaut())  # type: ignore[no-untyped-call]  # scikit-image has no types
    ground = np.asarray(portrait.resize((192, 192)))
    (folder / "clip").mkdir()
    for number in range(NUM_FRAMES):
        picture = ground.copy()
        picture[160:180, 10 + 25 * number : 30 + 25 * number] = 255
        Image.fromarray(picture).save(folder / "clip" / f"{number}.png")
    for name, options in (("video", ()), ("intra", ("--intra",))):
        ended = run_command("compress", folder / "clip", folder / name, *options)
        assert ended.code == 0, ended.stderr
    write_classifier(folder / "own.pth")
    return folder


@pytest.fixture
def fresh(folder: Path, tmp_path: Path) -> Path:
    """Copies of the vaults that a test may write to."""
    for name in ("video", "intra"):
        shutil.copytree(folder / name, tmp_path / name)
    return tmp_path


@contextmanager
def damaged(vault: Path, *frame_numbers: int) -> Iterator[str]:
    """Flip a byte of some frames' streams, as long as it lasts; give the segment's id."""
    (path,) = vault.rglob("*.fvp")
    data = path.read_bytes()
    pack = read_pack(data)
    flipped = bytearray(data)
    for number in frame_numbers:
        flipped[pack.frames[number].offset + pack.frames[number].length // 2] ^= 0x10
    path.write_bytes(flipped)
    yield pack.header.segment_id
    path.write_bytes(data)


def detect(vault: Path, *arguments: str) -> Ended:
    """Look through a vault."""
    return run_command("detect", vault, "--detector", "mobilenet_v2", *arguments)


def seen(vault: Path) -> set[object]:
    """Return the frames in which something was found."""
    return {row["frame_number"] for row in query_rows(vault, "select distinct frame_number from all_detections")}


def failures(vault: Path) -> list[dict[str, object]]:
    return query_rows(vault, "select * from failures order by reason")


def summary(ended: Ended) -> dict[str, object]:
    found: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_in_intra_mode_a_damaged_frame_costs_itself_alone(fresh: Path) -> None:
    vault = fresh / "intra"
    with damaged(vault, DAMAGED) as segment_id:
        ended = detect(vault)

    (failure,) = failures(vault)
    assert ended.code == 3
    assert "1 frames could not be decoded" in ended.stdout
    assert f"clip: segment {segment_id}: frame {DAMAGED}: " in ended.stderr
    assert seen(vault) == set(range(NUM_FRAMES)) - {DAMAGED}
    assert str(failure["reason"]).startswith(f"segment {segment_id}: frame {DAMAGED}: ")
    assert "must have CRC32C" in str(failure["reason"])
    assert (failure["video"], failure["num_frames"], failure["is_resolved"]) == ("clip", 1, False)
    assert failure["first_pts"] == failure["last_pts"] == DAMAGED
    assert failure["command"] == f"framevault detect {vault} --detector mobilenet_v2"


def test_in_video_mode_it_costs_the_frames_that_are_coded_against_it(fresh: Path) -> None:
    vault = fresh / "video"
    independent = query_rows(vault, "select frame_number from frames where is_independent")
    with damaged(vault, DAMAGED) as segment_id:
        ended = detect(vault, "--json")

    (failure,) = failures(vault)
    assert independent == [{"frame_number": 0}]
    assert ended.code == 3
    assert summary(ended)["num_lost_frames"] == NUM_FRAMES - DAMAGED
    assert summary(ended)["num_failed"] == 0
    assert seen(vault) == set(range(DAMAGED))
    expected = f"segment {segment_id}: frame {DAMAGED} and those coded against it, to {NUM_FRAMES - 1}: "
    assert str(failure["reason"]).startswith(expected)
    assert (failure["first_pts"], failure["last_pts"], failure["num_frames"]) == (3, 5, 3)


@pytest.mark.parametrize("name", ["video", "intra"])
def test_once_it_is_repaired_the_same_command_finds_the_rest(fresh: Path, folder: Path, name: str) -> None:
    vault = fresh / name
    with damaged(vault, DAMAGED):
        first = detect(vault)
        again = detect(vault)
    repaired = detect(vault)
    cached = detect(vault, "--json")

    assert (first.code, again.code, repaired.code, cached.code) == (3, 3, 0, 0)
    assert summary(cached)["num_cached"] == 1
    assert [failure["is_resolved"] for failure in failures(vault)] == [True]
    assert seen(vault) == set(range(NUM_FRAMES))
    assert run_command("verify", vault).code == 0
    sql = "select frame_number, label, score, x_min from all_detections order by all"
    sound = shutil.copytree(folder / name, fresh / "sound")
    detect(sound)
    assert query_rows(vault, sql) == query_rows(sound, sql)


def test_what_was_found_before_the_damage_stays_and_is_no_failure(fresh: Path) -> None:
    vault = fresh / "video"
    detect(vault)
    with damaged(vault, DAMAGED):
        ended = detect(vault)

    assert ended.code == 0
    assert seen(vault) == set(range(NUM_FRAMES))
    assert failures(vault) == []


def test_labels_and_vectors_lack_the_same_frames(fresh: Path, folder: Path) -> None:
    vault = fresh / "video"
    model = ("--classifier-weights", folder / "own.pth")
    picture = fresh / "x.png"
    Image.new("RGB", (64, 64)).save(picture)
    with damaged(vault, DAMAGED):
        classified = run_command("classify", vault, "--vectors", *model)
        labelled = query_rows(vault, "select distinct frame_number as n from labels order by n")
        found = run_command("similar", vault, "--image", picture, "--apart", "0", *model, "--json")
        (failure,) = failures(vault)
    repaired = run_command("similar", vault, "--image", picture, "--apart", "0", *model, "--json")

    assert (classified.code, found.code, repaired.code) == (3, 3, 0)
    assert [row["n"] for row in labelled] == list(range(DAMAGED))
    matches = summary(found)["matches"]
    assert isinstance(matches, list)
    assert {match["frame_number"] for match in matches} == set(range(DAMAGED))
    assert str(failure["command"]).startswith(f"framevault classify {vault} --classifier mobilenet_v2 --vectors ")
    whole = summary(repaired)["matches"]
    assert isinstance(whole, list)
    assert len(whole) == NUM_FRAMES
    assert [each["is_resolved"] for each in failures(vault)] == [True]


def test_a_segment_of_which_nothing_can_be_read_is_a_failure_too(fresh: Path) -> None:
    vault = fresh / "video"
    with damaged(vault, 0) as segment_id:
        ended = detect(vault, "--json")
    (failure,) = failures(vault)
    repaired = detect(vault)

    assert ended.code == 3
    assert (summary(ended)["num_failed"], summary(ended)["num_lost_frames"]) == (1, 0)
    assert str(failure["reason"]).startswith(f"segment {segment_id}: no frame can be decoded: frame 0 and those")
    assert failure["num_frames"] == NUM_FRAMES
    assert repaired.code == 0
    assert [each["is_resolved"] for each in failures(vault)] == [True]


def test_a_lesser_damage_later_leaves_the_better_of_both_parts(fresh: Path) -> None:
    vault = fresh / "intra"
    with damaged(vault, 1, DAMAGED):
        detect(vault)
    with damaged(vault, DAMAGED):
        detect(vault)

    assert seen(vault) == set(range(NUM_FRAMES)) - {DAMAGED}
    (failure,) = failures(vault)
    assert failure["num_frames"] == 1
