"""Chosen frames of a segment: decoded in order, around damage."""

from collections.abc import Sequence

import pytest

from framevault.codecs.errors import BitstreamError
from framevault.storage.packs import Pack, read_pack
from framevault.workers.salvage import FrameFault
from framevault.workers.standalone import Decoded, decode_chosen
from tests.storage.samples import sample_pack

NUM_FRAMES = 6


@pytest.fixture
def pack() -> Pack:
    return read_pack(sample_pack(num_frames=NUM_FRAMES))


def join(streams: Sequence[bytes]) -> tuple[bytes, ...]:
    """Stand in for a decoder that returns what it was given."""
    return tuple(streams)


def found(steps: list[Decoded[tuple[bytes, ...]] | FrameFault]) -> tuple[list[int], list[int]]:
    """Return the frames that were decoded, and those that could not be."""
    good = [number for step in steps if isinstance(step, Decoded) for number in step.frame_numbers]
    return good, [step.first_frame for step in steps if isinstance(step, FrameFault)]


def test_only_chosen_frames_are_decoded_a_batch_at_a_time(pack: Pack) -> None:
    steps = list(decode_chosen(pack, [0, 2, 3, 5], join, batch_size=3))

    assert [step.frame_numbers for step in steps if isinstance(step, Decoded)] == [(0, 2, 3), (5,)]
    assert all(
        step.result == tuple(pack.payload(number) for number in step.frame_numbers)
        for step in steps
        if isinstance(step, Decoded)
    )


def test_a_damaged_stream_costs_its_own_frame(pack: Pack) -> None:
    frame = pack.frames[3]
    data = bytearray(pack.data)
    data[frame.offset] ^= 0xFF
    damaged = Pack(table=pack.table, data=bytes(data))

    steps = list(decode_chosen(damaged, range(NUM_FRAMES), join, batch_size=4))

    assert found(steps) == ([0, 1, 2, 4, 5], [3])
    (fault,) = (step for step in steps if isinstance(step, FrameFault))
    assert fault.first_pts == frame.pts
    assert "CRC32C" in fault.reason


def test_a_stream_that_can_not_be_decoded_costs_its_own_frame(pack: Pack) -> None:
    def decode(streams: Sequence[bytes]) -> tuple[bytes, ...]:
        if pack.payload(4) in streams:
            raise BitstreamError("stream 0 of the call is none")
        return tuple(streams)

    steps = list(decode_chosen(pack, range(NUM_FRAMES), decode, batch_size=8))

    assert found(steps) == ([0, 1, 2, 3, 5], [4])
    assert any("frame 4: stream 0 of the call is none" in str(step) for step in steps)
