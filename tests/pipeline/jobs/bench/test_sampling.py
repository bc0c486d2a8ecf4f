"""Tests of the frames that measurements are made on."""

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.sampling import locate_source, probe, read_batches
from tests.media import VideoSpec, make_pictures, make_video


def read_frames(path: Path, numbers: range) -> dict[int, Tensor]:
    batches = list(read_batches(probe(locate_source(str(path))), numbers))
    return {
        number: rgb_chw
        for batch in batches
        for number, rgb_chw in zip(batch.frame_numbers, batch.rgb_nchw, strict=True)
    }


def test_chosen_frames_are_those_of_the_whole_video(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=30, b_frames=2))

    whole = read_frames(clip, range(30))
    chosen = read_frames(clip, range(0, 30, 7))

    assert list(whole) == list(range(30))
    assert list(chosen) == [0, 7, 14, 21, 28]
    assert all(np.array_equal(rgb_chw, whole[number]) for number, rgb_chw in chosen.items())
    assert not np.array_equal(whole[0], whole[1])


def test_pictures_are_read_too(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures", sizes=[(40, 30)] * 2 + [(30, 40)] * 2)

    frames = read_frames(folder, range(1, 4))

    assert {number: tuple(rgb_chw.shape) for number, rgb_chw in frames.items()} == {
        1: (3, 30, 40),
        2: (3, 40, 30),
        3: (3, 40, 30),
    }


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.mp4").write_text("Dear archive,\n" * 50)

    with pytest.raises(PreflightError, match=r"letter\.mp4"):
        probe(locate_source(str(tmp_path / "letter.mp4")))


def test_several_sources_are_refused(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", VideoSpec(num_frames=1))
    make_video(tmp_path / "b.mp4", VideoSpec(num_frames=1))

    with pytest.raises(PreflightError, match="expected one video or folder of pictures, found 2"):
        locate_source(str(tmp_path))
