"""Frames of a source for a measurement: upright RGB, decoded and converted exactly as `framevault compress` does.

N frames, C = 3 channels (red, green, blue), H rows, W columns.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.planning import PlanSettings, plan_source
from framevault.pipeline.probing import ProbedSource, probe_source
from framevault.pipeline.sources import SourceLocation, expand_inputs
from framevault.workers.colour import rgb_from_batch
from framevault.workers.errors import DecodeError, UnreadableSourceError
from framevault.workers.frames import FrameReader
from framevault.workers.tasks import Segment

FRAMES_PER_CALL = 4
"""Frames that go through the networks together where speed is not what is measured."""

_NO_CODEC = "0" * 64
"""Stands where a plan has the codec's fingerprint; these segments are never stored."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RgbBatch:
    """Some frames of a source."""

    frame_numbers: tuple[int, ...]
    """Positions in the source, from 0."""
    rgb_nchw: Tensor
    """uint8 [N, 3, H, W], upright."""


def locate_source(text: str) -> SourceLocation:
    """Find the one video or folder of pictures that a text names.

    Raises:
        InputError: There is no such thing.
        PreflightError: There are several.
    """
    locations = expand_inputs([text])
    if len(locations) != 1:
        raise PreflightError(f"{text}: expected one video or folder of pictures, found {len(locations)}")
    return locations[0]


def probe(location: SourceLocation) -> ProbedSource:
    """Look into a source.

    Raises:
        PreflightError: It can't be read.
    """
    try:
        return probe_source(location)
    except (UnreadableSourceError, DecodeError) as error:
        raise PreflightError(str(error)) from error


def cut_source(probed: ProbedSource) -> list[Segment]:
    """Cut a source into the segments that a job would have; their ids belong to no codec."""
    return plan_source(probed, settings=PlanSettings(codec_fingerprint=_NO_CODEC))


def keep_frames(segment: Segment, positions: list[int]) -> Segment:
    """Return a segment that gives only the frames at some rising positions; what follows the last is not decoded."""
    packets = segment.packets
    if packets is not None:
        frame_packets = tuple(packets.frame_packets[position] for position in positions)
        packets = replace(packets, frame_packets=frame_packets, num_packets=max(frame_packets) + 1)
    frame_pts = tuple(segment.frame_pts[position] for position in positions)
    return replace(
        segment,
        frame_pts=frame_pts,
        first_pts=frame_pts[0],
        last_pts=frame_pts[-1],
        packets=packets,
        files=tuple(segment.files[position] for position in positions if segment.files),
    )


def read_batches(
    probed: ProbedSource, frame_numbers: Collection[int], *, batch_size: int = FRAMES_PER_CALL
) -> Iterator[RgbBatch]:
    """Decode the frames with these numbers, in order; a batch's frames have one size.

    Raises:
        PreflightError: The source does not give them.
    """
    first_number = 0
    try:
        with FrameReader() as reader:
            for segment in cut_source(probed):
                positions = [n for n in range(segment.num_frames) if first_number + n in frame_numbers]
                if positions:
                    numbers = [first_number + position for position in positions]
                    yield from _read_segment(reader, keep_frames(segment, positions), numbers, batch_size=batch_size)
                first_number += segment.num_frames
    except DecodeError as error:
        raise PreflightError(str(error)) from error


def split_calls(frames_nchw: Tensor) -> list[Tensor]:
    """Cut frames or their features [N, C, H, W] into what goes through the networks together."""
    return [frames_nchw[first : first + FRAMES_PER_CALL] for first in range(0, len(frames_nchw), FRAMES_PER_CALL)]


def _read_segment(
    reader: FrameReader, segment: Segment, frame_numbers: list[int], *, batch_size: int
) -> Iterator[RgbBatch]:
    num_read = 0
    with reader.batches(segment, batch_size=batch_size) as batches:
        for batch in batches:
            numbers = tuple(frame_numbers[num_read : num_read + batch.num_frames])
            yield RgbBatch(frame_numbers=numbers, rgb_nchw=rgb_from_batch(batch))
            num_read += batch.num_frames
