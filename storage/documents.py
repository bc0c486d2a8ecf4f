"""Small JSON objects that carry their own checksum: vault.json, manifests, names and quarantine.

A document starts with its checksum, which is of the bytes that follow: `{"crc32c":"0123abcd"` and then `,"format":...}`
and a line feed. So every flipped byte is found, and a reader in any language can check it before it parses anything.
ASCII, since file names of Linux may hold bytes that are no text: Python has lone surrogates for them, UTF-8 nothing.

What stays the same in every later version: the checksum, and the members `format`, `version` and `requires`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NoReturn

from google_crc32c import value as crc32c

from framevault.storage.errors import ChecksumError, DamagedError, UnsupportedError
from framevault.storage.store import ObjectRef, check_key

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""What JSON can hold."""

KNOWN_FEATURES: frozenset[str] = frozenset()
"""Names that may stand in `requires`; an object that requires another one is refused. Version 1 began with none."""

VERSION_0_ADVICE = (
    "is of version 0, from before the format was frozen: compress the sources again, into a new vault, "
    "or use framevault 0.1 as of format version 0"
)
"""What to do with what was written before version 1; follows an object's name."""

SEAL = re.compile(rb'\{"crc32c":"([0-9a-f]{8})"')
"""First 20 bytes of a document."""

WORD = re.compile(r"[a-z0-9][a-z0-9_+.-]{0,63}")
"""Names of codecs and features."""

TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
"""ISO 8601 in UTC, to the second."""

LARGEST_INTEGER = 2**63 - 1
"""Integers in documents fit in 64 bits, signed."""

LARGEST_COUNT = 2**31 - 1
"""Of frames in one segment, rows of one part, attempts: what fits in a column of 32 bits."""

LARGEST_OBJECT = 2**40
"""Bytes of an object that a ref may name: a million of them still add up in 64 bits."""


def canonical_json(value: object) -> bytes:
    """Return the one JSON text that we write for a value.

    Raises:
        ValueError: It holds a NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seal(body: Mapping[str, object], *, kind: str, version: int) -> bytes:
    """Return a document with a body's members and what every document has."""
    members = {**body, "format": kind, "version": version, "requires": []}
    rest = b"," + canonical_json(members)[1:] + b"\n"
    return b'{"crc32c":"%08x"' % crc32c(rest) + rest


def unseal(key: str, payload: bytes) -> Fields:
    """Return the members of a document; see `Fields.check_kind` for what to do first.

    Raises:
        ChecksumError: It is not what was written; names the key.
        UnsupportedError: It was written by version 0.
    """
    match = SEAL.match(payload)
    if match is None or match[1] != b"%08x" % crc32c(payload[match.end() :]):
        if _is_of_version_0(payload):
            raise UnsupportedError(f"{key}: {VERSION_0_ADVICE}")
        if match is None:
            raise ChecksumError(f"{key}: must start with the checksum of a document, starts with {payload[:20]!r}")
        found = crc32c(payload[match.end() :])
        raise ChecksumError(f"{key}: the content must have CRC32C {match[1].decode()}, has {found:08x}")
    body = parse_json(key, payload)
    if not isinstance(body, dict) or not payload.endswith(b"}\n"):
        raise ChecksumError(f"{key}: must be one JSON object and a line feed, ends with {payload[-20:]!r}")
    return Fields(key, body)


