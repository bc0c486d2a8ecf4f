"""The rules by which a packet table is made, on tables written by hand."""

import dataclasses

import pytest

from framevault.workers.messages import MessageError, decode_message, encode_message
from framevault.workers.packets import (
    RawPacket,
    build_table,
    is_order_doubtful,
    table_from_message,
    table_to_message,
    usual_distance,
)


def packets(
    *times: int | None, dts: tuple[int | None, ...] | None = None, keys: tuple[int, ...] = (0,)
) -> list[RawPacket]:
    """Packets with these pts; dts count from 0 unless given."""
    decoding_times = dts or tuple(range(len(times)))
    return [
        RawPacket(
            pts=pts,
            dts=decoding_times[number],
            position=100 * number,
            size=10,
            is_keyframe=number in keys,
            is_discard=False,
        )
        for number, pts in enumerate(times)
    ]


def test_packets_are_shown_in_the_order_of_their_pts() -> None:
    table = build_table(packets(0, 3, 1, 2))

    assert table.frames_in_display_order() == [0, 2, 3, 1]


def test_a_packet_without_pts_takes_its_dts() -> None:
    table = build_table(packets(None, None, None, dts=(5, 6, 7)))

    assert table.pts == (5, 6, 7)


def test_a_packet_without_any_time_follows_the_one_before_at_the_usual_distance() -> None:
    table = build_table(packets(0, 40, None, 120, dts=(None, None, None, None)))

    assert table.pts == (0, 40, 80, 120)


def test_of_two_frames_with_the_same_pts_the_one_coded_later_moves_by_a_tick() -> None:
    table = build_table(packets(0, 10, 10, 11, 20))

    assert table.pts == (0, 10, 11, 12, 20)
    assert table.num_frames == 5


def test_frames_that_an_edit_list_takes_out_are_not_counted() -> None:
    raw = packets(0, 1, 2, 3)
    raw[1] = dataclasses.replace(raw[1], is_discard=True)

    table = build_table(raw)

    assert table.num_frames == 3
    assert table.frames_in_display_order() == [0, 2, 3]


def test_times_that_start_anew_follow_what_came_before() -> None:
    table = build_table(packets(0, 20, 10, 1000, 1020, 1010, dts=(0, 1, 2, 0, 1, 2), keys=(0, 3)))

    assert table.pts == (0, 20, 10, 30, 50, 40)


def test_a_hidden_packet_moves_no_frame() -> None:
    raw = packets(0, 0, 1)
    raw[0] = dataclasses.replace(raw[0], is_discard=True)

    assert build_table(raw).pts == (0, 0, 1)


def test_packets_that_are_missing_at_the_end_are_listed_as_frames() -> None:
    table = build_table(packets(0, 1, 2), tail=packets(None, None, dts=(None, None), keys=()))

    assert (table.num_frames, table.num_missing) == (5, 2)
    assert [key.packet_number for key in table.keyframes] == [0, 3]


def test_times_in_decoding_order_are_dealt_out_in_the_order_of_the_decoder() -> None:
    table = build_table(packets(0, 1, 2, 3), display_order=[0, 2, 3, 1])

    assert table.pts == (0, 3, 1, 2)


def test_the_order_is_doubtful_only_where_a_reordering_decoder_gets_times_in_order() -> None:
    assert is_order_doubtful(packets(0, 1, 2, 3), reorder_depth=2)
    assert not is_order_doubtful(packets(0, 1, 2, 3), reorder_depth=0)
    assert not is_order_doubtful(packets(0, 3, 1, 2), reorder_depth=2)


def test_the_usual_distance_is_the_median() -> None:
    assert usual_distance([0, 40, 80, 1000, 120]) == 40
    assert usual_distance([7]) == 1


def test_a_table_survives_the_way_through_a_message() -> None:
    table = build_table(packets(0, 3, 1, 2, keys=(0, 3)), tail=packets(None, keys=()), num_skipped=2)

    again = table_from_message(decode_message(encode_message(table_to_message(table))))

    assert again == table


@pytest.mark.parametrize("numbers", [[], [1], [0, 9], [0, 0]])
def test_a_table_whose_keyframes_make_no_sense_is_refused(numbers: list[int]) -> None:
    message = dict(table_to_message(build_table(packets(0, 1, 2))))
    message["keyframes"] = [{"number": n, "pts": 0, "dts": 0, "position": 0, "size": 1} for n in numbers]

    with pytest.raises(MessageError, match="keyframes must begin with packet 0"):
        table_from_message(message)
