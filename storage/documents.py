"""Small JSON objects that carry their own checksum: vault.json, manifests, names and quarantine.

A document is canonical JSON (sorted keys, no spaces, ASCII) and a final line feed. Its member `crc32c` is the CRC32C of
the canonical JSON of all the others. There is one way to write a document, so every flipped byte is found. ASCII, since
file names of Linux may hold bytes that are no text: Python has lone surrogates for them, which UTF-8 has not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NoReturn

from google_crc32c import value as crc32c

from framevault.storage.errors import ChecksumError, DamagedError
from framevault.storage.store import ObjectRef, check_key

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""What JSON can hold."""

FORMAT_VERSION = 0
"""Version of everything a vault holds. 0: may change until frozen."""

LARGEST_INTEGER = 2**63 - 1
"""Integers in documents fit in 64 bits, signed."""


def canonical_json(value: object) -> bytes:
    """Return the one JSON text of a value.

    Raises:
        ValueError: It holds a NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seal(body: Mapping[str, object]) -> bytes:
    """Return a document with a body's members and their checksum."""
    return canonical_json({**body, "crc32c": f"{crc32c(canonical_json(body)):08x}"}) + b"\n"


def unseal(key: str, payload: bytes) -> Fields:
    """Return the body of a document.

    Raises:
        ChecksumError: It is not what was written; names the key.
    """
    body = parse_json(key, payload)
    if not isinstance(body, dict):
        raise ChecksumError(f"{key}: must hold one JSON object, holds {type(body).__name__}")
    stated = body.pop("crc32c", None)
    found = f"{crc32c(canonical_json(body)):08x}"
    if stated != found:
        raise ChecksumError(f"{key}: the content must have CRC32C {stated}, has {found}")
    if seal(body) != payload:
        raise ChecksumError(f"{key}: must be canonical JSON and a line feed")
    return Fields(key, body)


def parse_json(key: str, payload: bytes) -> JsonValue:
    """Parse JSON that may be anything.

    Raises:
        ChecksumError: It is no JSON, or none that we write; names the key.
    """
    try:
        value: JsonValue = json.loads(payload.decode("utf-8"), parse_constant=_refuse_constant)
        canonical_json(value)
    except (ValueError, RecursionError) as error:
        raise ChecksumError(f"{key}: must be JSON: {error}") from error
    return value


def ref_members(ref: ObjectRef) -> dict[str, object]:
    """Return the members of an `ObjectRef` in a document."""
    return {"key": ref.key, "size_bytes": ref.size_bytes, "crc32c": f"{ref.crc32c:08x}"}


class Fields:
    """Reads members of a JSON object and checks their types.

    Every method raises `DamagedError`, with the key and the member's name, where the member is not what it must be.
    """

    def __init__(self, key: str, members: dict[str, JsonValue]) -> None:
        """Take the members; the key is for messages."""
        self.key = key
        """Of the object they come from."""
        self._members = members

    def check_kind(self, kind: str) -> None:
        """Check `format` and `version`."""
        if (found := self.text("format")) != kind:
            self._fail("format", repr(kind), found)
        if (version := self.integer("version")) != FORMAT_VERSION:
            self._fail("version", f"{FORMAT_VERSION}", version)

    def text(self, name: str) -> str:
        """Return a string."""
        value = self._get(name)
        return value if isinstance(value, str) else self._fail(name, "a string", value)

    def hexadecimal(self, name: str, *, length: int) -> str:
        """Return a string of so many hex digits."""
        value = self.text(name)
        if len(value) != length or not set(value) <= set("0123456789abcdef"):
            self._fail(name, f"{length} hex digits", value)
        return value

    def integer(self, name: str, *, minimum: int = 0, maximum: int = LARGEST_INTEGER) -> int:
        """Return an integer in a range."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            self._fail(name, f"an integer from {minimum} to {maximum}", value)
        return value

    def pts(self, name: str) -> int:
        """Return a time stamp: any 64-bit integer."""
        return self.integer(name, minimum=-LARGEST_INTEGER)

    def pts_or_none(self, name: str) -> int | None:
        """Return a time stamp or None."""
        return None if self._get(name) is None else self.pts(name)

    def number(self, name: str) -> float:
        """Return a finite number, not negative."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            self._fail(name, "a number, not negative", value)
        return value

    def fraction(self, name: str) -> tuple[int, int]:
        """Return numerator and denominator, both positive."""
        value = self._get(name)
        if not isinstance(value, list) or len(value) != 2:
            self._fail(name, "two integers", value)
        pair = Fields(f"{self.key}: {name}", {"numerator": value[0], "denominator": value[1]})
        largest = 2**31 - 1
        return (
            pair.integer("numerator", minimum=1, maximum=largest),
            pair.integer("denominator", minimum=1, maximum=largest),
        )

    def mapping(self, name: str) -> dict[str, JsonValue]:
        """Return an object as it is."""
        value = self._get(name)
        return value if isinstance(value, dict) else self._fail(name, "an object", value)

    def items(self, name: str) -> Iterator[Fields]:
        """Give the objects of a list."""
        value = self._get(name)
        if not isinstance(value, list):
            self._fail(name, "a list", value)
        for number, item in enumerate(value):
            if not isinstance(item, dict):
                self._fail(f"{name}[{number}]", "an object", item)
            yield Fields(f"{self.key}: {name}[{number}]", item)

    def object_ref(self, name: str) -> ObjectRef:
        """Return where another object is and what it must be."""
        members = Fields(f"{self.key}: {name}", self.mapping(name))
        crc = members.hexadecimal("crc32c", length=8)
        return ObjectRef(
            key=check_key(members.text("key")), size_bytes=members.integer("size_bytes"), crc32c=int(crc, base=16)
        )

    def _get(self, name: str) -> JsonValue:
        if name not in self._members:
            raise DamagedError(f"{self.key}: has no member {name!r}")
        return self._members[name]

    def _fail(self, name: str, expected: str, value: JsonValue) -> NoReturn:
        raise DamagedError(f"{self.key}: {name} must be {expected}, got {str(value)[:100]!r}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
