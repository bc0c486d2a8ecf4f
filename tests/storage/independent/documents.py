"""Documents of a vault, from FORMAT.md: JSON with the checksum in front."""

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.storage.independent.crc32c import crc32c

SEAL = re.compile(rb'\{"crc32c":"([0-9a-f]{8})"')
WORD = re.compile(r"[a-z0-9][a-z0-9_+.-]{0,63}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
KNOWN_FEATURES: set[str] = set()

Members = Mapping[str, Any]
"""Of a JSON object. Any: this reader checks values where it uses them."""


class FormatError(ValueError):
    """Bytes that are not as FORMAT.md says."""


def require(condition: bool, problem: str) -> None:
    """Raise FormatError unless something holds."""
    if not condition:
        raise FormatError(problem)


def parse_object(where: str, text: bytes) -> dict[str, Any]:
    """Parse one JSON object in ASCII, without a member twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        require(len({name for name, _ in pairs}) == len(pairs), f"{where}: a member twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise FormatError(f"{where}: {constant}")

    def finite(digits: str) -> float:
        require(abs(float(digits)) < float("inf"), f"{where}: {digits} is too large")
        return float(digits)

    hooks: dict[str, Any] = {"object_pairs_hook": unique, "parse_constant": refuse, "parse_float": finite}
    try:
        found = json.loads(text.decode("ascii"), **hooks)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FormatError(f"{where}: {error}") from error
    require(isinstance(found, dict), f"{where}: no object")
    return dict(found)


def parse_document(key: str, data: bytes, *, kind: str) -> dict[str, Any]:
    """Check a document and return its members."""
    match = SEAL.match(data)
    require(match is not None, f"{key}: no document")
    assert match is not None
    require(int(match[1], 16) == crc32c(data[20:]), f"{key}: wrong CRC")
    require(data.endswith(b"}\n"), f"{key}: no line feed at the end")
    members = parse_object(key, data)
    require(members.get("format") == kind, f"{key}: must be a {kind!r}")
    require(integer(members, "version", 0, 2**63 - 1) == 1, f"{key}: version {members['version']} is not known")
    check_requires(key, members)
    return members


def check_requires(where: str, members: Members) -> None:
    """Refuse what requires an unknown feature."""
    names = members.get("requires")
    require(isinstance(names, list) and all(is_word(name) for name in names), f"{where}: requires must be names")
    assert isinstance(names, list)
    require(set(names) <= KNOWN_FEATURES, f"{where}: requires {names}")


def is_word(value: object) -> bool:
    """Say whether this is the name of a codec or feature."""
    return isinstance(value, str) and WORD.fullmatch(value) is not None


def integer(members: Members, name: str, low: int = 0, high: int = 2**63 - 1) -> int:
    """Return an integer member in a range."""
    value = members.get(name)
    require(type(value) is int and low <= value <= high, f"{name} must be an integer from {low} to {high}: {value}")
    return int(members[name])


def pts(members: Members, name: str) -> int:
    """Return a time stamp."""
    return integer(members, name, -(2**63) + 1, 2**63 - 1)


def number(members: Members, name: str) -> float:
    """Return a finite number, not negative."""
    value = members.get(name)
    require(type(value) in {int, float}, f"{name} must be a number: {value}")
    require(0 <= members[name] < float("inf"), f"{name} must be finite and not negative: {value}")
    return float(members[name])


def text(members: Members, name: str) -> str:
    """Return a string member."""
    require(isinstance(members.get(name), str), f"{name} must be a string")
    return str(members[name])


def word(members: Members, name: str) -> str:
    """Return the name of a codec."""
    require(is_word(members.get(name)), f"{name} must be a word")
    return str(members[name])


def hexadecimal(members: Members, name: str, length: int) -> str:
    """Return so many hex digits."""
    value = text(members, name)
    require(re.fullmatch(f"[0-9a-f]{{{length}}}", value) is not None, f"{name} must be {length} hex digits: {value}")
    return value


def time(members: Members, name: str) -> str:
    """Return a time."""
    value = text(members, name)
    require(TIME.fullmatch(value) is not None, f"{name} must be a time: {value}")
    return value


def fraction(members: Members, name: str) -> tuple[int, int]:
    """Return numerator and denominator."""
    value = members.get(name)
    require(isinstance(value, list) and len(value) == 2, f"{name} must be two integers")
    pair = {"numerator": members[name][0], "denominator": members[name][1]}
    return integer(pair, "numerator", 1, 2**31 - 1), integer(pair, "denominator", 1, 2**31 - 1)


def objects(members: Members, name: str) -> list[Members]:
    """Return a list of objects."""
    value = members.get(name)
    require(isinstance(value, list) and all(isinstance(each, dict) for each in value), f"{name} must be objects")
    return list(members[name])
