"""`framevault restore` on raw vaults: what comes out is what went in, at its own time."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from framevault.pipeline.jobs.demo import find_clip
from tests.media import VideoSpec, flip_bytes, make_pictures, make_video
from tests.pipeline.command_line import Ended, query_rows, run_command

TICKS = (0, 1, 3, 4, 9, 10, 17, 18)
"""Times of the clip's frames, in 25ths of a second: no two gaps in a row are the same."""

SIZES = [(40, 24)] * 5
"""Of the pictures of the vault's second source."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw vault of a clip with a variable frame rate, and of a folder of pictures."""
    folder = tmp_path_factory.mktemp("restore")
    clip = make_video(folder / "clip.mp4", VideoSpec(width=64, height=48, gop=3, frame_ticks=TICKS))
    make_pictures(folder / "stills", SIZES)
    (folder / "job.yaml").write_text("codec: raw\nsegment_frames: 3\n")
    ended = run_command("compress", clip, folder / "stills", folder / "vault", "--config", folder / "job.yaml")
    assert ended.code == 0, ended.stderr
    return folder


def restore(folder: Path, out: Path, *arguments: str | Path) -> Ended:
    return run_command("restore", folder / "vault", out, *arguments)


def files_in(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.array(Image.open(path))


def decode(path: Path) -> tuple[list[Fraction], list[NDArray[np.uint8]]]:
    """Return the times in seconds and RGB pictures of a video."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert all(frame.pts is not None and frame.time_base is not None for frame in frames)
    times = [(frame.pts or 0) * (frame.time_base or Fraction()) for frame in frames]
    return times, [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]


def test_pictures_are_the_stored_ones_to_the_pixel(folder: Path, tmp_path: Path) -> None:
    ended = restore(folder, tmp_path / "out", "--where", "video = 'stills'")

    assert ended.code == 0, ended.stderr
    names = [f"stills/{number:06d}_{number}.png" for number in range(5)]
    assert files_in(tmp_path / "out") == ["restore.json", *names]
    for number, name in enumerate(names):
        assert np.array_equal(pixels(tmp_path / "out" / name), pixels(folder / "stills" / f"{number:03d}.png"))
    assert "5 frames restored" in ended.stdout


def test_pictures_are_named_by_the_source_s_pts(folder: Path, tmp_path: Path) -> None:
    with av.open(str(folder / "clip.mp4")) as container:
        expected = [frame.pts for frame in container.decode(video=0)]

    ended = restore(folder, tmp_path / "out", "--where", "video = 'clip.mp4'")

    assert ended.code == 0, ended.stderr
    assert files_in(tmp_path / "out")[:-1] == [f"clip.mp4/{n:06d}_{pts}.png" for n, pts in enumerate(expected)]


def test_a_restored_video_has_the_times_of_its_source(folder: Path, tmp_path: Path) -> None:
    ended = restore(folder, tmp_path / "out", "--as", "video", "--where", "video = 'clip.mp4'")

    assert ended.code == 0, ended.stderr
    assert files_in(tmp_path / "out") == ["clip.mp4", "restore.json"]
    assert decode(tmp_path / "out" / "clip.mp4")[0] == decode(folder / "clip.mp4")[0]


def test_a_video_that_loses_nothing_has_the_stored_pixels(folder: Path, tmp_path: Path) -> None:
    ended = restore(folder, tmp_path / "out", "--as", "video", "--video-codec", "ffv1")
    restore(folder, tmp_path / "pictures")

    assert ended.code == 0, ended.stderr
    for video, source in (("clip.mp4", "clip.mp4"), ("stills.mp4", "stills")):
        _, frames = decode(tmp_path / "out" / video)
        names = files_in(tmp_path / "pictures" / source)
        assert len(frames) == len(names)
        for frame_hwc, name in zip(frames, names, strict=True):
            assert np.array_equal(frame_hwc, pixels(tmp_path / "pictures" / source / name))


def test_a_part_of_a_video_can_start_at_zero(folder: Path, tmp_path: Path) -> None:
    where = "video = 'clip.mp4' and time_s >= 0.16"

    restore(folder, tmp_path / "kept", "--as", "video", "--where", where)
    restore(folder, tmp_path / "moved", "--as", "video", "--where", where, "--start-at-zero")

    kept, _ = decode(tmp_path / "kept" / "clip.mp4")
    moved, _ = decode(tmp_path / "moved" / "clip.mp4")
    assert kept == [Fraction(tick, 25) for tick in TICKS[3:]]
    assert moved == [time - kept[0] for time in kept]


def test_a_real_clip_comes_back_with_its_times_and_looks(tmp_path: Path) -> None:
    compressed = run_command("compress", find_clip(), tmp_path / "vault", "--codec", "raw", "--fps", "1")
    assert compressed.code == 0, compressed.stderr

    ended = restore(tmp_path, tmp_path / "out", "--as", "video", "--where", "time_s < 4")
    restore(tmp_path, tmp_path / "pictures", "--where", "time_s < 4")

    assert ended.code == 0, ended.stderr
    times, frames = decode(tmp_path / "out" / "bikes.mp4")
    assert times == [0, 1, 2, 3]
    for frame_hwc, name in zip(frames, files_in(tmp_path / "pictures" / "bikes.mp4"), strict=True):
        expected_hwc = pixels(tmp_path / "pictures" / "bikes.mp4" / name)
        # 4:2:0 and H.264 at a low rate factor: near, not equal.
        assert np.abs(frame_hwc.astype(float) - expected_hwc).mean() < 3


def test_a_sheet_shows_chosen_frames_in_order(folder: Path, tmp_path: Path) -> None:
    ended = restore(folder, tmp_path / "sheet.png", "--as", "sheet", "--where", "video = 'stills'", "--tile-side", "40")

    assert ended.code == 0, ended.stderr
    sheet_hwc = pixels(tmp_path / "sheet.png")
    # Three columns of 40 pixels, 4 apart; each row has a line of text.
    for number in range(5):
        left, top = 4 + number % 3 * 44, 4 + number // 3 * 44
        tile_hwc = sheet_hwc[top : top + 24, left : left + 40]
        assert np.array_equal(tile_hwc, pixels(folder / "stills" / f"{number:03d}.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_sheet_takes_frames_from_everywhere_where_there_are_too_many(folder: Path, tmp_path: Path) -> None:
    ended = restore(folder, tmp_path / "sheet.png", "--as", "sheet", "--tiles", "4")

    assert ended.code == 0, ended.stderr
    assert "4 frames restored" in ended.stdout
    assert "9 more have no place on the sheet" in ended.stdout


def test_the_same_command_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    restore(folder, tmp_path / "out")
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in files_in(tmp_path / "out")}
    (tmp_path / "out" / "stills" / "000003_3.png").unlink()
    (tmp_path / "out" / ".tmp").mkdir()
    (tmp_path / "out" / ".tmp" / "half.png").write_bytes(b"a killed writer's")

    again = restore(folder, tmp_path / "out", "--json")

    summary = json.loads(again.stdout.splitlines()[-1])
    assert (again.code, summary["num_frames"], summary["num_there"]) == (0, 1, 12)
    after = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in files_in(tmp_path / "out")}
    assert [name for name in before if before[name] != after.get(name)] == ["stills/000003_3.png"]
    assert not (tmp_path / "out" / ".tmp").exists()


def test_files_of_other_settings_are_never_mixed_with(folder: Path, tmp_path: Path) -> None:
    restore(folder, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("Dear archive")

    video = restore(folder, tmp_path / "out", "--as", "video")
    full = restore(folder, tmp_path / "full")

    assert (video.code, full.code) == (2, 2)
    assert "were restored with kind 'frames' instead of 'video'" in video.stderr
    assert "expected an empty folder, it holds 'letter.txt'" in full.stderr
    assert files_in(tmp_path / "full") == ["letter.txt"]


def test_a_sheet_that_is_there_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sheet.png").write_bytes(b"mine")

    ended = restore(folder, tmp_path / "sheet.png", "--as", "sheet")

    assert ended.code == 2
    assert (tmp_path / "sheet.png").read_bytes() == b"mine"


def test_a_damaged_frame_costs_itself_and_is_said(folder: Path, tmp_path: Path) -> None:
    (pack,) = query_rows(
        folder / "vault", "select segment_id from segments where video = 'stills' and segment_number = 0"
    )
    segment_id = str(pack["segment_id"])
    path = folder / "vault" / "packs" / segment_id[:2] / f"{segment_id}.fvp"
    whole = path.read_bytes()
    try:
        flip_bytes(path, start=len(whole) // 2, count=1)
        ended = restore(folder, tmp_path / "out")
    finally:
        path.write_bytes(whole)

    assert ended.code == 3
    assert "1 could not be decoded" in ended.stdout
    assert "stills: segment" in ended.stderr
    assert len(files_in(tmp_path / "out")) == 13


def test_features_are_no_pictures(folder: Path, tmp_path: Path) -> None:
    run_command("compress", folder / "stills", tmp_path / "vault")

    ended = restore(tmp_path, tmp_path / "out")

    assert ended.code == 2
    assert "video stills: it was compressed with codec dicm, which keeps features for machines" in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--where", "time_s < -1"), "no frame fits 'time_s < -1'"),
        (("--slices", "2"), "slices are for codec hsc"),
        (("--edit", "smile=1"), "edits are for codec hsc"),
        (("--edit", "smile"), "an edit must be like smile=+1.5, got 'smile'"),
        (("--edit", "smile=nan"), "an edit must be like smile=+1.5"),
        (("--slices", "some"), "got 'some'"),
        (("--as", "sheet"), "must be a file that ends in .png"),
    ],
)
def test_what_can_not_be_is_a_usage_error(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = restore(folder, tmp_path / "out", *arguments)

    assert ended.code == 2
    assert message in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_url_is_no_output_folder(folder: Path) -> None:
    ended = run_command("restore", folder / "vault", "s3://bucket/out")

    assert ended.code == 2
    assert "must be a path on this machine" in ended.stderr


def test_videos_of_one_name_get_folders_of_their_own(folder: Path, tmp_path: Path) -> None:
    run_command("compress", folder / "clip.mp4", tmp_path / "vault", "--codec", "raw")
    run_command("compress", folder / "clip.mp4", tmp_path / "vault", "--codec", "raw", "--fps", "5")

    ended = restore(tmp_path, tmp_path / "out", "--as", "video")

    assert ended.code == 0, ended.stderr
    names = files_in(tmp_path / "out")[:-1]
    assert len(names) == 2
    assert all(name.startswith("clip.mp4-") and name.endswith(".mp4") for name in names)


@pytest.mark.ray
@pytest.mark.slow
def test_local_and_ray_restore_the_same_files(ray_cluster: None, folder: Path, tmp_path: Path) -> None:
    for executor in ("local", "ray"):
        ended = restore(folder, tmp_path / executor, "--executor", executor, "--device", "cpu", "--workers", "2")
        assert ended.code == 0, ended.stderr

    names = files_in(tmp_path / "local")
    assert files_in(tmp_path / "ray") == names
    assert all((tmp_path / "local" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes() for name in names)
