"""`framevault compress` on real files, through the command line."""

import shutil
from pathlib import Path

import pytest

from tests.media import VideoSpec, flip_bytes, make_pictures, make_video
from tests.pipeline.command_line import query_rows, run_command, vault_contents


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Forty frames in five GOPs of eight."""
    return make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=40))


def test_every_frame_of_a_video_is_stored_and_verified(tmp_path: Path, clip: Path) -> None:
    ended = run_command("compress", clip, tmp_path / "vault", "--codec", "raw")

    assert ended.code == 0, ended.stderr
    rows = query_rows(
        tmp_path / "vault",
        "select video, count(*) as n, min(time_s) as t, max(video_frame) as last from frames group by 1",
    )
    assert rows == [{"video": "clip.mp4", "n": 40, "t": 0.0, "last": 39}]
    verified = run_command("verify", tmp_path / "vault")
    assert verified.code == 0
    assert verified.stdout.startswith("clean: ")


def test_running_again_does_no_work_twice(tmp_path: Path, clip: Path) -> None:
    run_command("compress", clip, tmp_path / "vault", "--codec", "raw")
    before = vault_contents(tmp_path / "vault")

    ended = run_command("compress", clip, tmp_path / "vault", "--codec", "raw")

    assert ended.code == 0
    assert "0 segments (0 frames) encoded now, 1 were there" in ended.stdout
    assert vault_contents(tmp_path / "vault") == before


def test_the_same_bytes_under_two_names_are_stored_once_and_found_by_both(tmp_path: Path, clip: Path) -> None:
    copy = shutil.copy(clip, tmp_path / "copy.mp4")

    ended = run_command("compress", clip, copy, tmp_path / "vault", "--codec", "raw")

    assert ended.code == 0, ended.stderr
    assert query_rows(tmp_path / "vault", "select count(*) as n from videos") == [{"n": 1}]
    assert query_rows(tmp_path / "vault", "select video from names order by 1") == [
        {"video": "clip.mp4"},
        {"video": "copy.mp4"},
    ]


def test_a_later_run_adds_a_name_to_a_stored_video(tmp_path: Path, clip: Path) -> None:
    run_command("compress", clip, tmp_path / "vault", "--codec", "raw")
    later = shutil.copy(clip, tmp_path / "later.mp4")

    ended = run_command("compress", later, tmp_path / "vault", "--codec", "raw")

    assert ended.code == 0
    assert len(query_rows(tmp_path / "vault", "select video from names")) == 2


def test_fps_keeps_one_frame_a_tick(tmp_path: Path, clip: Path) -> None:
    ended = run_command("compress", clip, tmp_path / "vault", "--codec", "raw", "--fps", "5")

    assert ended.code == 0
    rows = query_rows(tmp_path / "vault", "select time_s from frames order by 1")
    assert [row["time_s"] for row in rows] == pytest.approx([k / 5 for k in range(8)])


def test_a_folder_of_pictures_is_a_video_named_after_it(tmp_path: Path) -> None:
    make_pictures(tmp_path / "holiday", sizes=[(40, 30)] * 3 + [(30, 40)] * 2)

    ended = run_command("compress", tmp_path / "holiday", tmp_path / "vault", "--codec", "raw")

    assert ended.code == 0, ended.stderr
    rows = query_rows(tmp_path / "vault", "select video, num_frames, num_segments from videos")
    assert rows == [{"video": "holiday", "num_frames": 5, "num_segments": 2}]


def test_a_turned_video_is_stored_upright(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "turned.mp4", VideoSpec(width=96, height=64, num_frames=3, rotation_degrees=90))

    run_command("compress", clip, tmp_path / "vault", "--codec", "raw")

    assert query_rows(tmp_path / "vault", "select width, height from videos") == [{"width": 64, "height": 96}]


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (4096, 16)])
@pytest.mark.parametrize("codec", ["raw", "dicm"])
def test_odd_sizes_are_stored(tmp_path: Path, size: tuple[int, int], codec: str) -> None:
    width, height = size
    spec = VideoSpec(width=width, height=height, num_frames=2, codec="ffv1", pixel_format="yuv444p")
    clip = make_video(tmp_path / "odd.mkv", spec)

    ended = run_command("compress", clip, tmp_path / "vault", "--codec", codec)

    assert ended.code == 0, ended.stderr
    assert query_rows(tmp_path / "vault", "select count(*) as n from frames") == [{"n": 2}]


def test_what_is_no_video_goes_to_quarantine_and_the_rest_goes_on(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "letter.mp4").write_text("Dear archive,\n" * 50)
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{clip}\n")

    ended = run_command(
        "compress", tmp_path / "empty.mp4", tmp_path / "letter.mp4", tmp_path / "list.m3u8", clip, tmp_path / "vault",
        "--codec", "raw",
    )  # fmt: skip

    assert ended.code == 3
    assert "3 sources can't be read" in ended.stdout
    failures = query_rows(tmp_path / "vault", "select video, category from failures order by 1")
    assert failures == [
        {"video": "empty.mp4", "category": "input"},
        {"video": "letter.mp4", "category": "input"},
        {"video": "list.m3u8", "category": "input"},
    ]
    assert query_rows(tmp_path / "vault", "select video, num_frames from videos") == [
        {"video": "clip.mp4", "num_frames": 40}
    ]
    assert run_command("verify", tmp_path / "vault").code == 0


def test_a_damaged_video_keeps_the_segments_that_decode_whole(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "damaged.mp4", VideoSpec(num_frames=64, width=160, height=120))
    config = tmp_path / "job.yaml"
    config.write_text("segment_frames: 8\ncodec: raw\n")
    flip_bytes(clip, start=clip.stat().st_size // 2, count=60)

    first = run_command("compress", clip, tmp_path / "vault", "--config", config)
    again = run_command("compress", clip, tmp_path / "vault", "--config", config)

    assert first.code == 3
    (video,) = query_rows(tmp_path / "vault", "select is_complete, num_frames, num_missing_segments from videos")
    assert video["is_complete"] is False
    assert isinstance(video["num_frames"], int)
    assert 0 < video["num_frames"] < 64
    (failure, *_) = query_rows(tmp_path / "vault", "select video, category, reason, command from failures")
    assert failure["category"] == "input"
    assert "damaged.mp4" in str(failure["reason"])
    assert str(failure["command"]).startswith("framevault compress ")
    assert again.code == 3
    assert "0 segments (0 frames) encoded now" in again.stdout
    assert run_command("verify", tmp_path / "vault").code == 0


def test_a_settings_file_is_read_and_options_win_over_it(tmp_path: Path, clip: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text("codec: dicm\nfps: 5\n")

    ended = run_command("compress", clip, tmp_path / "vault", "--config", config, "--codec", "raw")

    assert ended.code == 0
    rows = query_rows(tmp_path / "vault", "select codec, num_frames from videos")
    assert rows == [{"codec": "raw", "num_frames": 8}]


def test_usage_errors_end_with_code_2_and_say_what_was_expected(tmp_path: Path, clip: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text("qualty: 3\n")
    (tmp_path / "file").write_text("no vault")
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    cases = [
        (("compress", clip), "expected at least one source and then the vault"),
        (
            ("compress", clip, tmp_path / "v", "--codec", "h264"),
            "should be one of dicm, dicm+hsc, hsc, raw, got 'h264'",
        ),
        (
            ("compress", clip, tmp_path / "v", "--config", config),
            "qualty: unknown key; did you mean quality or face_quality?",
        ),
        (("compress", tmp_path / "none.mp4", tmp_path / "v"), "none.mp4: no such file or folder"),
        (("compress", clip, tmp_path / "file"), "file"),
        (("compress", clip, other), "letter.txt"),
        (
            ("compress", clip, "memory://v", "--executor", "ray"),
            "executor ray needs a vault that other processes can reach",
        ),
        (("info", tmp_path / "nowhere"), "nowhere"),
        (("query", tmp_path / "nowhere", "select 1"), "nowhere"),
    ]

    for arguments, message in cases:
        ended = run_command(*arguments)
        assert (ended.code, message in ended.stderr) == (2, True), (arguments, ended)

    assert not (tmp_path / "v").exists()
    assert (other / "letter.txt").read_text() == "mine"


def test_plan_counts_what_is_left_and_writes_nothing(tmp_path: Path, clip: Path) -> None:
    vault = tmp_path / "vault"

    before = run_command("plan", clip, vault, "--codec", "raw", "--json")
    assert not vault.exists()
    run_command("compress", clip, vault, "--codec", "raw")
    contents = vault_contents(vault)
    after = run_command("plan", clip, vault, "--codec", "raw", "--json")

    assert '"segments": 1, "segments_stored": 0, "frames": 40' in before.stdout
    assert '"segments": 0, "segments_stored": 1, "frames": 0' in after.stdout
    assert vault_contents(vault) == contents


def test_a_vault_in_memory_can_be_filled_and_asked(tmp_path: Path, clip: Path) -> None:
    vault = f"memory://{tmp_path.name}"

    ended = run_command("compress", clip, vault, "--codec", "raw")

    assert ended.code == 0, ended.stderr
    assert query_rows(vault, "select count(*) as n from frames") == [{"n": 40}]
