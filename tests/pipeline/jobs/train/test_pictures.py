"""Which pictures are found, held out, kept and decoded."""

from pathlib import Path

import numpy as np
import pytest

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.candidates import Candidate, Found, Split, find_candidates, split_candidates
from framevault.pipeline.jobs.train.pictures import Loaded, load_pictures
from framevault.pipeline.sources import expand_inputs
from framevault.workers.limits import DecodeLimits
from tests.media import VideoSpec, flip_bytes, make_pictures, make_video, test_pattern
from tests.pipeline.jobs.train.toy import tear
from tests.storage.s3_server import run_s3_server


def find(*inputs: Path | str, video_fps: float = 5, short_side: int = 64) -> Found:
    locations = expand_inputs([str(each) for each in inputs])
    return find_candidates(locations, video_fps=video_fps, short_side=short_side, limits=DecodeLimits())


def load(candidates: tuple[Candidate, ...], *, cache_dir: Path | None = None, num_threads: int = 1) -> Loaded:
    return load_pictures(
        candidates, cache_dir=cache_dir, num_threads=num_threads, limits=DecodeLimits(), on_progress=lambda _: None
    )


def split(found: Found, *, held_out: float = 0.3, num_measured: int = 100, room_bytes: int = 1 << 30) -> Split:
    return split_candidates(found.candidates, held_out=held_out, num_measured=num_measured, room_bytes=room_bytes)


def test_pictures_are_decoded_upright_and_scaled_down(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures", [(96, 80), (200, 100), (64, 64)])

    found = find(folder)
    loaded = load(found.candidates)

    assert loaded.pictures.names == ("pictures/000.png", "pictures/001.png", "pictures/002.png")
    assert [rgb.shape for rgb in loaded.pictures.rgb_hwc] == [(64, 77, 3), (64, 128, 3), (64, 64, 3)]
    np.testing.assert_array_equal(loaded.pictures.rgb_hwc[2], test_pattern(2, width=64, height=64))


def test_videos_give_so_many_frames_a_second_by_their_times(tmp_path: Path) -> None:
    video = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=25, fps=25))

    found = find(video, video_fps=5)
    loaded = load(found.candidates)

    assert [each.name for each in found.candidates] == [f"clip.mp4 at {n / 5:.2f} s" for n in range(5)]
    for number, rgb_hwc in enumerate(loaded.pictures.rgb_hwc):
        difference = rgb_hwc.astype(int) - test_pattern(5 * number, width=96, height=64)
        assert np.abs(difference).mean() < 8  # H.264 at its default quality


def test_a_subset_of_a_videos_frames_is_those_frames(tmp_path: Path) -> None:
    video = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=25, fps=25, b_frames=2))
    candidates = find(video, video_fps=25).candidates

    whole, part = load(candidates), load(candidates[3::4])

    assert part.pictures.names == whole.pictures.names[3::4]
    for one, other in zip(part.pictures.rgb_hwc, whole.pictures.rgb_hwc[3::4], strict=True):
        np.testing.assert_array_equal(one, other)


