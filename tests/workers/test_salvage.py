"""Around damage: which frames are decoded, by which calls, and what is said about the others."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch

from framevault.codecs.base import Changes
from framevault.codecs.errors import BitstreamError
from framevault.storage.errors import ChecksumError
from framevault.storage.packs import Pack, PackWriter, read_pack
from framevault.storage.store import ObjectRef, Store
from framevault.workers.salvage import FrameFault, SegmentRun, read_stored
from tests.storage.samples import pack_header

JUNK = b"junk"
"""A stream whose checksum is right, and that no codec wrote."""


class Counting:
    """A codec that only counts: a stream says its frame's number, and whether it stands alone (`I`) or not (`P`)."""

    def __init__(self, calls: list[list[int]]) -> None:
        self._calls = calls
        self._last: int | None = None

    def decode(self, streams: Sequence[bytes]) -> Changes:
        numbers: list[int] = []
        self._calls.append(numbers)
        for stream in streams:
            if stream == JUNK:
                self._last = None
                raise BitstreamError("it is junk")
            number = int(stream[1:])
            if stream[:1] == b"P" and self._last != number - 1:
                raise BitstreamError(f"frame {number} needs {number - 1}, the last one was {self._last}")
            self._last = number
            numbers.append(number)
        return Changes(decoded=torch.tensor(numbers), rows=tuple(range(len(numbers))))


def pack_of(kinds: str) -> Pack:
    """Make a pack: `I` and `P` are frames, `j` is junk in the place of a `P`, `J` of an `I`."""
    writer = PackWriter(pack_header())
    for number, kind in enumerate(kinds):
        payload = JUNK if kind in "jJ" else f"{kind}{number}".encode()
        writer.add(payload, pts=10 * number, is_keyframe=False, is_independent=kind in "IJ")
    return read_pack(writer.finish())


def flip(pack: Pack, frame_number: int) -> Pack:
    """Flip a bit of a frame's stream; header and table stay as they are."""
    position = pack.frames[frame_number].offset
    data = bytearray(pack.data)
    data[position] ^= 1
    return read_pack(bytes(data))


def run_through(pack: Pack, *, batch_size: int = 3) -> tuple[list[int], list[FrameFault], list[list[int]]]:
    """Return the frames that were decoded, what was said about the others, and all calls."""
    calls: list[list[int]] = []
    run = SegmentRun(pack, lambda: Counting(calls).decode, batch_size=batch_size)
    decoded: list[int] = []
    faults: list[FrameFault] = []
    while not run.is_over:
        step = run.advance()
        if isinstance(step, FrameFault):
            faults.append(step)
        else:
            numbers, changes = step
            assert changes.decoded.tolist() == list(numbers)
            decoded += numbers
    return decoded, faults, calls


def spans(faults: list[FrameFault]) -> list[tuple[int, int]]:
    return [(fault.first_frame, fault.last_frame) for fault in faults]


def test_a_sound_segment_goes_through_in_batches() -> None:
    decoded, faults, calls = run_through(pack_of("IPPPPPP"))

    assert (decoded, faults) == ([0, 1, 2, 3, 4, 5, 6], [])
    assert calls == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("kinds", ["IPPPPIPP", "IPPPPJPP", "IIIIIIII"])
@pytest.mark.parametrize("damaged", range(8))
@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_a_wrong_checksum_costs_the_frames_up_to_the_next_that_stands_alone(
    kinds: str, damaged: int, batch_size: int
) -> None:
    kinds = kinds.replace("J", "I")
    expected = next((n for n in range(damaged + 1, 8) if kinds[n] == "I"), 8)

    decoded, faults, _ = run_through(flip(pack_of(kinds), damaged), batch_size=batch_size)

    assert decoded == [n for n in range(8) if not damaged <= n < expected]
    assert spans(faults) == [(damaged, expected - 1)]
    assert (faults[0].first_pts, faults[0].last_pts) == (10 * damaged, 10 * (expected - 1))
    assert f"frame {damaged} must have CRC32C" in str(faults[0])


@pytest.mark.parametrize("damaged", range(8))
@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_a_stream_that_no_codec_wrote_costs_the_same(damaged: int, batch_size: int) -> None:
    kinds = "IPPPPIPP"
    junk = "J" if kinds[damaged] == "I" else "j"
    expected = 5 if damaged < 5 else 8

    decoded, faults, _ = run_through(pack_of(kinds[:damaged] + junk + kinds[damaged + 1 :]), batch_size=batch_size)

    assert decoded == [n for n in range(8) if not damaged <= n < expected]
    assert spans(faults) == [(damaged, expected - 1)]
    assert f"frame {damaged}: it is junk" in faults[0].reason


def test_frames_before_a_bad_stream_are_decoded_again_from_the_one_that_stands_alone() -> None:
    _, _, calls = run_through(pack_of("PIPPPPjP".replace("P", "I", 1)), batch_size=3)

    # The third call fails at frame 6; 1 to 5 come again before it, and 6 by itself.
    assert calls == [[0, 1, 2], [3, 4, 5], [], [1, 2, 3], [4, 5], []]


def test_several_damaged_places_are_named_one_by_one() -> None:
    pack = flip(flip(pack_of("IPPIPPIjIP"), 1), 4)

    decoded, faults, _ = run_through(pack, batch_size=4)

    assert decoded == [0, 3, 6, 8, 9]
    assert spans(faults) == [(1, 2), (4, 5), (7, 7)]
    assert str(faults[0]).startswith("frame 1 and those coded against it, to 2: ")
    assert str(faults[2]).startswith("frame 7: ")


def test_a_pack_with_a_damaged_stream_is_read_and_one_with_a_damaged_table_is_not() -> None:
    pack, store = pack_of("IPP"), Store("memory://salvage-read")
    ref = ObjectRef.of("packs/a.fvp", pack.data)
    table = bytearray(pack.data)
    table[pack.frames[-1].offset + pack.frames[-1].length] ^= 1
    store.create("packs/a.fvp", flip(pack, 1).data)
    store.create("packs/b.fvp", bytes(table))

    read = read_stored(store, ref, segment_id=pack.header.segment_id)

    assert [read.payload(n) for n in (0, 2)] == [pack.payload(n) for n in (0, 2)]
    with pytest.raises(ChecksumError, match=r"packs/b\.fvp must have CRC32C"):
        read_stored(store, dataclasses.replace(ref, key="packs/b.fvp"), segment_id=pack.header.segment_id)


def test_another_sound_pack_under_the_key_is_not_taken_for_a_damaged_one() -> None:
    pack, store = pack_of("IPP"), Store("memory://salvage-other")
    store.create("packs/a.fvp", pack_of("IPI").data)

    with pytest.raises(ChecksumError):
        read_stored(store, ObjectRef.of("packs/a.fvp", pack.data), segment_id=pack.header.segment_id)


def test_a_damaged_pack_of_another_segment_is_not_taken() -> None:
    pack, store = pack_of("IPP"), Store("memory://salvage-segment")
    store.create("packs/a.fvp", flip(pack, 1).data)

    with pytest.raises(ChecksumError):
        read_stored(store, ObjectRef.of("packs/a.fvp", pack.data), segment_id="0" * 32)
