"""From stored segments to files for people: pictures, videos, or the tiles of a contact sheet. Runs without Ray."""

import io
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from framevault.codecs.errors import BitstreamError
from framevault.storage.packs import PackFrame, PackHeader
from framevault.storage.store import ObjectRef, open_store
from framevault.workers.memory import keep_freed_memory
from framevault.workers.output_folder import check_folder, write_whole
from framevault.workers.restored import PictureReader, RestoreSettings
from framevault.workers.salvage import FrameFault, read_stored
from framevault.workers.video_file import VideoCodec, VideoFile, VideoFormat

PNG_LEVEL = 4
"""Of compression: half the time of Pillow's own 6, at some percent more bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenFrames:
    """Some frames of one stored segment."""

    segment_id: str
    """The segment."""
    pack: ObjectRef
    """Where its streams are."""
    frame_numbers: tuple[int, ...]
    """The frames, rising."""
    files: tuple[str, ...] = ()
    """Where each picture goes, below the output folder; empty where pictures go into no files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreTask:
    """What is restored in one go: a segment's frames, or a whole video's."""

    task_id: str
    """Unique in the job."""
    video_id: str
    """Of the video."""
    name: str
    """The video's, for messages."""
    chosen: tuple[ChosenFrames, ...]
    """Segments and frames, in order."""
    video_file: str | None = None
    """Where the video goes, below the output folder."""
    fps: float = 1.0
    """What the video's players are told."""

    @property
    def num_frames(self) -> int:
        """How many frames are chosen."""
        return sum(len(each.frame_numbers) for each in self.chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One small picture of a contact sheet."""

    segment_id: str
    """The segment."""
    frame_number: int
    """The frame in it."""
    png: bytes = field(repr=False)
    """The picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReceipt:
    """What came of a task."""

    num_frames: int
    """Frames restored."""
    size_bytes: int
    """Bytes of the files."""
    faults: tuple[str, ...]
    """Frames that could not be decoded, and why."""
    stage_seconds: tuple[float, float, float]
    """Seconds of reading, decoding and writing."""
    tiles: tuple[Tile, ...] = ()
    """For a contact sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreWorkerSettings:
    """All that a restoring worker is made from; it pickles."""

    vault_url: str
    """Where packs are."""
    restore: RestoreSettings
    """How pictures are made."""
    threads_per_slot: int
    """Threads of each call's networks, and of each video's encoder."""
    out: str | None
    """The output folder; None where there are no files."""
    video_codec: VideoCodec = "h264"
    """How videos are coded."""
    starts_at_zero: bool = False
    """Whether a video's times count from its first restored frame."""
    tile_side: int = 0
    """Longest side of a contact sheet's tile, in pixels; 0 where there is no sheet."""

    def __call__(self) -> "RestoreWorker":
        """Make the worker, in the process that it shall run in."""
        return RestoreWorker(self)


class _Restoring:
    """What comes of one task, while it runs: pictures in order, and what they cost."""

    def __init__(self) -> None:
        self.read_s = self.decode_s = self.write_s = 0.0
        self.num_frames = self.size_bytes = 0
        self.faults: list[str] = []

    def receipt(self, tiles: tuple[Tile, ...] = ()) -> RestoreReceipt:
        """Return what came of it.

        Raises:
            BitstreamError: Not a single frame could be decoded.
        """
        if not self.num_frames:
            raise BitstreamError(f"no frame can be decoded: {self.faults[0]}")
        return RestoreReceipt(
            num_frames=self.num_frames,
            size_bytes=self.size_bytes,
            faults=tuple(self.faults),
            stage_seconds=(self.read_s, self.decode_s, self.write_s),
            tiles=tiles,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """One restored frame."""

    segment_id: str
    header: PackHeader
    """Of its pack."""
    frame: PackFrame
    """Its row of the pack's table."""
    rgb_hwc: NDArray[np.uint8]
    """RGB uint8 [H, W, 3]."""


class RestoreWorker:
    """Restores what is stored; thread-safe."""

    def __init__(self, settings: RestoreWorkerSettings) -> None:
        """Make ready; codecs are loaded when the first pack of theirs comes.

        Raises:
            FileNotFoundError: The output folder is not the one that the command sees.
        """
        keep_freed_memory()
        torch.set_num_threads(settings.threads_per_slot)
        if settings.out is not None:
            check_folder(Path(settings.out))
        self._settings = settings
        self._store = open_store(settings.vault_url)
        self._reader = PictureReader(settings.restore)

    def __call__(self, task: RestoreTask) -> RestoreReceipt:
        """Restore a task's frames; damaged ones are left out and said.

        Raises:
            CodecError: A pack's weights are not here, or its codec has no pictures, slices or edits.
            BitstreamError: No frame can be decoded; says what is wrong with the first.
            StoreError: A pack can't be read.
            OSError: The files can't be written.
        """
        if self._settings.tile_side:
            return self._make_tiles(task)
        if task.video_file is not None:
            return self._write_video(task, task.video_file)
        return self._write_pictures(task)

    def _write_pictures(self, task: RestoreTask) -> RestoreReceipt:
        work = _Restoring()
        files = {
            (each.segment_id, number): file
            for each in task.chosen
            for number, file in zip(each.frame_numbers, each.files, strict=True)
        }
        for picture in self._pictures(task, work):
            start = time.perf_counter()
            name = files[picture.segment_id, picture.frame.frame_number]
            work.size_bytes += write_whole(self._out, name, _png_writer(picture.rgb_hwc))
            work.write_s += time.perf_counter() - start
        return work.receipt()

    def _write_video(self, task: RestoreTask, video_file: str) -> RestoreReceipt:
        work = _Restoring()
        work.size_bytes = write_whole(self._out, video_file, lambda path: self._fill_video(path, task, work))
        return work.receipt()

    def _fill_video(self, path: Path, task: RestoreTask, work: _Restoring) -> None:
        pictures = self._pictures(task, work)
        first = next(pictures, None)
        if first is None:
            # Nothing could be decoded: says so.
            work.receipt()
            return
        offset = first.frame.pts if self._settings.starts_at_zero else 0
        with VideoFile(path, self._video_format(first.header, task), first_pts=first.frame.pts - offset) as video:
            for picture in itertools.chain([first], pictures):
                start = time.perf_counter()
                video.add(picture.rgb_hwc, pts=picture.frame.pts - offset)
                work.write_s += time.perf_counter() - start

    def _video_format(self, header: PackHeader, task: RestoreTask) -> VideoFormat:
        ratio = Fraction(*header.sample_aspect_ratio)
        is_turned = header.rotation_degrees in (90, 270)
        return VideoFormat(
            codec=self._settings.video_codec,
            time_base=Fraction(*header.time_base),
            fps=task.fps,
            sample_aspect_ratio=1 / ratio if is_turned else ratio,
            num_threads=self._settings.threads_per_slot,
        )

    def _make_tiles(self, task: RestoreTask) -> RestoreReceipt:
        work = _Restoring()
        tiles: list[Tile] = []
        for picture in self._pictures(task, work):
            start = time.perf_counter()
            png = _shrink(picture.rgb_hwc, side=self._settings.tile_side)
            tiles.append(Tile(segment_id=picture.segment_id, frame_number=picture.frame.frame_number, png=png))
            work.write_s += time.perf_counter() - start
        return work.receipt(tuple(tiles))

    def _pictures(self, task: RestoreTask, work: _Restoring) -> Iterator[_Picture]:
        """Give a task's pictures in order; one segment and one batch in memory at a time."""
        for chosen in task.chosen:
            start = time.perf_counter()
            pack = read_stored(self._store, chosen.pack, segment_id=chosen.segment_id)
            work.read_s += time.perf_counter() - start
            batches = self._reader.read(pack, chosen.frame_numbers)
            while True:
                start = time.perf_counter()
                batch = next(batches, None)
                work.decode_s += time.perf_counter() - start
                if batch is None:
                    break
                if isinstance(batch, FrameFault):
                    work.faults.append(f"segment {chosen.segment_id}: {batch}")
                    continue
                work.num_frames += len(batch.frame_numbers)
                for number, rgb_hwc in zip(batch.frame_numbers, batch.result, strict=True):
                    yield _Picture(chosen.segment_id, pack.header, pack.frames[number], rgb_hwc)

    @property
    def _out(self) -> Path:
        assert self._settings.out is not None
        return Path(self._settings.out)


def _png_writer(rgb_hwc: NDArray[np.uint8]) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(rgb_hwc).save(path, "PNG", compress_level=PNG_LEVEL)


def _shrink(rgb_hwc: NDArray[np.uint8], *, side: int) -> bytes:
    """Return a picture as PNG, its longest side at most so long."""
    picture = Image.fromarray(rgb_hwc)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    payload = io.BytesIO()
    picture.save(payload, "PNG", compress_level=PNG_LEVEL)
    return payload.getvalue()
