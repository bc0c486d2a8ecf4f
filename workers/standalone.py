"""Chosen frames of a segment whose streams all stand alone: what codecs that give pictures write.

A damaged stream costs its own frame, and nothing else of the segment has to be decoded for a few of its frames.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from framevault.codecs.errors import BitstreamError
from framevault.storage.errors import PackError
from framevault.storage.packs import Pack
from framevault.workers.salvage import FrameFault

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, eq=False)
class Decoded(Generic[ResultT]):
    """What some of the chosen frames decode to."""

    frame_numbers: tuple[int, ...]
    """The frames."""
    result: ResultT
    """What the decoder returned for their streams."""


def decode_chosen(
    pack: Pack, frame_numbers: Sequence[int], decode: Callable[[Sequence[bytes]], ResultT], *, batch_size: int
) -> Iterator[Decoded[ResultT] | FrameFault]:
    """Decode some frames of a segment, in the order given; of damaged ones, say what is wrong.

    Args:
        pack: The segment.
        frame_numbers: The frames that are wanted.
        decode: Decodes streams that stand alone; raises BitstreamError.
        batch_size: Most streams of a call.
    """
    for first in range(0, len(frame_numbers), batch_size):
        streams: dict[int, bytes] = {}
        for number in frame_numbers[first : first + batch_size]:
            try:
                streams[number] = pack.payload(number)
            except PackError as error:
                yield _fault(pack, number, str(error))
        yield from _decode_batch(pack, streams, decode)


def _decode_batch(
    pack: Pack, streams: dict[int, bytes], decode: Callable[[Sequence[bytes]], ResultT]
) -> Iterator[Decoded[ResultT] | FrameFault]:
    """Decode streams together; if one of them can't be, one by one."""
    if not streams:
        return
    try:
        yield Decoded(tuple(streams), decode(list(streams.values())))
    except BitstreamError as error:
        if len(streams) > 1:
            for number, stream in streams.items():
                yield from _decode_batch(pack, {number: stream}, decode)
            return
        number = next(iter(streams))
        yield _fault(pack, number, f"{pack.table.key}: frame {number}: {error}")


def _fault(pack: Pack, number: int, reason: str) -> FrameFault:
    pts = pack.frames[number].pts
    return FrameFault(first_frame=number, last_frame=number, first_pts=pts, last_pts=pts, reason=reason)
