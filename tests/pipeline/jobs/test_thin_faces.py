"""`framevault thin --face-slices`: faces at a lower rate, in vaults of frames with faces."""

import itertools
import json
import shutil
from pathlib import Path

import pytest

from framevault.pipeline.jobs import thin_ledger
from framevault.storage.store import open_store
from tests.astronaut import write_astronauts
from tests.codecs.hsc.toy import TOY_CONFIG
from tests.codecs.hsc.toy import save_toy as save_toy_hsc
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import Ended, query_rows, run_command, vault_contents

NUM_FRAMES = 4

PLACES = "select video_frame, time_s, face_number, x_min, y_min, x_max, y_max, score, is_outside from faces order by 1"
SIZES = "select size_bytes from faces order by video_frame"
FORM = "select slices, face_slices, bitstream_version, is_complete, num_frames from videos order by all"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_astronauts(tmp_path_factory.mktemp("sources") / "astronaut", NUM_FRAMES)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """Two segments of two frames with a face each, in which all was looked for; don't change it."""
    vault = tmp_path_factory.mktemp("vault") / "vault"
    for command in (("compress", pictures, vault, "--codec", "dicm+hsc", "--segment-frames", "2"), ("detect", vault)):
        ended = run_command(*command)
        assert ended.code == 0, ended.stderr
    return vault


@pytest.fixture
def vault(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "vault"))


def thin(vault: Path, *options: str, code: int = 0) -> str:
    """Thin a vault; return what was printed, of both kinds."""
    ended = run_command("thin", vault, "--workers", "1", *options)
    assert ended.code == code, ended.stderr
    return ended.stdout + ended.stderr


def sizes_of(vault: Path) -> list[int]:
    return [int(str(row["size_bytes"])) for row in query_rows(vault, SIZES)]


def assert_clean(vault: Path) -> None:
    ended = run_command("verify", vault)
    assert (ended.code, ended.stdout.splitlines()[-1][:7]) == (0, "clean: "), ended.stdout


def test_faces_get_smaller_and_stay_where_they_are(vault: Path) -> None:
    places, before = query_rows(vault, PLACES), [sizes_of(vault)]
    detections = query_rows(vault, "select video_frame, label, score from detections order by all")
    assert len(places) == NUM_FRAMES

    for slices in ("7", "3", "0"):
        printed = thin(vault, "--face-slices", slices)
        assert f"2 segments ({NUM_FRAMES} frames) thinned now to {slices} slices of each face" in printed
        before.append(sizes_of(vault))

    assert run_command("vacuum", vault, "--grace-days", "0").code == 0
    assert query_rows(vault, PLACES) == places
    assert all(
        low < high for high_n, low_n in itertools.pairwise(before[1:]) for low, high in zip(low_n, high_n, strict=True)
    )
    assert query_rows(vault, FORM) == [
        {"slices": 2, "face_slices": 0, "bitstream_version": 16, "is_complete": True, "num_frames": NUM_FRAMES}
    ]
    assert query_rows(vault, "select video_frame, label, score from detections order by all") == detections
    assert len(list(vault.glob("packs/*/*.fvp"))) == len(list(vault.glob("faces/*/*.parquet"))) == 2
    assert_clean(vault)


def test_features_stay_to_the_bit_and_what_was_found_is_not_looked_for_again(vault: Path) -> None:
    frames = "select sum(f.size_bytes) - (select sum(size_bytes) from faces) as n from frames f"
    before = query_rows(vault, frames)

    thin(vault, "--face-slices", "2")

    # Lengths of faces take two bytes before, and one after.
    assert 0 <= int(str(before[0]["n"])) - int(str(query_rows(vault, frames)[0]["n"])) <= NUM_FRAMES
    again = run_command("detect", vault)
    assert f"{NUM_FRAMES} frames of 2 segments, 2 of which were looked through before" in again.stdout


