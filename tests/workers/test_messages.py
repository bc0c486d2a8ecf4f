"""The lines between parent and child: nothing of another type than expected gets through."""

from collections.abc import Callable

import pytest

from framevault.workers.messages import (
    Message,
    MessageError,
    decode_message,
    encode_message,
    get_float,
    get_int,
    get_ints,
    get_messages,
    get_optional_int,
    get_str,
)


def test_a_message_comes_back_as_it_was_sent() -> None:
    message = {"text": "line\nbreak", "number": 3, "none": None, "list": [1, 2]}

    assert decode_message(encode_message(message)) == message
    assert encode_message(message).count(b"\n") == 1


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"3", b"\xff\xfe"])
def test_a_line_that_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(MessageError, match="expected a"):
        decode_message(line)


@pytest.mark.parametrize(
    ("read", "values"),
    [
        (get_int, [None, "1", 1.5, True, [1]]),
        (get_optional_int, ["1", 1.5, True]),
        (get_float, [None, "1", True]),
        (get_str, [None, 1, ["a"]]),
        (get_ints, [None, 1, [1, "2"], [True], [1.0]]),
        (get_messages, [None, {}, [1], [None]]),
    ],
)
def test_a_value_of_another_type_is_refused(read: Callable[[Message, str], object], values: list[object]) -> None:
    for value in values:
        with pytest.raises(MessageError, match="key must be"):
            read({"key": value}, "key")


def test_values_of_the_right_type_are_given() -> None:
    message = {"int": 3, "none": None, "float": 1.5, "str": "a", "ints": [1, 2], "objects": [{"a": 1}]}

    assert get_int(message, "int") == 3
    assert get_optional_int(message, "none") is None
    assert (get_float(message, "float"), get_float(message, "int")) == (1.5, 3.0)
    assert get_str(message, "str") == "a"
    assert get_ints(message, "ints") == (1, 2)
    assert get_messages(message, "objects") == ({"a": 1},)