def test_threads_change_nothing(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures", [(64 + n, 64) for n in range(9)])
    candidates = find(folder).candidates

    one, three = load(candidates), load(candidates, num_threads=3)

    assert one.pictures.names == three.pictures.names
    assert all(map(np.array_equal, one.pictures.rgb_hwc, three.pictures.rgb_hwc))


def test_a_cache_folder_gives_the_same_pictures_without_the_sources(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures", [(96, 80), (64, 64)])
    tear(folder / "000.png", folder / "002.png")
    candidates = find(folder).candidates
    first = load(candidates, cache_dir=tmp_path / "cache")
    for path in folder.iterdir():
        path.unlink()

    again = load(candidates, cache_dir=tmp_path / "cache")

    assert again.pictures.names == first.pictures.names == ("pictures/000.png", "pictures/001.png")
    assert all(map(np.array_equal, first.pictures.rgb_hwc, again.pictures.rgb_hwc))
    assert again.unreadable == first.unreadable
    assert [each.name for each in again.unreadable] == ["pictures/002.png"]


def test_a_cache_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    candidates = find(make_pictures(tmp_path / "pictures", [(64, 64)] * 2)).candidates
    load(candidates, cache_dir=tmp_path / "cache")
    (index,) = (tmp_path / "cache").glob("*.json")
    (pixels,) = (tmp_path / "cache").glob("*.rgb")
    index.unlink()
    pixels.write_bytes(b"")

    again = load(candidates, cache_dir=tmp_path / "cache")

    np.testing.assert_array_equal(again.pictures.rgb_hwc[1], test_pattern(1, width=64, height=64))


def test_damage_costs_the_picture_or_segment_that_has_it_and_no_other(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures", [(64, 64)] * 3)
    tear(folder / "001.png", folder / "001.png")
    video = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=25, codec="mpeg4", options=(("g", "8"),)))
    flip_bytes(video, start=video.stat().st_size // 2, count=400)

    found = find(folder, video)
    loaded = load(found.candidates)

    assert "pictures/000.png" in loaded.pictures.names
    assert "pictures/002.png" in loaded.pictures.names
    assert loaded.unreadable[0].name == "pictures/001.png"
    assert "can't be decoded" in loaded.unreadable[0].reason
    assert {each.name for each in loaded.unreadable[1:]} <= {each.name for each in found.candidates[3:]}
    assert "clip.mp4" in loaded.unreadable[-1].name


def test_what_is_too_small_is_named(tmp_path: Path) -> None:
    found = find(make_pictures(tmp_path / "pictures", [(20, 400), (64, 64)]))

    assert [each.name for each in found.unreadable] == ["pictures/000.png"]
    assert found.unreadable[0].reason == "expected at least 32 pixels a side, got 20x400"


def test_the_same_pictures_are_held_out_whatever_else_there_is(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures", [(64, 64)] * 40)
    few = {each.name for each in split(find(folder)).held_out}
    make_pictures(tmp_path / "others", [(64, 64)] * 20)

    many = {each.name for each in split(find(folder, tmp_path / "others")).held_out}

    assert 4 <= len(few) <= 22  # 12 of 40 expected; the binomial's tails beyond are below 0.002
    assert few == {name for name in many if name.startswith("pictures/")}


def test_nothing_held_out_is_trained_on_nor_its_neighbours_in_time(tmp_path: Path) -> None:
    video = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=120, fps=2))
    parts = split(find(video, video_fps=2))

    assert {each.group for each in parts.training}.isdisjoint(each.group for each in parts.held_out)
    assert len(parts.training) + len(parts.held_out) == 120
    assert len(parts.held_out) % 20 == 0  # whole blocks of ten seconds


def test_at_least_one_is_held_out_and_at_least_one_is_not(tmp_path: Path) -> None:
    found = find(make_pictures(tmp_path / "pictures", [(64, 64)] * 2))

    for share in (0.001, 0.5):
        parts = split(found, held_out=share)

        assert (len(parts.training), len(parts.held_out)) == (1, 1)


def test_one_picture_can_only_be_trained_on_if_nothing_is_to_be_held_out(tmp_path: Path) -> None:
    found = find(make_pictures(tmp_path / "pictures", [(64, 64)]))

    assert len(split(found, held_out=0).training) == 1
    with pytest.raises(PreflightError, match="held_out: 0 trains without measuring"):
        split(found)


def test_what_has_no_room_is_counted_and_spread(tmp_path: Path) -> None:
    found = find(make_pictures(tmp_path / "pictures", [(64, 64)] * 40))

    parts = split(found, held_out=0, room_bytes=10 * 3 * 64 * 64)

    assert (len(parts.training), parts.num_without_room) == (10, 30)
    numbers = [int(each.name[9:12]) for each in parts.training]
    assert numbers == sorted(numbers)
    assert numbers[0] < 20 < numbers[-1]


def test_pictures_and_videos_in_a_bucket_are_found_and_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    folder = make_pictures(tmp_path / "data", [(64, 64)] * 2)
    make_video(folder / "clip.mp4", VideoSpec(num_frames=5, fps=5))
    with run_s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem().put(str(folder), f"{server.url}/data", recursive=True)

        loaded = load(find(f"{server.url}/data").candidates)

    s3fs.S3FileSystem.clear_instance_cache()
    assert set(loaded.pictures.names) >= {"data/000.png", "data/001.png", "clip.mp4 at 0.40 s"}
    assert len(loaded.pictures) == 7
    assert loaded.unreadable == ()
