"""`framevault compress --codec dicm+hsc`: a real face in motion, found, coded and asked for."""

import json
import shutil
from pathlib import Path

import pytest

from framevault.codecs.hsc.distortion import DomainLimits
from framevault.codecs.spec import CODECS, DEFAULT_QUALITY
from framevault.pipeline.jobs import ledger
from framevault.storage.store import open_store
from tests.astronaut import FACE_HEIGHT, NOSE_X, NOSE_Y, STEP, write_astronauts
from tests.codecs.dicm.toy import save_toy as save_toy_dicm
from tests.codecs.hsc.toy import save_toy as save_toy_hsc
from tests.media import VideoSpec, make_pictures, make_video
from tests.pipeline.command_line import Ended, query_rows, run_command, vault_contents

NUM_FRAMES = 6


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_astronauts(tmp_path_factory.mktemp("sources") / "astronaut", NUM_FRAMES)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """Two segments of three frames, with the shipped weights; don't change it."""
    vault = tmp_path_factory.mktemp("vault") / "vault"
    ended = compress(pictures, vault)
    assert ended.code == 0, ended.stderr
    assert f"{NUM_FRAMES} faces in them are coded besides, 0 of them outside the domain" in ended.stdout
    return vault


def compress(pictures: Path, vault: Path, *arguments: str | Path) -> Ended:
    return run_command("compress", pictures, vault, "--codec", "dicm+hsc", "--segment-frames", "3", *arguments)


def test_the_face_of_every_frame_is_stored_where_it_is(vault: Path) -> None:
    rows = query_rows(vault, "select * from faces order by video_frame")

    assert [(row["video_frame"], row["face_number"]) for row in rows] == [(n, 0) for n in range(NUM_FRAMES)]
    for number, row in enumerate(rows):
        box = {name: float(str(row[name])) for name in ("x_min", "y_min", "x_max", "y_max")}
        assert (box["x_min"] + box["x_max"]) / 2 == pytest.approx(NOSE_X - STEP * number, abs=0.1 * FACE_HEIGHT)
        assert (box["y_min"] + box["y_max"]) / 2 == pytest.approx(NOSE_Y - STEP * number, abs=0.15 * FACE_HEIGHT)
        assert 60 < int(str(row["size_bytes"])) < 400
        assert row["is_outside"] is False
    (frames,) = query_rows(vault, "select sum(size_bytes) as n from frames")
    assert sum(int(str(row["size_bytes"])) for row in rows) < int(str(frames["n"]))


def test_the_vault_is_clean_and_says_how_faces_were_looked_for(vault: Path) -> None:
    ended = run_command("verify", vault)

    assert ended.code == 0, ended.stdout
    assert "6 labels, vectors and faces" in ended.stdout
    (video,) = query_rows(vault, "select codec, sampling, is_complete from videos")
    assert video == {"codec": "dicm+hsc", "sampling": "all; faces from 0.4", "is_complete": True}


def test_faces_are_joined_with_detections(tmp_path: Path, vault: Path) -> None:
    shutil.copytree(vault, tmp_path / "vault")
    ended = run_command("detect", tmp_path / "vault")
    assert ended.code == 0, ended.stderr

    rows = query_rows(
        tmp_path / "vault",
        """select f.video_frame, d.score from faces f join detections d using (segment_id, frame_number)
        where d.label = 'face' and d.x_min < (f.x_min + f.x_max) / 2 and d.x_max > (f.x_min + f.x_max) / 2
        order by 1""",
    )

    assert [row["video_frame"] for row in rows] == [*range(NUM_FRAMES)]
    assert run_command("verify", tmp_path / "vault").code == 0


def test_faces_stay_when_the_frames_are_thinned_and_the_old_packs_go(tmp_path: Path, vault: Path) -> None:
    shutil.copytree(vault, tmp_path / "vault")
    text = "select * exclude (run_fp, segment_id) from faces order by video_frame"
    before = query_rows(vault, text)

    assert run_command("thin", tmp_path / "vault", "--slices", "1").code == 0
    assert run_command("vacuum", tmp_path / "vault", "--grace-days", "0").code == 0

    assert query_rows(tmp_path / "vault", text) == before
    assert query_rows(tmp_path / "vault", "select slices from videos") == [{"slices": 1}]
    assert len(list((tmp_path / "vault").glob("packs/*/*.fvp"))) == 2
    assert run_command("verify", tmp_path / "vault").code == 0


@pytest.mark.parametrize("moment", ["commit_video", "commit_facts"])
def test_an_interrupted_job_goes_on_and_has_all_faces(
    tmp_path: Path, pictures: Path, vault: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger, moment, interrupt)
        assert compress(pictures, tmp_path / "vault").code == 130
    assert query_rows(tmp_path / "vault", "select * from faces") == []

    ended = compress(pictures, tmp_path / "vault")

    assert ended.code == 0, ended.stderr
    assert "0 segments (0 frames) encoded now, 2 were there" in ended.stdout
    assert vault_contents(tmp_path / "vault") == vault_contents(vault)
    assert run_command("verify", tmp_path / "vault").code == 0


