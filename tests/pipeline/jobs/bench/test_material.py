"""Tests of the frames that codecs are compared on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.material import Material, read_pictures, read_video, rgb_frames, spread
from framevault.pipeline.jobs.bench.sampling import locate_source, probe
from framevault.pipeline.probing import ProbedSource
from tests.media import VideoSpec, make_pictures, make_video
from tests.media import test_pattern as draw_pattern


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ProbedSource:
    """Twenty frames of 97 x 65 pixels, lossless."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    spec = VideoSpec(num_frames=20, width=97, height=65, codec="ffv1", pixel_format="bgr0", colour_range=0)
    return probe(locate_source(str(make_video(path, spec))))


def read(clip: ProbedSource, targets: dict[int, str], **changes: object) -> Material[str]:
    settings = {"num_frames": 20, "frame_step": 1, "score_step": 1, "size": None, "segment_frames": 8} | changes
    return read_video(clip, targets, **settings)  # type: ignore[arg-type]  # the tests' own words


def frame_numbers(material: Material[str]) -> list[int]:
    """Which frames these are, by their pixels."""
    drawn = [draw_pattern(number, width=97, height=65)[:64, :96].astype(int) for number in range(20)]
    frames = list(rgb_frames(batch for run in material.runs for batch in run))
    return [int(np.argmin([np.abs(frame - each).mean() for each in drawn])) for frame in frames]


def test_a_video_is_cut_into_segments_with_even_sides(clip: ProbedSource) -> None:
    material = read(clip, {})

    assert [sum(map(len, run)) for run in material.runs] == [8, 8, 4]
    assert {tuple(batch.shape[1:]) for run in material.runs for batch in run} == {(3, 64, 96)}
    assert frame_numbers(material) == list(range(20))
    assert material.num_pixels == 20 * 64 * 96
    assert material.fps == 25
    assert (material.num_frames, material.num_scored) == (20, 0)
    assert {frame.source_size for frame in material.frames} == {(97, 65)}


def test_frames_are_left_out_and_the_rate_goes_down(clip: ProbedSource) -> None:
    material = read(clip, {}, frame_step=5, num_frames=16, segment_frames=3)

    assert frame_numbers(material) == [0, 5, 10, 15]
    assert material.fps == 5
    assert [sum(map(len, run)) for run in material.runs] == [3, 1]


def test_labelled_frames_that_are_far_enough_apart_are_scored(clip: ProbedSource) -> None:
    labelled = {number: f"frame {number}" for number in (0, 2, 4, 5, 6, 11, 12, 99)}

    def scored(**changes: object) -> list[str]:
        return [frame.target for frame in read(clip, labelled, **changes).frames if frame.target is not None]

    assert scored() == [labelled[number] for number in (0, 2, 4, 5, 6, 11, 12)]
    assert scored(score_step=3) == [labelled[number] for number in (0, 4, 11)]
    assert scored(frame_step=2, score_step=3) == [labelled[number] for number in (0, 4, 12)]


def test_frames_are_scaled_for_everyone(clip: ProbedSource) -> None:
    material = read(clip, {}, size=(64, 66))

    (rgb_chw, *_) = material.runs[0][0]
    assert rgb_chw.shape == (3, 66, 64)
    expected = np.asarray(
        Image.fromarray(draw_pattern(0, width=97, height=65)).resize((64, 66), Image.Resampling.BOX), int
    )
    assert np.abs(rgb_chw.permute(1, 2, 0).numpy() - expected).mean() < 3
    assert material.size == (64, 66)


def test_pictures_of_one_size_come_together(tmp_path: Path) -> None:
    sizes = [(100, 70), (64, 64), (101, 71), (64, 65), (100, 70)]
    probed = probe(locate_source(str(make_pictures(tmp_path / "pictures", sizes=sizes))))

    material = read_pictures(probed, list(range(5)), size=None)

    assert [torch.cat(run).shape for run in material.runs] == [(2, 3, 64, 64), (3, 3, 70, 100)]
    assert [(frame.target, frame.source_size) for frame in material.frames] == [
        (1, (64, 64)),
        (3, (64, 65)),
        (0, (100, 70)),
        (2, (101, 71)),
        (4, (100, 70)),
    ]
    assert not material.is_video


def test_frames_that_other_codecs_cannot_take_are_named(tmp_path: Path) -> None:
    small = probe(locate_source(str(make_pictures(tmp_path / "small", sizes=[(64, 64), (80, 63)]))))
    clip = probe(locate_source(str(make_video(tmp_path / "clip.mp4", VideoSpec(width=62, num_frames=1)))))

    with pytest.raises(PreflightError, match=r"picture 1 of .*small: expected 64x64 pixels or more, got 80x62"):
        read_pictures(small, [0, 1], size=None)
    with pytest.raises(PreflightError, match=r"clip.mp4: expected 64x64 pixels or more, got 62x64"):
        read(clip, {})


def test_items_are_spread_evenly() -> None:
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), 4) == spread(range(3), None) == [0, 1, 2]
