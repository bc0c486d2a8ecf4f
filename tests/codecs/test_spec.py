"""Codec specs, their table and fingerprints."""

from pathlib import Path

import pytest

from framevault.codecs.errors import CheckpointError, CodecError
from framevault.codecs.spec import CODECS, CodecSpec, codec_fingerprint


def test_codec_numbers_are_what_stored_vaults_say() -> None:
    """A number once written is never changed or reused."""
    assert {name: row.number for name, row in CODECS.items()} == {"raw": 0, "dicm": 1}


def test_bitstream_versions_are_what_the_format_page_specifies() -> None:
    """A codec's streams have a version of their own; a new one comes with its section in storage/FORMAT.md."""
    assert {name: row.bitstream_versions for name, row in CODECS.items()} == {"raw": (1,), "dicm": (1, 2)}


def test_an_unknown_codec_is_named_with_the_known_ones() -> None:
    """The error says what there is."""
    with pytest.raises(CodecError, match="codec must be one of dicm, raw, got 'h264'"):
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
