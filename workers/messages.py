"""The lines of JSON that the decoding child and its parent exchange.

The child works on hostile input, so the parent takes nothing from it on trust: every value is read through one of the
functions below, which check its type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

Message = Mapping[str, object]
"""One line: a JSON object."""


class MessageError(ValueError):
    """A line is no JSON object, or a value is missing or of another type than expected."""


def encode_message(message: Message) -> bytes:
    """Gives the line that carries the message."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode_message(line: bytes) -> Message:
    """Reads one line.

    Raises:
        MessageError: It is no JSON object.
    """
    try:
        message = json.loads(line)
    except ValueError as error:
        raise MessageError(f"expected a line of JSON, got {line[:80]!r}") from error
    if not isinstance(message, dict):
        raise MessageError(f"expected a JSON object, got {line[:80]!r}")
    return message


def get_int(message: Message, key: str) -> int:
    """Gives the integer under the key; raises MessageError if there is none."""
    value = message.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise MessageError(f"{key} must be an integer, got {value!r:.80}")
    return value


def get_optional_int(message: Message, key: str) -> int | None:
    """Gives the integer under the key, or None where null stands; raises MessageError at anything else."""
    return None if message.get(key) is None else get_int(message, key)


def get_float(message: Message, key: str) -> float:
    """Gives the number under the key; raises MessageError if there is none."""
    value = message.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise MessageError(f"{key} must be a number, got {value!r:.80}")
    return float(value)


def get_str(message: Message, key: str) -> str:
    """Gives the string under the key; raises MessageError if there is none."""
    value = message.get(key)
    if not isinstance(value, str):
        raise MessageError(f"{key} must be a string, got {value!r:.80}")
    return value


def get_ints(message: Message, key: str) -> tuple[int, ...]:
    """Gives the list of integers under the key; raises MessageError if there is none."""
    value = message.get(key)
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise MessageError(f"{key} must be a list of integers, got {value!r:.80}")
    return tuple(value)


def get_messages(message: Message, key: str) -> tuple[Message, ...]:
    """Gives the list of objects under the key; raises MessageError if there is none."""
    value = message.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise MessageError(f"{key} must be a list of objects, got {value!r:.80}")
    return tuple(value)