def test_a_lost_faces_part_is_made_again_from_the_streams(tmp_path: Path, pictures: Path, vault: Path) -> None:
    shutil.copytree(vault, tmp_path / "vault")
    lost = [path for path in (tmp_path / "vault").rglob("*") if path.is_file() and "faces" in path.parts]
    assert len(lost) == 3
    for path in lost:
        path.unlink()

    ended = compress(pictures, tmp_path / "vault")

    assert ended.code == 0, ended.stderr
    assert vault_contents(tmp_path / "vault") == vault_contents(vault)


def test_running_it_again_changes_nothing(tmp_path: Path, pictures: Path, vault: Path) -> None:
    shutil.copytree(vault, tmp_path / "vault")

    ended = compress(pictures, tmp_path / "vault")

    assert ended.code == 0, ended.stderr
    assert vault_contents(tmp_path / "vault") == vault_contents(vault)


def test_other_settings_of_faces_make_another_run_of_the_video(tmp_path: Path, pictures: Path) -> None:
    weights = save_toy_hsc(tmp_path / "toy.safetensors")
    for options in ((), ("--face-fps", "0.5"), ("--face-score", "0.999"), ("--face-size", "3")):
        ended = compress(pictures, tmp_path / "vault", "--face-weights", weights, *options)
        assert ended.code == 0, ended.stderr

    rows = query_rows(
        tmp_path / "vault",
        """select v.sampling, count(f.frame_number) as n from videos v left join faces f using (video_id, run_fp)
        group by v.run_fp, v.sampling order by all""",
    )

    assert [(row["sampling"], row["n"]) for row in rows] == [
        ("all; faces from 0.4", NUM_FRAMES),
        ("all; faces from 0.4 and 3 pixels", NUM_FRAMES),
        ("all; faces from 0.4 at fps=0.5", 4),
        ("all; faces from 0.999", 0),
    ]
    assert run_command("verify", tmp_path / "vault").code == 0


def test_faces_smaller_than_wanted_are_left_out_and_said(tmp_path: Path, pictures: Path) -> None:
    weights = save_toy_hsc(tmp_path / "toy.safetensors")
    options = ("--face-weights", weights, "--face-size", 2 * FACE_HEIGHT)

    said = compress(pictures, tmp_path / "vault", *map(str, options))
    shown = compress(pictures, tmp_path / "other", *map(str, options), "--json")

    assert said.code == 0, said.stderr
    assert "0 faces in them are coded besides" in said.stdout
    left_out = f"6 faces were found and left out: a side of their box has less than {2 * FACE_HEIGHT} pixels"
    assert left_out in said.stdout
    summary = json.loads(shown.stdout.splitlines()[-1])
    assert (summary["faces_done"], summary["faces_left_out"], summary["faces_small"]) == (0, 0, 6)
    assert query_rows(tmp_path / "vault", "select count(*) as n from faces") == [{"n": 0}]
    assert run_command("verify", tmp_path / "vault").code == 0


def test_what_failed_is_tried_again_with_the_same_smallest_size(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")

    ended = compress(tmp_path / "broken.mp4", tmp_path / "vault", "--face-size", "24")

    assert ended.code == 3
    (row,) = query_rows(tmp_path / "vault", "select command from failures")
    assert "--face-score 0.4 --face-size 24" in str(row["command"])


def test_no_smallest_size_gives_the_same_vault(tmp_path: Path, pictures: Path, vault: Path) -> None:
    ended = compress(pictures, tmp_path / "vault", "--face-size", "0")

    assert ended.code == 0, ended.stderr
    assert "left out" not in ended.stdout
    assert vault_contents(tmp_path / "vault") == vault_contents(vault)


def test_faces_outside_the_domain_are_said_and_can_be_asked_for(tmp_path: Path, pictures: Path) -> None:
    weights = save_toy_hsc(tmp_path / "strict.safetensors", limits=DomainLimits(psnr_db=(99.0,) * 8, ssim=(-1.0,) * 8))

    ended = compress(pictures, tmp_path / "vault", "--face-weights", weights, "--json")

    events = [json.loads(line) for line in (ended.stdout + ended.stderr).splitlines() if line.startswith("{")]
    (summary,) = [event for event in events if event["event"] == "summary"]
    assert (summary["faces_done"], summary["faces_outside"], summary["faces_left_out"]) == (6, 6, 0)
    assert any("3 of 3 faces are outside the domain" in str(event.get("text")) for event in events)
    assert query_rows(tmp_path / "vault", "select count(*) as n from faces where is_outside") == [{"n": 6}]
    assert query_rows(tmp_path / "vault", "select count(*) as n from frames where is_outside") == [{"n": 0}]


def test_a_video_without_faces_has_none(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=4, width=64, height=48))

    ended = compress(clip, tmp_path / "vault")

    assert ended.code == 0, ended.stderr
    assert "0 faces in them are coded besides" in ended.stdout
    assert query_rows(tmp_path / "vault", "select count(*) as n from faces") == [{"n": 0}]
    assert run_command("verify", tmp_path / "vault").code == 0
    assert any((tmp_path / "vault").glob("manifests/*/faces/*/*.json"))


