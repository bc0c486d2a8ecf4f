"""Which frames are looked through for faces."""

import pytest

from framevault.configs.run import CompressJob
from framevault.pipeline.jobs.settings import face_search
from framevault.workers.face_search import USUAL_SCORE, FaceSearch


def test_every_frame_is_looked_through_unless_told_otherwise() -> None:
    assert FaceSearch().chosen([5, 6, 9], time_base=(1, 10)) == [True] * 3


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(10.0, [1, 1, 1, 1, 1, 1, 1]), (5.0, [1, 0, 1, 0, 1, 0, 1]), (1.0, [1, 0, 0, 0, 0, 0, 0]), (0.01, [1] + 6 * [0])],
)
def test_the_first_frame_at_or_after_each_tick_is_looked_through(fps: float, expected: list[int]) -> None:
    chosen = FaceSearch(fps=fps).chosen(range(0, 700, 100), time_base=(1, 1000))

    assert chosen == [bool(each) for each in expected]


def test_ticks_go_through_the_whole_video_wherever_it_is_cut() -> None:
    search = FaceSearch(fps=2.5)
    pts = list(range(-3000, 3000, 400))
    whole = search.chosen(pts, time_base=(1, 10_000))
    cut = search.chosen(pts[:7], time_base=(1, 10_000)) + search.chosen(pts[7:], time_base=(1, 10_000))

    # Of each segment, the first frame is looked through as well.
    assert [number for number, (one, other) in enumerate(zip(whole, cut, strict=True)) if one != other] == [7]
    assert sum(whole) == 2


def test_frames_further_apart_than_the_ticks_are_all_looked_through() -> None:
    assert FaceSearch(fps=30.0).chosen([0, 1, 2], time_base=(1, 5)) == [True] * 3


def test_its_name_says_what_it_is() -> None:
    assert FaceSearch().text == "faces from 0.4"
    assert FaceSearch(score=0.55, fps=2.0).text == "faces from 0.55 at fps=2"
    assert FaceSearch(size_pixels=24).text == "faces from 0.4 and 24 pixels"
    assert FaceSearch(size_pixels=24, fps=2.0).text == "faces from 0.4 and 24 pixels at fps=2"


def test_the_usual_search_is_that_of_the_settings() -> None:
    job = CompressJob.model_validate({"inputs": ["a.mp4"], "vault": "v"})

    assert job.face_score == USUAL_SCORE
    assert face_search(job) == FaceSearch()
