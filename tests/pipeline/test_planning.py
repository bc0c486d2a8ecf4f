"""How sources are cut into segments, on tables written by hand and on real files."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from framevault.pipeline.planning import PlanSettings, Sampling, plan_source, plan_sources, sample_frames
from framevault.pipeline.probing import PictureTable, ProbedSource, SourceProber
from framevault.pipeline.sources import expand_inputs
from framevault.workers.errors import SourceUnavailableError, UnreadableSourceError
from framevault.workers.packets import Keyframe, PacketTable
from framevault.workers.tasks import PictureFile, Segment, SourceInfo
from tests.media import VideoSpec, make_pictures, make_video

INFO = SourceInfo(
    video_id="a" * 32,
    url="/clips/a.mp4",
    name="a.mp4",
    kind="video",
    size_bytes=1000,
    version_token="1000-1",
    container="mov",
    codec="h264",
    width=96,
    height=64,
    pixel_format="yuv420p",
    time_base=(1, 25),
    rotation_degrees=90,
    sample_aspect_ratio=(1, 1),
    colour_matrix="unspecified",
    colour_range="limited",
    fps=25.0,
    duration_s=1.0,
    num_frames=25,
)


def source(pts: list[int], *, keys: list[int], hidden: tuple[int, ...] = (), num_missing: int = 0) -> ProbedSource:
    """A source whose packets have these pts, in decoding order."""
    table = PacketTable(
        pts=tuple(pts),
        hidden=hidden,
        keyframes=tuple(Keyframe(packet_number=n, pts=pts[n], dts=n, position=100 * n, size=50) for n in keys),
        num_missing=num_missing,
        num_undecodable=0,
    )
    return ProbedSource(info=INFO, table=table)


def plan(probed: ProbedSource, *, segment_frames: int = 4, fps: float | None = None) -> list[Segment]:
    settings = PlanSettings(codec_fingerprint="c" * 64, sampling=Sampling(fps=fps), segment_frames=segment_frames)
    return plan_source(probed, settings=settings)


def test_segments_are_cut_at_the_first_keyframe_after_the_target() -> None:
    segments = plan(source(list(range(12)), keys=[0, 3, 6, 9]))

    assert [segment.frame_pts for segment in segments] == [tuple(range(6)), tuple(range(6, 12))]
    assert [segment.number for segment in segments] == [0, 1]
    assert [segment.is_last for segment in segments] == [False, True]


def test_without_a_further_keyframe_there_is_one_segment() -> None:
    assert len(plan(source(list(range(100)), keys=[0]))) == 1


def test_leading_pictures_belong_to_the_segment_before() -> None:
    # Decoding order: I0 P2 b1 | I5 b3 b4 P6
    probed = source([0, 2, 1, 5, 3, 4, 6], keys=[0, 3])

    first, second = plan(probed, segment_frames=1)

    assert (first.frame_pts, second.frame_pts) == ((0, 1, 2, 3, 4), (5, 6))
    assert first.packets is not None
    assert (first.packets.frame_packets, first.packets.num_packets) == ((0, 2, 1, 4, 5), 6)
    assert second.packets is not None
    assert (second.packets.frame_packets, second.packets.num_packets) == ((0, 3), 4)
    assert (first.packets.num_leading_packets, second.packets.num_leading_packets) == (0, 2)
    assert (second.packets.start_position, second.packets.start_size, second.packets.start_dts) == (300, 50, 3)


def test_nothing_is_cut_where_a_frame_shown_later_was_coded_before() -> None:
    segments = plan(source([0, 1, 9, 2, 3, 10, 11], keys=[0, 3]), segment_frames=1)

    assert len(segments) == 1


def test_hidden_packets_are_in_no_segment() -> None:
    segments = plan(source(list(range(6)), keys=[0, 3], hidden=(0, 1)), segment_frames=1)

    assert [segment.frame_pts for segment in segments] == [(2,), (3, 4, 5)]


def test_missing_frames_get_a_segment_of_their_own() -> None:
    segments = plan(source(list(range(10)), keys=[0, 6], num_missing=4), segment_frames=100)

    assert [segment.frame_pts for segment in segments] == [tuple(range(6)), tuple(range(6, 10))]


def test_the_union_of_all_segments_is_every_frame_once() -> None:
    probed = source([0, 2, 1, 5, 3, 4, 6, 9, 7, 8, 10, 11], keys=[0, 3, 7])

    for segment_frames in range(1, 13):
        pts = [time for segment in plan(probed, segment_frames=segment_frames) for time in segment.frame_pts]
        assert pts == list(range(12))


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(None, 50), (25, 50), (100, 50), (12.5, 25), (5, 10), (1, 2), (0.5, 1), (29.97, 50)],
)
def test_sampling_takes_one_frame_a_tick(fps: float | None, expected: int) -> None:
    taken = sample_frames(range(50), time_base=Fraction(1, 25), sampling=Sampling(fps=fps))

    assert len(taken) == expected


def test_a_tick_takes_the_first_frame_at_or_after_it_and_a_frame_is_taken_once() -> None:
    times = [100, 109, 111, 120, 190, 195, 200]

    taken = sample_frames(times, time_base=Fraction(1, 100), sampling=Sampling(fps=10))

    assert [times[position] for position in taken] == [100, 111, 120, 190, 200]


def test_where_a_video_is_cut_does_not_change_which_frames_are_sampled() -> None:
    probed = source(list(range(60)), keys=list(range(0, 60, 5)))

    for segment_frames in (1, 2, 3, 7, 100):
        segments = plan(probed, segment_frames=segment_frames, fps=7)
        pts = [time for segment in segments for time in segment.frame_pts]
        assert pts == [0, 4, 8, 11, 15, 18, 22, 25, 29, 33, 36, 40, 43, 47, 50, 54, 58]


def test_sparse_sampling_does_not_make_endless_segments() -> None:
    segments = plan(source(list(range(400)), keys=list(range(0, 400, 4))), segment_frames=4, fps=0.5)

    assert max(segment.packets.num_packets for segment in segments if segment.packets) <= 8 * 4 + 50


@pytest.mark.parametrize("fps", [0, -1, float("inf"), float("nan")])
def test_a_rate_that_is_no_positive_number_is_refused(fps: float) -> None:
    with pytest.raises(ValueError, match="fps must be a positive number"):
        Sampling(fps=fps)


def test_the_same_source_and_settings_give_the_same_plan() -> None:
    probed = source([0, 2, 1, 5, 3, 4, 6], keys=[0, 3])

    assert plan(probed) == plan(probed)
    assert plan(source(list(range(25)), keys=[0]))[0].segment_id == "f623f4134d60f704f2e73574769fde32"


def test_ids_depend_on_video_frames_sampling_and_codec_but_not_on_where_the_source_lies() -> None:
    probed = source(list(range(25)), keys=[0])
    moved = dataclasses.replace(probed, info=dataclasses.replace(INFO, url="/elsewhere.mp4", version_token="2"))
    other = dataclasses.replace(probed, info=dataclasses.replace(INFO, video_id="b" * 32))
    recoded = plan_source(probed, settings=PlanSettings(codec_fingerprint="d" * 64))
    same = plan(probed)[0].segment_id

    different = {plan(other)[0].segment_id, plan(probed, fps=5)[0].segment_id, recoded[0].segment_id}

    assert plan(moved)[0].segment_id == same
    assert len(different | {same}) == 4


def test_a_run_is_named_after_codec_sampling_and_segmentation() -> None:
    settings = PlanSettings(codec_fingerprint="c" * 64)

    names = {
        settings.run_fp,
        dataclasses.replace(settings, codec_fingerprint="d" * 64).run_fp,
        dataclasses.replace(settings, sampling=Sampling(fps=5)).run_fp,
        dataclasses.replace(settings, segment_frames=64).run_fp,
    }

    assert len(names) == 4
    assert all(len(name) == 16 for name in names)


def test_segments_know_the_shown_size() -> None:
    segment = plan(source([0, 1], keys=[0]))[0]

    assert (segment.width, segment.height, segment.display_width, segment.display_height) == (96, 64, 64, 96)


def test_pictures_are_cut_where_their_size_changes() -> None:
    sizes = ((9, 9), (9, 9), (5, 5), (9, 9), (9, 9), (9, 9))
    files = tuple(PictureFile(url=f"{number}.png", version_token="t") for number in range(6))
    probed = ProbedSource(info=INFO, table=PictureTable(files=files, sizes=sizes))

    segments = plan(probed, segment_frames=2)

    assert [segment.frame_pts for segment in segments] == [(0, 1), (2,), (3, 4), (5,)]
    assert [file.url for file in segments[2].files] == ["3.png", "4.png"]
    assert (segments[1].width, segments[1].height) == (5, 5)


@pytest.fixture(scope="module")
def prober() -> Iterator[SourceProber]:
    with SourceProber() as prober:
        yield prober


def test_the_same_bytes_under_two_names_are_planned_once(tmp_path: Path, prober: SourceProber) -> None:
    content = make_video(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(content)

    plans, failures = plan_sources(expand_inputs([str(tmp_path)]), prober, settings=PlanSettings(codec_fingerprint="c"))

    assert failures == []
    assert [[location.name for location in each.locations] for each in plans] == [["a.mp4", "b.mp4"]]
    assert plans[0].num_frames == 25


def test_a_source_that_fails_does_not_stop_the_others(tmp_path: Path, prober: SourceProber) -> None:
    make_video(tmp_path / "good.mp4")
    make_pictures(tmp_path / "stills", [(8, 8)])
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")

    plans, failures = plan_sources(expand_inputs([str(tmp_path)]), prober, settings=PlanSettings(codec_fingerprint="c"))

    assert [each.info.name for each in plans] == ["good.mp4", "stills"]
    assert [(failure.location.name, type(failure.error)) for failure in failures] == [
        ("bad.mp4", UnreadableSourceError),
        ("gone.mp4", SourceUnavailableError),
    ]


def test_segments_that_are_stored_are_left_out(tmp_path: Path, prober: SourceProber) -> None:
    make_video(tmp_path / "a.mp4", VideoSpec(gop=5))
    settings = PlanSettings(codec_fingerprint="c", segment_frames=5)
    (planned,), _ = plan_sources(expand_inputs([str(tmp_path)]), prober, settings=settings)

    pending = planned.pending({planned.segments[1].segment_id})

    assert [segment.number for segment in pending] == [0, 2, 3, 4]


def test_planning_imports_neither_torch_nor_ray_nor_av() -> None:
    assert importlib.util.find_spec("torch") is not None
    script = (
        "import sys, framevault.pipeline.planning\n"
        "print(sorted({'torch', 'ray', 'av', 'pyarrow', 'fsspec', 'PIL'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )

    assert done.stdout.strip() == "[]"