def test_a_segment_whose_stored_streams_are_no_frames_with_faces_goes_to_quarantine(
    tmp_path: Path, pictures: Path, vault: Path
) -> None:
    shutil.copytree(vault, tmp_path / "vault")
    for path in (tmp_path / "vault").glob("packs/*/*.fvp"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x55
        path.write_bytes(data)
    for path in (tmp_path / "vault").glob("manifests/*/faces/*/*.json"):
        path.unlink()

    ended = compress(pictures, tmp_path / "vault")

    assert ended.code == 3
    (row, *_) = query_rows(tmp_path / "vault", "select category, reason, command from failures")
    assert row["category"] == "environment"
    assert "packs/" in str(row["reason"])
    assert "--codec dicm+hsc" in str(row["command"])
    assert "--face-quality 5 --face-score 0.4" in str(row["command"])
    assert open_store(str(tmp_path / "vault")).exists("vault.json")


@pytest.mark.parametrize(
    "option", [("--face-quality", "3"), ("--face-weights", "x"), ("--face-size", "0"), ("--face-fps", "1")]
)
def test_options_for_faces_are_for_codecs_with_faces(tmp_path: Path, pictures: Path, option: tuple[str, str]) -> None:
    for command in ("plan", "compress"):
        ended = run_command(command, pictures, tmp_path / "vault", *option)

        assert ended.code == 2
        name = option[0].removeprefix("--").replace("-", "_")
        assert f"{name} is for codecs that code faces (dicm+hsc), codec dicm does not" in ended.stderr
    assert not (tmp_path / "vault").exists()


@pytest.mark.parametrize(
    "option",
    [
        ("--face-quality", "9"),
        ("--face-quality", "0"),
        ("--face-score", "1.5"),
        ("--face-score", "0"),
        ("--face-size", "-1"),
        ("--face-size", "1.5"),
        ("--face-fps", "0"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, pictures: Path, option: tuple[str, str]) -> None:
    ended = compress(pictures, tmp_path / "vault", *option)

    assert ended.code == 2
    assert not (tmp_path / "vault").exists()


def test_a_checkpoint_of_the_wrong_codec_is_refused_as_weights_of_faces_and_of_frames(
    tmp_path: Path, pictures: Path
) -> None:
    dicm, hsc = save_toy_dicm(tmp_path / "dicm.safetensors"), save_toy_hsc(tmp_path / "hsc.safetensors")

    of_faces = compress(pictures, tmp_path / "vault", "--face-weights", dicm)
    of_frames = compress(pictures, tmp_path / "vault", "--weights", hsc)
    missing = compress(pictures, tmp_path / "vault", "--face-weights", tmp_path / "nothing")

    assert (of_faces.code, of_frames.code, missing.code) == (2, 2, 2)
    assert "dicm.safetensors must be a checkpoint of codec 'hsc', got 'dicm'" in of_faces.stderr
    assert "hsc.safetensors must be a checkpoint of codec 'dicm', got 'hsc'" in of_frames.stderr
    assert "nothing" in missing.stderr


def test_features_in_which_no_faces_can_be_found_are_refused(tmp_path: Path, pictures: Path) -> None:
    dicm = save_toy_dicm(tmp_path / "dicm.safetensors")

    ended = compress(pictures, tmp_path / "vault", "--weights", dicm, "--intra")

    assert ended.code == 2
    assert "compress with --codec dicm" in ended.stderr


def test_a_plan_says_that_faces_come_on_top(tmp_path: Path, pictures: Path) -> None:
    ended = run_command("plan", pictures, tmp_path / "vault", "--codec", "dicm+hsc")
    without = run_command("plan", pictures, tmp_path / "vault", "--codec", "dicm")

    row = CODECS["hsc"]
    assert row.frame_pixels is not None
    usual = round(row.typical_bpp[1][DEFAULT_QUALITY - 1] * row.frame_pixels / 8)
    assert f"Faces come on top, some {usual} bytes for each" in ended.stdout
    assert "Faces" not in without.stdout


def test_frames_as_small_as_a_face_and_smaller_go_through(tmp_path: Path) -> None:
    make_pictures(tmp_path / "tiny", sizes=[(16, 16), (1, 1), (5, 40)])

    ended = compress(tmp_path / "tiny", tmp_path / "vault")

    assert ended.code == 0, ended.stderr
    assert run_command("verify", tmp_path / "vault").code == 0
