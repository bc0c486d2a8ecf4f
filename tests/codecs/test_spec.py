"""Codec specs, their table and fingerprints."""

import hashlib
import json
from pathlib import Path

import pytest

from framevault.codecs.errors import CheckpointError, CodecError
from framevault.codecs.spec import CODECS, CodecSpec, codec_fingerprint, thinned


def test_codec_numbers_are_what_stored_vaults_say() -> None:
    """A number once written is never changed or reused."""
    assert {name: row.number for name, row in CODECS.items()} == {"raw": 0, "dicm": 1, "hsc": 2}


def test_bitstream_versions_are_what_the_format_page_specifies() -> None:
    """A codec's streams have a version of their own; a new one comes with its section in storage/FORMAT.md."""
    assert {name: row.bitstream_versions for name, row in CODECS.items()} == {"raw": (1,), "dicm": (1, 2), "hsc": (1,)}


def test_versions_of_thinned_streams_are_what_the_format_page_specifies() -> None:
    """Thinned streams are of a version of their own."""
    assert {name: row.thinned_versions for name, row in CODECS.items() if row.thinned_versions} == {
        "dicm": {1: 3, 2: 4},
        "hsc": {1: 2},
    }


def test_whole_streams_have_the_fingerprint_that_they_always_had() -> None:
    """That of a spec without slices says nothing about slices: vaults of before stay readable."""
    facts = {"codec": "raw", "number": 0, "bitstream_version": 1, "quality": None}
    facts["weights"] = hashlib.sha256(b"").hexdigest()

    expected = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    assert codec_fingerprint(CodecSpec(name="raw")) == expected


@pytest.mark.parametrize(("name", "slices"), [("raw", 1), ("dicm", -1)])
def test_slices_that_no_stream_has_are_refused(name: str, slices: int) -> None:
    """Raw has none; none has fewer than none."""
    with pytest.raises(CodecError, match=f"codec '{name}' has no streams of {slices} slices"):
        CodecSpec(name=name, slices=slices)


def test_a_version_of_whole_streams_is_refused_for_thinned_ones_and_the_other_way_round() -> None:
    """Both are said."""
    with pytest.raises(CodecError, match="thinned to 2 slices, must be 3 or 4, got 2"):
        CodecSpec(name="dicm", slices=2, bitstream_version=2)
    with pytest.raises(CodecError, match="'dicm' must be 1 or 2, got 4"):
        CodecSpec(name="dicm", bitstream_version=4)


def test_thinning_what_has_no_slices_says_what_has() -> None:
    """The names come from the table."""
    with pytest.raises(CodecError, match="streams of codec 'raw' can't be thinned, only those of dicm"):
        thinned(CodecSpec(name="raw"), slices=1)


def test_an_unknown_codec_is_named_with_the_known_ones() -> None:
    """The error says what there is."""
    with pytest.raises(CodecError, match="codec must be one of dicm, hsc, raw, got 'h264'"):
        CodecSpec(name="h264")


@pytest.mark.parametrize("quality", [0, 9, -1])
def test_a_quality_out_of_range_is_refused(quality: int) -> None:
    """1 to 8."""
    with pytest.raises(CodecError, match=f"quality must be 1 to 8, got {quality}"):
        CodecSpec(name="dicm", quality=quality)


def test_the_fingerprint_follows_quality_only_where_it_matters() -> None:
    """Raw has no quality; dicm's streams differ with it."""
    raw = {codec_fingerprint(CodecSpec(name="raw", quality=quality)) for quality in (1, 8)}
    dicm = {codec_fingerprint(CodecSpec(name="dicm", quality=quality)) for quality in (1, 8)}

    assert (len(raw), len(dicm)) == (1, 2)


def test_other_weights_give_another_fingerprint(tmp_path: Path) -> None:
    """The digest is of the file's bytes, also after it was rewritten in place."""
    path = tmp_path / "weights.safetensors"
    fingerprints = set()

    for content in (b"one", b"other"):
        path.write_bytes(content)
        fingerprints.add(codec_fingerprint(CodecSpec(name="dicm", weights=str(path))))

    assert len(fingerprints) == 2


def test_missing_weights_are_named(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        codec_fingerprint(CodecSpec(name="dicm", weights=str(tmp_path / "none.safetensors")))