def test_faces_and_frames_together_or_one_after_the_other(vault: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(vault, tmp_path / "other"))

    thin(vault, "--slices", "1", "--face-slices", "3")
    thin(other, "--face-slices", "3")
    thin(other, "--slices", "1")

    form = {"slices": 1, "face_slices": 3, "bitstream_version": 16, "is_complete": True, "num_frames": NUM_FRAMES}
    assert query_rows(vault, FORM) == query_rows(other, FORM) == [form]
    packs = [{path.name: path.read_bytes() for path in each.rglob("*.fvp")} for each in (vault, other)]
    assert packs[0].keys() <= packs[1].keys()
    assert all(packs[1][name] == data for name, data in packs[0].items())
    assert query_rows(vault, SIZES) == query_rows(other, SIZES)
    assert len(query_rows(other, PLACES)) == NUM_FRAMES
    assert_clean(vault)
    assert_clean(other)


def test_where_frames_have_so_many_slices_already_faces_are_thinned_alone(vault: Path) -> None:
    thin(vault, "--slices", "2", "--face-slices", "4")

    printed = thin(vault, "--slices", "2", "--face-slices", "4")

    assert "left as they are: they have 2 slices, and 4 of each face already" in printed
    assert query_rows(vault, "select slices, face_slices from videos") == [{"slices": 2, "face_slices": 4}]


def test_thinned_faces_are_restored_edited_and_searched(vault: Path, tmp_path: Path) -> None:
    whole = restore(vault, tmp_path / "whole", "--slices", "3")
    thin(vault, "--face-slices", "3")

    restored = restore(vault, tmp_path / "thin")
    less = restore(vault, tmp_path / "less", "--slices", "1")
    core = restore(vault, tmp_path / "core", "--slices", "core")
    edited = restore(vault, tmp_path / "edited", "--edit", "brightness=+1.5")
    more = run_command("restore", vault, tmp_path / "more", "--slices", "4")
    photo = next(iter(sorted((tmp_path / "whole").rglob("*.png"))))
    found = run_command("similar", vault, "--face", "--image", photo, "--json")

    assert restored == whole
    assert len({json.dumps(sorted(each.items())) for each in (restored, less, core, edited)}) == 4
    assert more.code == 2
    assert "slices must be nothing, core, or 0 to 3, which the streams have, got 4" in more.stderr
    assert found.code == 0, found.stderr
    assert_clean(vault)


def restore(vault: Path, out: Path, *options: str) -> dict[str, str]:
    """Return the restored pictures, in hex, by name."""
    ended = run_command("restore", vault, out, *options)
    assert ended.code == 0, ended.stderr
    pictures = {path.name: path.read_bytes().hex() for path in out.rglob("*.png")}
    assert len(pictures) == NUM_FRAMES
    return pictures


def test_vectors_of_faces_go_along(vault: Path, pictures: Path) -> None:
    photo = sorted(pictures.iterdir())[0]
    first = run_command("similar", vault, "--face", "--image", photo, "--json")
    assert first.code == 0, first.stderr
    vectors = sorted(vault.glob("face_vectors/*/*.parquet"))

    thin(vault, "--face-slices", "1")
    second = run_command("similar", vault, "--face", "--image", photo, "--json")

    assert second.code == 0, second.stderr
    assert sorted(vault.glob("face_vectors/*/*.parquet")) == vectors
    assert len(vectors) == 2