def parse_json(key: str, payload: bytes) -> JsonValue:
    """Parse JSON that may be anything.

    Raises:
        ChecksumError: It is no JSON, has a name twice in one object, or bytes that are no ASCII; names the key.
    """
    try:
        value: JsonValue = json.loads(
            payload.decode("ascii"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_unique_members,
        )
    except (ValueError, RecursionError) as error:
        raise ChecksumError(f"{key}: must be JSON: {error}") from error
    return value


def json_depth(value: JsonValue) -> int:
    """Return how deep objects and lists stand in each other."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(json_depth, inner), default=0)


def check_requires(key: str, names: list[str]) -> None:
    """Check that nothing is required which this version does not know.

    Raises:
        UnsupportedError: Something is; names it.
    """
    if unknown := sorted(set(names) - KNOWN_FEATURES):
        raise UnsupportedError(
            f"{key}: needs {', '.join(map(repr, unknown))}, which this framevault does not know; use a newer one"
        )


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

    def check_kind(self, kind: str, *, version: int) -> None:
        """Check `format`, `version` and `requires`.

        Raises:
            UnsupportedError: The document is of another version, or requires what this version does not know.
        """
        if (found := self.text("format")) != kind:
            self._fail("format", repr(kind), found)
        self.check_version(version)

    def check_version(self, version: int) -> None:
        """Check `version` and `requires`; raises `UnsupportedError` too."""
        if (found := self.integer("version")) != version:
            raise UnsupportedError(
                f"{self.key}: is of version {found}, this framevault reads version {version}; use a newer one"
            )
        check_requires(self.key, self.words("requires"))

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

    def word(self, name: str) -> str:
        """Return the name of a codec."""
        value = self.text(name)
        return value if WORD.fullmatch(value) else self._fail(name, "a name of a-z, 0-9, _ + . and -", value)

    def words(self, name: str) -> list[str]:
        """Return a list of names of features."""
        value = self._get(name)
        if not isinstance(value, list) or not all(isinstance(word, str) and WORD.fullmatch(word) for word in value):
            self._fail(name, "a list of names of a-z, 0-9, _ + . and -", value)
        return [str(word) for word in value]

    def time(self, name: str) -> str:
        """Return a time as it is written."""
        value = self.text(name)
        return value if TIME.fullmatch(value) else self._fail(name, "a time as 2033-01-31T23:59:59Z", value)

    def integer(self, name: str, *, minimum: int = 0, maximum: int = LARGEST_INTEGER) -> int:
        """Return an integer in a range."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            self._fail(name, f"an integer from {minimum} to {maximum}", value)
        return value

    def flag(self, name: str) -> bool:
        """Return whether something holds; a member that is not there says no."""
        value = self._members.get(name, False)
        return value if isinstance(value, bool) else self._fail(name, "true or false", value)

    def integer_or_none(self, name: str) -> int | None:
        """Return an integer, not negative; None if the member is not there."""
        return self.integer(name) if name in self._members else None

    def choice(self, name: str, allowed: tuple[int, ...]) -> int:
        """Return one of a few integers."""
        value = self.integer(name)
        return value if value in allowed else self._fail(name, f"one of {allowed}", value)

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

    def pairs(self, name: str) -> tuple[tuple[int, int], ...]:
        """Return a list of pairs of integers, none of them negative; an empty one if the member is not there."""
        value = self._members.get(name, [])
        if not isinstance(value, list):
            self._fail(name, "a list of pairs of integers", value)
        found: list[tuple[int, int]] = []
        for number, pair in enumerate(value):
            if not isinstance(pair, list) or len(pair) != 2:
                self._fail(f"{name}[{number}]", "two integers", pair)
            numbers = Fields(f"{self.key}: {name}[{number}]", {"first": pair[0], "second": pair[1]})
            found.append((numbers.integer("first"), numbers.integer("second")))
        return tuple(found)

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
            key=check_key(members.text("key")),
            size_bytes=members.integer("size_bytes", maximum=LARGEST_OBJECT),
            crc32c=int(crc, base=16),
        )

    def _get(self, name: str) -> JsonValue:
        if name not in self._members:
            raise DamagedError(f"{self.key}: has no member {name!r}")
        return self._members[name]

    def _fail(self, name: str, expected: str, value: JsonValue) -> NoReturn:
        raise DamagedError(f"{self.key}: {name} must be {expected}, got {str(value)[:100]!r}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large")
    return value


def _unique_members(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _is_of_version_0(payload: bytes) -> bool:
    """Say whether this is a sound document of version 0, whose checksum was of the canonical text of all the others."""
    try:
        body = parse_json("", payload)
    except ChecksumError:
        return False
    if not isinstance(body, dict) or body.get("version") != 0:
        return False
    stated = body.pop("crc32c", None)
    return stated == f"{crc32c(canonical_json(body)):08x}"
