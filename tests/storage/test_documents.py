"""JSON objects with their own checksum."""

from __future__ import annotations

from pathlib import Path

import pytest
from google_crc32c import value as crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from framevault.storage.documents import Fields, JsonValue, canonical_json, seal, unseal
from framevault.storage.errors import ChecksumError, DamagedError, UnsupportedError

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(value=JSON_VALUES)
def test_what_is_sealed_is_unsealed(value: JsonValue) -> None:
    payload = seal({"value": value}, kind="a kind", version=3)

    stored = dict(unseal("x", payload)._members)
    checksum = stored.pop("crc32c")

    assert payload.startswith(b'{"crc32c":"%s",' % str(checksum).encode())
    assert canonical_json(stored) == canonical_json({"value": value, "format": "a kind", "version": 3, "requires": []})


def test_every_flipped_bit_is_found() -> None:
    payload = seal({"name": "ä", "list": [1, 2.5, None, True]}, kind="framevault", version=1)

    for position in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[position] ^= 1 << bit
            with pytest.raises(ChecksumError, match=r"^vault\.json: "):
                unseal("vault.json", bytes(damaged))


def test_every_truncation_and_addition_is_found() -> None:
    payload = seal({}, kind="framevault", version=1)

    for damaged in [*(payload[:length] for length in range(len(payload))), payload + b"\n", b" " + payload]:
        with pytest.raises(ChecksumError):
            unseal("x", damaged)


def test_a_document_starts_with_the_checksum_of_all_that_follows() -> None:
    document = seal({}, kind="framevault", version=1)

    assert document == b'{"crc32c":"61c7634b","format":"framevault","requires":[],"version":1}\n'
    assert document[:20] == b'{"crc32c":"%08x"' % crc32c(document[20:])


def test_the_example_of_the_format_page_is_true() -> None:
    page = (Path(__file__).parents[2] / "storage" / "FORMAT.md").read_text()

    assert "    " + seal({}, kind="framevault", version=1).decode() in page


def test_a_document_of_version_0_is_refused_and_told_what_to_do() -> None:
    document = b'{"codec":"raw","crc32c":"%08x","format":"framevault manifest","version":0}\n' % crc32c(
        b'{"codec":"raw","format":"framevault manifest","version":0}'
    )

    with pytest.raises(UnsupportedError, match=r"^manifests/x: is of version 0, .*: compress the sources again"):
        unseal("manifests/x", document)
    with pytest.raises(ChecksumError, match="must start with the checksum"):
        unseal("manifests/x", document.replace(b"raw", b"rau"))


def test_another_version_and_unknown_features_are_refused_in_words() -> None:
    document = seal({}, kind="framevault name", version=7)
    rest = document[20:].replace(b'"requires":[]', b'"requires":["b","a"]')
    requiring = b'{"crc32c":"%08x"' % crc32c(rest) + rest

    with pytest.raises(UnsupportedError, match=r"^x: is of version 7, this framevault reads version 1; use"):
        unseal("x", document).check_kind("framevault name", version=1)
    with pytest.raises(UnsupportedError, match=r"^x: needs 'a', 'b', which this framevault does not know"):
        unseal("x", requiring).check_kind("framevault name", version=7)
    with pytest.raises(DamagedError, match=r"^x: format must be 'framevault failure', got 'framevault name'"):
        unseal("x", document).check_kind("framevault failure", version=7)


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
        (lambda fields: fields.object_ref("m"), {"key": "x", "size_bytes": 2**40 + 1, "crc32c": "0" * 8}, "size_bytes"),
        (lambda fields: fields.text("other"), 1, "has no member 'other'"),
        (lambda fields: fields.word("m"), "Raw", "m must be a name of a-z, 0-9"),
        (lambda fields: fields.word("m"), "a" * 65, "m must be a name"),
        (lambda fields: fields.words("m"), ["a", 1], "m must be a list of names"),
        (lambda fields: fields.time("m"), "2033-01-31 23:59:59", "m must be a time as 2033-01-31T23:59:59Z"),
        (lambda fields: fields.choice("m", (0, 90)), 45, r"m must be one of \(0, 90\)"),
    ],
)
def test_a_member_of_the_wrong_kind_is_named(read: object, value: JsonValue, expected: str) -> None:
    assert callable(read)

    with pytest.raises(DamagedError, match=expected):
        read(Fields("manifests/x.json", {"m": value}))