@pytest.mark.parametrize("moment", ["commit_video", "commit_facts", "carry_findings", "retire_segments"])
def test_killed_between_any_two_steps_the_same_command_goes_on(
    vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    undisturbed = Path(shutil.copytree(vault, tmp_path / "undisturbed"))
    thin(undisturbed, "--face-slices", "1")

    def interrupt(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(thin_ledger, moment, interrupt)
        thin(vault, "--face-slices", "1", code=130)
    assert_clean(vault)

    printed = thin(vault, "--face-slices", "1")

    assert "0 segments (0 frames) thinned now to 1 slices of each face, 2 had been before" in printed
    assert vault_contents(vault) == vault_contents(undisturbed)
    assert len(query_rows(vault, PLACES)) == NUM_FRAMES


def test_a_condition_chooses_segments_and_all_faces_keep_their_places(vault: Path) -> None:
    places = query_rows(vault, PLACES)

    thin(vault, "--face-slices", "0", "--where", "video_frame < 2")
    some = query_rows(vault, "select face_slices, num_frames from videos order by all")
    between = query_rows(vault, PLACES)
    thin(vault, "--face-slices", "0")

    assert some == [{"face_slices": 0, "num_frames": 2}, {"face_slices": None, "num_frames": 2}]
    assert between == query_rows(vault, PLACES) == places
    assert_clean(vault)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--face-slices", "8"), "faces: slices must be 0 to 7, fewer than the 8 of the streams, got 8"),
        (("--slices", "3", "--face-slices", "2"), "streams that were thinned to 2 slices can't be thinned to 3"),
        (("--face-slices", "-1"), "Usage: framevault thin"),
        ((), "slices or face_slices (or both) must say how many are kept, got neither"),
    ],
)
def test_what_can_not_be_is_a_usage_error(vault: Path, options: tuple[str, ...], message: str) -> None:
    before = vault_contents(vault)

    printed = thin(vault, *options, code=2)

    assert message in printed
    assert vault_contents(vault) == before


def test_faces_can_not_be_thickened(vault: Path) -> None:
    thin(vault, "--face-slices", "1")

    printed = thin(vault, "--face-slices", "3", code=2)

    assert "faces: streams that were thinned to 1 slices can't be thinned to 3" in printed


def test_a_video_without_faces_besides_its_frames_is_left_or_has_its_frames_thinned(
    vault: Path, tmp_path: Path
) -> None:
    clip = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=2, width=64, height=48))
    assert run_command("compress", clip, vault).code == 0

    alone = thin(vault, "--face-slices", "4")
    both = thin(vault, "--face-slices", "3", "--slices", "1")

    assert "1 of the chosen videos are left as they are: codec 'dicm' codes no faces besides frames" in alone
    assert "left as they are" not in both
    assert query_rows(vault, "select codec, slices, face_slices from videos order by codec") == [
        {"codec": "dicm", "slices": 1, "face_slices": None},
        {"codec": "dicm+hsc", "slices": 1, "face_slices": 3},
    ]
    assert_clean(vault)


def test_faces_of_ones_own_checkpoint_are_thinned_by_what_the_vault_keeps(tmp_path: Path, pictures: Path) -> None:
    weights = save_toy_hsc(tmp_path / "toy.safetensors")
    command = ("compress", pictures, tmp_path / "vault", "--codec", "dicm+hsc", "--face-weights", weights)
    assert run_command(*command).code == 0
    weights.unlink()
    cache = ("--checkpoint-cache", str(tmp_path / "cache"))
    most = len(TOY_CONFIG.slices)

    refused = thin(tmp_path / "vault", "--face-slices", str(most), *cache, code=2)
    thin(tmp_path / "vault", "--face-slices", "1", *cache)

    assert f"faces: slices must be 0 to {most - 1}" in refused
    assert query_rows(tmp_path / "vault", "select face_slices from videos") == [{"face_slices": 1}]
    restored: Ended = run_command("restore", tmp_path / "vault", tmp_path / "out", *cache)
    assert restored.code == 0, restored.stderr
    assert_clean(tmp_path / "vault")


def test_a_damaged_segment_stays_and_is_said(vault: Path) -> None:
    path = sorted(vault.glob("packs/*/*.fvp"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)

    printed = thin(vault, "--face-slices", "2", code=3)

    assert "1 segments can't be read and are as they were" in printed
    assert query_rows(vault, "select face_slices, num_frames from videos order by all") == [
        {"face_slices": 2, "num_frames": 2},
        {"face_slices": None, "num_frames": 2},
    ]
    assert open_store(str(vault)).exists("vault.json")
