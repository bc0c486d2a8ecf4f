"""What the decoding tests share: from a file to its segments, and from segments to plain arrays."""

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from framevault.pipeline.planning import PlanSettings, Sampling, plan_source
from framevault.pipeline.probing import SourceProber
from framevault.pipeline.sources import expand_inputs
from framevault.workers.frames import FrameReader
from framevault.workers.tasks import Segment

Planes = tuple[NDArray[np.uint8], ...]


def cut(prober: SourceProber, path: Path, *, segment_frames: int = 8, fps: float | None = None) -> list[Segment]:
    """Probe and cut one source."""
    (location,) = expand_inputs([str(path)])
    sampling = Sampling(fps=fps)
    settings = PlanSettings(codec_fingerprint="c" * 64, segment_frames=segment_frames, sampling=sampling)
    return plan_source(prober.probe(location), settings=settings)


def read_planes(reader: FrameReader, segments: Iterable[Segment]) -> list[Planes]:
    """Decode segments to copies of each frame's planes, and see that their pts are the planned ones."""
    frames: list[Planes] = []
    for segment in segments:
        pts: list[int] = []
        for batch in reader.batches(segment, batch_size=3):
            pts.extend(batch.pts)
            frames.extend(tuple(plane[n].copy() for plane in batch.planes) for n in range(batch.num_frames))
        assert tuple(pts) == segment.frame_pts
    return frames


def decode_whole(path: Path) -> list[Planes]:
    """Decode a file from its first packet to its last in this process, as the truth to compare with."""
    with av.open(str(path)) as container:
        return [_copy_planes(frame) for frame in container.decode(video=0)]


def _copy_planes(frame: av.VideoFrame) -> Planes:
    planes = []
    for plane in frame.planes[:3]:
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        planes.append(lines[: plane.height, : plane.width].copy())
    return tuple(planes)


def assert_same_frames(found: list[Planes], expected: list[Planes]) -> None:
    """Compare two lists of frames byte by byte."""
    assert len(found) == len(expected)
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        for plane, truth in zip(ours, theirs, strict=True):
            assert np.array_equal(plane, truth), f"frame {number} differs"
