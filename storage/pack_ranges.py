"""Parts of a stored pack: its table alone, or some frames' streams, without reading the rest."""

from __future__ import annotations

from collections.abc import Sequence

from framevault.storage.errors import PackError
from framevault.storage.pack_envelope import PROLOGUE, TRAILER, read_prologue, read_trailer
from framevault.storage.packs import PackFrame, PackTable, parse_ends, payload_room
from framevault.storage.store import Store

PROBE_BYTES = 1 << 16
"""Read at once from either end of a pack for its header and table; a segment's table is a few kilobytes."""

LARGEST_GAP = 1 << 16
"""Bytes between wanted frames that are read along rather than asked for separately."""


def read_pack_table(store: Store, key: str, *, size_bytes: int) -> PackTable:
    """Read a stored pack's header and table only.

    Raises:
        PackError: It is not a pack.
        NotFoundError: There is none.
        StoreUnavailableError: The store can't be read.
    """
    head = store.read(key, length=min(PROBE_BYTES, size_bytes))
    tail = store.read(key, start=max(0, size_bytes - PROBE_BYTES), length=min(PROBE_BYTES, size_bytes))
    # Whoever says the wrong size must not make us ask for gigabytes.
    if (found := min(len(head), len(tail))) < min(PROBE_BYTES, size_bytes):
        raise PackError(f"{key}: must have {size_bytes} bytes, has less: a read of the first or last gave {found}")
    if (needed := PROLOGUE.size + read_prologue(key, head)) > len(head):
        head = store.read(key, length=min(needed, size_bytes))
    trailer = read_trailer(key, head, tail)
    payload_room(key, size_bytes, needed - PROLOGUE.size, trailer)
    if (needed := TRAILER.size + trailer.table_length) > len(tail):
        tail = store.read(key, start=size_bytes - needed, length=needed)
    return parse_ends(key, size_bytes, head, tail)


def read_payloads(store: Store, table: PackTable, *, frame_numbers: Sequence[int]) -> list[bytes]:
    """Read some frames' streams of a stored pack; neighbours are read together.

    Raises:
        PackError: A stream is damaged; names the key and the frame.
        NotFoundError: The pack is gone.
        StoreUnavailableError: The store can't be read.
    """
    wanted = [table.frames[number] for number in sorted(set(frame_numbers))]
    payloads: dict[int, bytes] = {}
    for run in _coalesce(wanted):
        start = run[0].offset
        data = store.read(table.key, start=start, length=run[-1].offset + run[-1].length - start)
        for frame in run:
            payload = data[frame.offset - start : frame.offset - start + frame.length]
            payloads[frame.frame_number] = table.check_payload(frame.frame_number, payload)
    return [payloads[table.frames[number].frame_number] for number in frame_numbers]


def _coalesce(frames: Sequence[PackFrame]) -> list[list[PackFrame]]:
    """Group frames, in order, that lie close together."""
    runs: list[list[PackFrame]] = []
    for frame in frames:
        if runs and frame.offset - (runs[-1][-1].offset + runs[-1][-1].length) <= LARGEST_GAP:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs
