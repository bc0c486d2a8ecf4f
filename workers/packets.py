"""The packet table of a video: what a source should give, learnt by demuxing alone.

Packets are numbered in decoding order; a frame is known by its packet's number, which travels with the packet through
the decoder. So nothing rests on the decoder's timestamps: a frame's pts is the one that the table gives its packet.

The rules, one for all containers:
- A packet without pts takes its dts; without both, the time of the packet before it plus the usual distance.
- Where the dts go back, as in a recording that was joined from several, the times from there on are moved so that they
  follow what came before at the usual distance.
- Frames are shown in the order of their pts; of two with the same pts the one decoded first comes first and the other
  is moved one tick later (and what is then overtaken, too). No frame is lost, and pts are strictly increasing.
- A packet that an edit list takes out (flagged discard) must be decoded but gives no frame.
- Packets before the first keyframe give no frame, nor do leading pictures of the first keyframe that can't be decoded.
- Where the container says how many frames there are and the file ends before, the rest is listed as well: it is missed
  when its segment is decoded, not passed over.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from framevault.workers.messages import Message, MessageError, get_int, get_ints, get_messages, get_optional_int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPacket:
    """A video packet as the container gives it."""

    pts: int | None
    """Presentation time in ticks, if the container has one."""
    dts: int | None
    """Decoding time in ticks, if the container has one."""
    position: int
    """Byte position in the file, -1 if unknown."""
    size: int
    """Bytes."""
    is_keyframe: bool
    """Whether decoding can begin here."""
    is_discard: bool
    """Whether an edit list takes its frame out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyframe:
    """A packet at which decoding can begin, with what is needed to find it again in the file."""

    packet_number: int
    """Position in the table."""
    pts: int | None
    """The packet's own pts, before any repair."""
    dts: int | None
    """The packet's own dts."""
    position: int
    """Byte position in the file, -1 if unknown."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketTable:
    """Every packet of a video in decoding order, from the first keyframe to the end."""

    pts: tuple[int, ...]
    """Each packet's pts after the repairs; strictly increasing over the frames in display order."""
    hidden: tuple[int, ...]
    """Numbers of the packets that give no frame, increasing."""
    keyframes: tuple[Keyframe, ...]
    """The packets at which decoding can begin, increasing; the first is packet 0."""
    num_missing: int
    """Packets at the end of the table that the file should have but has not."""
    num_undecodable: int
    """Packets at the start that give no frame because what they lean on is not in the file."""

    @property
    def num_frames(self) -> int:
        """Frames that the source should give."""
        return len(self.pts) - len(self.hidden)

    def frames_in_display_order(self) -> list[int]:
        """Gives the packet number of every frame, by pts."""
        hidden = set(self.hidden)
        return sorted((number for number in range(len(self.pts)) if number not in hidden), key=self.pts.__getitem__)


def build_table(
    packets: Sequence[RawPacket],
    *,
    tail: Sequence[RawPacket] = (),
    undecodable: frozenset[int] = frozenset(),
    display_order: Sequence[int] | None = None,
    num_skipped: int = 0,
) -> PacketTable:
    """Makes the table from a video's packets, the first of which is a keyframe.

    `tail` are packets that should follow but are not in the file, `undecodable` numbers of packets that can't be
    decoded though they are there, `num_skipped` how many came before the first keyframe. `display_order` gives packet
    numbers in the order in which the decoder shows them, for containers whose times are in decoding order: the times
    are then dealt out in that order.
    """
    everything = [*packets, *tail]
    times = _fill_times(everything)
    hidden = sorted({number for number, packet in enumerate(everything) if packet.is_discard} | undecodable)
    if display_order is not None:
        times = _deal_times(times, display_order)
    first_missing = [] if not tail else [len(packets)]
    keyframes = [number for number, packet in enumerate(everything) if packet.is_keyframe]
    return PacketTable(
        pts=tuple(_separate_times(times, hidden=frozenset(hidden))),
        hidden=tuple(hidden),
        keyframes=tuple(
            _describe_keyframe(number, everything[number]) for number in sorted({*keyframes, *first_missing})
        ),
        num_missing=len(tail),
        num_undecodable=num_skipped + len(undecodable),
    )


