"""JSON objects with their own checksum."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framevault.storage.documents import Fields, JsonValue, canonical_json, seal, unseal
from framevault.storage.errors import ChecksumError, DamagedError

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(value=JSON_VALUES)
def test_what_is_sealed_is_unsealed(value: JsonValue) -> None:
    payload = seal({"value": value})

    assert canonical_json(unseal("x", payload)._members) == canonical_json({"value": value})


def test_every_flipped_bit_is_found() -> None:
    payload = seal({"version": 0, "name": "ä", "list": [1, 2.5, None, True], "format": "framevault"})

    for position in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[position] ^= 1 << bit
            with pytest.raises(ChecksumError, match=r"^vault\.json: "):
                unseal("vault.json", bytes(damaged))


def test_every_truncation_and_addition_is_found() -> None:
    payload = seal({"version": 0})

    for damaged in [*(payload[:length] for length in range(len(payload))), payload + b"\n", b" " + payload]:
        with pytest.raises(ChecksumError):
            unseal("x", damaged)


@pytest.mark.parametrize(
    "payload", [b"[" * 100_000, b"NaN", b"[]", b'{"a":1e999}', b"\xff", b'"\\ud800"', b"1" * 10_000]
)
def test_what_is_no_document_is_refused_in_words(payload: bytes) -> None:
    with pytest.raises(ChecksumError, match=r"^names/x\.json: must "):
        unseal("names/x.json", payload)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (lambda fields: fields.text("m"), 1, "m must be a string, got '1'"),
        (lambda fields: fields.integer("m"), True, "m must be an integer from 0"),
        (lambda fields: fields.integer("m"), -1, "m must be an integer from 0"),
        (lambda fields: fields.pts("m"), 2**63, "m must be an integer from -9223372036854775807"),
        (lambda fields: fields.number("m"), -0.5, "m must be a number, not negative"),
        (lambda fields: fields.fraction("m"), [1, 0], "denominator must be an integer from 1"),
        (lambda fields: fields.fraction("m"), [1], "m must be two integers"),
        (lambda fields: fields.hexadecimal("m", length=4), "12G4", "m must be 4 hex digits"),
        (lambda fields: list(fields.items("m")), [1], r"m\[0\] must be an object"),
        (lambda fields: fields.object_ref("m"), {"key": "../x", "size_bytes": 1, "crc32c": "0" * 8}, "plain relative"),
        (lambda fields: fields.text("other"), 1, "has no member 'other'"),
    ],
)
def test_a_member_of_the_wrong_kind_is_named(read: object, value: JsonValue, expected: str) -> None:
    assert callable(read)

    with pytest.raises(DamagedError, match=expected):
        read(Fields("manifests/x.json", {"m": value}))
