"""From the frames that a condition chooses to the tasks that restore them."""

import itertools
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from fractions import Fraction

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.output_names import name_outputs
from framevault.storage.index import VideoManifest, load_manifests
from framevault.storage.query import locate_frames
from framevault.storage.store import ObjectRef, Store
from framevault.workers.restore import ChosenFrames, RestoreTask


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenFrame:
    """One chosen frame."""

    segment_id: str
    """Its segment."""
    frame_number: int
    """In the segment."""
    video_frame: int
    """In the video."""
    pts: int
    """In ticks of the video's time base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenVideo:
    """A stored video, and its chosen frames."""

    manifest: VideoManifest
    """The video."""
    output: str
    """What its file or folder is called."""
    frames: list[ChosenFrame] = field(default_factory=list)
    """In order."""

    def time_s(self, frame: ChosenFrame) -> float:
        """Return the seconds from the source's zero to a frame."""
        return float(frame.pts * Fraction(*self.manifest.time_base))


def choose_videos(store: Store, where: str | None) -> list[ChosenVideo]:
    """Return the videos that have chosen frames, and these.

    Raises:
        QueryError: The condition is no SQL condition over the frames view.
        PreflightError: No frame is chosen.
    """
    manifests = load_manifests(store)
    outputs = name_outputs(manifests)
    videos = {
        (each.video_id, each.run_fp): ChosenVideo(manifest=each, output=outputs[each.video_id, each.run_fp])
        for each in manifests
    }
    rows = locate_frames(store, where).to_pylist()
    if not rows:
        raise PreflightError(f"{store.url}: no frame fits {where!r}" if where else f"{store.url}: the vault is empty")
    for row in rows:
        frame = ChosenFrame(**{name: row[name] for name in ("segment_id", "frame_number", "video_frame", "pts")})
        videos[row["video_id"], row["run_fp"]].frames.append(frame)
    return [video for video in videos.values() if video.frames]


def picture_file(video: ChosenVideo, frame: ChosenFrame) -> str:
    """Return where a frame's picture goes: `clip.mp4/000012_6144.png` is the video's 12th frame from 0, at pts 6144."""
    return f"{video.output}/{frame.video_frame:06d}_{frame.pts}.png"


def video_file(video: ChosenVideo) -> str:
    """Return where a video goes."""
    return video.output if video.output.lower().endswith(".mp4") else f"{video.output}.mp4"


def picture_tasks(video: ChosenVideo, there: Set[str]) -> list[RestoreTask]:
    """Return a task a segment that has chosen frames; without frames whose files are there."""
    files = {picture_file(video, frame): frame for frame in video.frames}
    wanted = {name: frame for name, frame in files.items() if name not in there}
    return [
        _task(video, frames, task_id=f"{video.manifest.run_fp}-{frames[0].segment_id}", with_files=True)
        for frames in _by_segment(list(wanted.values()))
    ]


def video_tasks(video: ChosenVideo, there: Set[str]) -> list[RestoreTask]:
    """Return one task, or none where the file is there."""
    name = video_file(video)
    if name in there:
        return []
    manifest = video.manifest
    return [
        RestoreTask(
            task_id=f"{manifest.run_fp}-{manifest.video_id}",
            video_id=manifest.video_id,
            name=manifest.name,
            chosen=tuple(_chosen(video, frames) for frames in _by_segment(video.frames)),
            video_file=name,
            fps=_mean_fps(video),
        )
    ]


def tile_tasks(videos: Sequence[ChosenVideo], *, most: int) -> list[RestoreTask]:
    """Return a task a segment for at most so many frames of all videos, evenly spread."""
    total = sum(len(video.frames) for video in videos)
    step = max(1.0, total / most)
    taken = {int(number * step) for number in range(min(most, total))}
    numbers = itertools.count()
    tasks: list[RestoreTask] = []
    for video in videos:
        frames = [frame for frame in video.frames if next(numbers) in taken]
        tasks += [
            _task(video, run, task_id=f"{video.manifest.run_fp}-{run[0].segment_id}", with_files=False)
            for run in _by_segment(frames)
        ]
    return tasks


def _task(video: ChosenVideo, frames: list[ChosenFrame], *, task_id: str, with_files: bool) -> RestoreTask:
    """Return the task of some frames of one segment."""
    return RestoreTask(
        task_id=task_id,
        video_id=video.manifest.video_id,
        name=video.manifest.name,
        chosen=(_chosen(video, frames, with_files=with_files),),
    )


def _chosen(video: ChosenVideo, frames: list[ChosenFrame], *, with_files: bool = False) -> ChosenFrames:
    return ChosenFrames(
        segment_id=frames[0].segment_id,
        pack=_pack_of(video.manifest, frames[0].segment_id),
        frame_numbers=tuple(frame.frame_number for frame in frames),
        files=tuple(picture_file(video, frame) for frame in frames) if with_files else (),
    )


def _pack_of(manifest: VideoManifest, segment_id: str) -> ObjectRef:
    return next(record.pack for record in manifest.segments if record.segment_id == segment_id)


def _by_segment(frames: Sequence[ChosenFrame]) -> Iterator[list[ChosenFrame]]:
    for _, run in itertools.groupby(frames, key=lambda frame: frame.segment_id):
        yield list(run)


def _mean_fps(video: ChosenVideo) -> float:
    """Return the mean frames a second of the chosen frames; the source's for a single one."""
    frames = video.frames
    if len(frames) < 2:
        return video.manifest.fps or 1.0
    return (len(frames) - 1) / (video.time_s(frames[-1]) - video.time_s(frames[0]))