def usual_distance(times: Sequence[int]) -> int:
    """Gives the median distance of neighbouring times in ticks (the lower one of two), at least 1."""
    ordered = sorted(times)
    gaps = [later - earlier for earlier, later in itertools.pairwise(ordered) if later > earlier]
    return statistics.median_low(gaps) if gaps else 1


def is_order_doubtful(packets: Sequence[RawPacket], *, reorder_depth: int) -> bool:
    """Whether the decoder reorders frames but no packet's pts says so: then only decoding tells the display order."""
    times = [packet.pts if packet.pts is not None else packet.dts for packet in packets]
    if reorder_depth == 0 or len(times) < 3 or None in times:
        return False
    known = [time for time in times if time is not None]
    return all(earlier < later for earlier, later in itertools.pairwise(known))


def _fill_times(packets: Sequence[RawPacket]) -> list[int]:
    known = [time for packet in packets if (time := packet.pts if packet.pts is not None else packet.dts) is not None]
    distance = usual_distance(known)
    times: list[int] = []
    for packet in packets:
        time = packet.pts if packet.pts is not None else packet.dts
        times.append(time if time is not None else times[-1] + distance if times else 0)
    return _join_epochs(packets, times, distance=distance)


def _join_epochs(packets: Sequence[RawPacket], times: list[int], *, distance: int) -> list[int]:
    """Moves each run of packets that begins with a dts before the last one, to follow the run before."""
    joined: list[int] = []
    epoch: list[int] = []
    last_dts: int | None = None
    for packet, time in zip(packets, times, strict=True):
        if packet.dts is not None:
            if last_dts is not None and packet.dts < last_dts:
                joined, epoch = _append_epoch(joined, epoch, distance=distance), []
            last_dts = packet.dts
        epoch.append(time)
    return _append_epoch(joined, epoch, distance=distance)


def _append_epoch(joined: list[int], epoch: list[int], *, distance: int) -> list[int]:
    shift = max(joined) + distance - min(epoch) if joined else 0
    return joined + [time + shift for time in epoch]


def _deal_times(times: Sequence[int], display_order: Sequence[int]) -> list[int]:
    shown = set(display_order)
    order = [*display_order, *(number for number in range(len(times)) if number not in shown)]
    dealt = [0] * len(times)
    for number, time in zip(order, sorted(times), strict=True):
        dealt[number] = time
    return dealt


def _separate_times(times: Sequence[int], *, hidden: frozenset[int]) -> list[int]:
    separated = list(times)
    previous: int | None = None
    for number in sorted((number for number in range(len(times)) if number not in hidden), key=times.__getitem__):
        if previous is not None and separated[number] <= previous:
            separated[number] = previous + 1
        previous = separated[number]
    return separated


def _describe_keyframe(number: int, packet: RawPacket) -> Keyframe:
    return Keyframe(packet_number=number, pts=packet.pts, dts=packet.dts, position=packet.position, size=packet.size)


def table_to_message(table: PacketTable) -> Message:
    """Gives the table as a JSON object."""
    return {
        "pts": list(table.pts),
        "hidden": list(table.hidden),
        "keyframes": [
            {"number": key.packet_number, "pts": key.pts, "dts": key.dts, "position": key.position, "size": key.size}
            for key in table.keyframes
        ],
        "num_missing": table.num_missing,
        "num_undecodable": table.num_undecodable,
    }


def table_from_message(message: Message) -> PacketTable:
    """Reads a table from what `table_to_message` gives.

    Raises:
        MessageError: A value is missing, of another type, or the parts contradict each other.
    """
    keyframes = tuple(
        Keyframe(
            packet_number=get_int(key, "number"),
            pts=get_optional_int(key, "pts"),
            dts=get_optional_int(key, "dts"),
            position=get_int(key, "position"),
            size=get_int(key, "size"),
        )
        for key in get_messages(message, "keyframes")
    )
    table = PacketTable(
        pts=get_ints(message, "pts"),
        hidden=get_ints(message, "hidden"),
        keyframes=keyframes,
        num_missing=get_int(message, "num_missing"),
        num_undecodable=get_int(message, "num_undecodable"),
    )
    numbers = [key.packet_number for key in keyframes]
    if not numbers or numbers[0] != 0 or numbers[-1] >= len(table.pts) or numbers != sorted(set(numbers)):
        raise MessageError(f"keyframes must begin with packet 0 and increase below {len(table.pts)}, got {numbers[:8]}")
    return table
