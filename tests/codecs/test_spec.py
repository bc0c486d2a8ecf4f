"""Codec specs, their table and fingerprints."""

import dataclasses
import hashlib
import json
import pickle
from pathlib import Path

import pytest

from framevault.codecs.errors import CheckpointError, CodecError
from framevault.codecs.spec import CODECS, CodecSpec, codec_fingerprint, frames_spec, thinned, thinned_faces


def test_codec_numbers_are_what_stored_vaults_say() -> None:
    """A number once written is never changed or reused."""
    assert {name: row.number for name, row in CODECS.items()} == {
        "raw": 0,
        "dicm": 1,
        "hsc": 2,
        "dicm+hsc": 3,
    }


def test_bitstream_versions_are_what_the_format_page_specifies() -> None:
    """A codec's streams have a version of their own; a new one comes with its section in storage/FORMAT.md."""
    assert {name: row.bitstream_versions for name, row in CODECS.items()} == {
        "raw": (1,),
        "dicm": (1, 2, 9, 13),
        "hsc": (1,),
        "dicm+hsc": (1, 2, 9, 13),
    }


def test_versions_of_thinned_streams_are_what_the_format_page_specifies() -> None:
    """Thinned streams are of a version of their own."""
    assert {name: row.thinned_versions for name, row in CODECS.items() if row.thinned_versions} == {
        "dicm": {1: 3, 2: 4, 9: 10, 13: 14},
        "hsc": {1: 2},
        "dicm+hsc": {1: 3, 2: 4, 9: 10, 13: 14},
    }


def test_whole_streams_have_the_fingerprint_that_they_always_had() -> None:
    """That of a spec without slices says nothing about slices: vaults of before stay readable."""
    facts = {"codec": "raw", "number": 0, "bitstream_version": 1, "quality": None}
    facts["weights"] = hashlib.sha256(b"").hexdigest()

    expected = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    assert codec_fingerprint(CodecSpec(name="raw")) == expected


@pytest.mark.parametrize(
    ("name", "quality", "version", "slices", "expected"),
    [
        ("raw", 5, 1, None, "01de14cd51b61c8a32be882e24f378cb48344514bc0b2ae0a37ad458b331967e"),
        ("dicm", 5, 2, None, "c0e3713c87d5d5406f4fcf57666657cabef330ca09774952c60cf46a61c0bdba"),
        ("dicm", 5, 1, None, "dc3407babf1f97eac331e4fc1216e992ff5eb965d200c2c4fa6af22e85eb520f"),
        ("dicm", 5, 9, None, "8c8a4603ee1676e4204da3c0c9279be5574808b2e2fa0d043889a84637b42020"),
        ("dicm", 8, 10, 2, "2fdcffa44b31c10e3d182295ff335a956f4dfb84096f4cec8de9f9ea4e350c9e"),
        ("dicm", 5, 13, None, "bf3d16feead6f93c743c751c77b1f9c8e89c503331c25dd29f46ac3b14c70bbc"),
        ("dicm", 8, 14, 2, "ac35e007676252e179935a27bf81b5c3a935101299c4bab321d552ec58d23402"),
        ("dicm", 8, 4, 2, "399f076b9a08b025ee511413dcced64f281ba835f706afdac184a7511a9ba047"),
        ("hsc", 5, 1, None, "bcf58393bcc213f85c3c30b205d8d753d386cf80e19125e7b96f4bf5ffd17448"),
        ("hsc", 1, 2, 0, "6c1cbe5de26adbffa0ca06ecb5ed4ef4fef880f6367d5b91dda1ade6cbc83fa8"),
    ],
)
def test_fingerprints_never_change(
    tmp_path: Path, name: str, quality: int, version: int, slices: int | None, expected: str
) -> None:
    """Vaults bear them. Of made-up weights, for shipped ones may be better next time."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights")
    weights = None if name == "raw" else str(path)

    spec = CodecSpec(name=name, quality=quality, weights=weights, bitstream_version=version, slices=slices)

    assert codec_fingerprint(spec) == expected


@pytest.mark.parametrize(("name", "slices"), [("raw", 1), ("dicm", -1)])
def test_slices_that_no_stream_has_are_refused(name: str, slices: int) -> None:
    """Raw has none; none has fewer than none."""
    with pytest.raises(CodecError, match=f"codec '{name}' has no streams of {slices} slices"):
        CodecSpec(name=name, slices=slices)


def test_a_version_of_whole_streams_is_refused_for_thinned_ones_and_the_other_way_round() -> None:
    """Both are said."""
    with pytest.raises(CodecError, match="thinned to 2 slices, must be 3 or 4 or 10 or 14, got 2"):
        CodecSpec(name="dicm", slices=2, bitstream_version=2)
    with pytest.raises(CodecError, match="'dicm' must be 1 or 2 or 9 or 13, got 4"):
        CodecSpec(name="dicm", bitstream_version=4)


def test_thinning_what_has_no_slices_says_what_has() -> None:
    """The names come from the table."""
    with pytest.raises(CodecError, match=r"codec 'raw' can't be thinned, only those of dicm, dicm\+hsc, hsc"):
        thinned(CodecSpec(name="raw"), slices=1)


def test_an_unknown_codec_is_named_with_the_known_ones() -> None:
    """The error says what there is."""
    with pytest.raises(CodecError, match=r"codec must be one of dicm, dicm\+hsc, hsc, raw, got 'h264'"):
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


def test_the_codec_of_faces_is_filled_in_and_runs_where_frames_do() -> None:
    """Without being told it is the shipped one; told, it keeps all but the device."""
    own = CodecSpec(name="hsc", weights="own.safetensors", quality=2)

    shipped = CodecSpec(name="dicm+hsc", device="cuda:1")
    given = CodecSpec(name="dicm+hsc", device="cuda:1", faces=own)

    assert shipped.faces == CodecSpec(name="hsc", device="cuda:1")
    assert given.faces == dataclasses.replace(own, device="cuda:1")
    assert dataclasses.replace(given, device="cpu").faces == own
    assert pickle.loads(pickle.dumps(given)) == given


def test_faces_of_another_codec_are_refused() -> None:
    """Each error says what was expected."""
    with pytest.raises(CodecError, match="codec 'dicm' codes no faces, got codec 'hsc' for them"):
        CodecSpec(name="dicm", faces=CodecSpec(name="hsc"))
    with pytest.raises(CodecError, match=r"faces of codec 'dicm\+hsc' must be coded by codec 'hsc', got 'raw'"):
        CodecSpec(name="dicm+hsc", faces=CodecSpec(name="raw"))


def test_the_frames_of_a_spec_are_another_codec_only_where_there_are_faces() -> None:
    """All that is not about faces stays."""
    spec = CodecSpec(name="dicm+hsc", quality=7, weights="own.safetensors", device="cuda", slices=2)

    assert frames_spec(spec) == CodecSpec(name="dicm", quality=7, weights="own.safetensors", device="cuda", slices=2)
    assert frames_spec(CodecSpec(name="hsc")) == CodecSpec(name="hsc")


def test_the_fingerprint_follows_what_codes_the_faces(tmp_path: Path) -> None:
    """Its quality and its weights. What it is of made-up weights never changes."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights")
    of_both = CodecSpec(
        name="dicm+hsc", weights=str(path), bitstream_version=2, faces=CodecSpec(name="hsc", weights=str(path))
    )
    faces = [CodecSpec(name="hsc"), CodecSpec(name="hsc", quality=1), CodecSpec(name="hsc", weights=str(path))]

    fingerprints = {codec_fingerprint(CodecSpec(name="dicm+hsc", faces=each)) for each in faces}

    assert len(fingerprints) == 3
    assert codec_fingerprint(CodecSpec(name="dicm")) not in fingerprints
    assert codec_fingerprint(of_both) == "dc05b39c4db803a84daa1b4ead707ba4d102824b35415909c2e022e6164b1d66"


def test_versions_of_streams_with_thinned_faces_are_what_the_format_page_specifies() -> None:
    """Of their own, too."""
    assert {name: row.thinned_faces_versions for name, row in CODECS.items() if row.thinned_faces_versions} == {
        "dicm+hsc": {1: 5, 2: 6, 3: 7, 4: 8, 9: 11, 10: 12, 13: 15, 14: 16},
    }


@pytest.mark.parametrize("order", ["frames", "faces"])
@pytest.mark.parametrize(
    ("version", "thin_frames", "thin_faces", "thin_both"),
    [(1, 3, 5, 7), (2, 4, 6, 8), (9, 10, 11, 12), (13, 14, 15, 16)],
)
def test_frames_and_faces_can_be_thinned_in_any_order(
    version: int, thin_frames: int, thin_faces: int, thin_both: int, order: str
) -> None:
    """To the same spec; of its frames, each version is dicm's."""
    whole = CodecSpec(name="dicm+hsc", bitstream_version=version, faces=CodecSpec(name="hsc", quality=2))

    if order == "frames":
        thin = thinned_faces(thinned(whole, slices=1), slices=3)
    else:
        thin = thinned(thinned_faces(whole, slices=3), slices=1)
    faces = thinned_faces(whole, slices=3)

    assert (thin.bitstream_version, thin.slices, thin.frames_version) == (thin_both, 1, thin_frames)
    assert thin.faces == CodecSpec(name="hsc", quality=2, slices=3)
    assert frames_spec(thin) == CodecSpec(name="dicm", slices=1, bitstream_version=thin_frames)
    assert (faces.bitstream_version, faces.slices, frames_spec(faces)) == (thin_faces, None, frames_spec(whole))
    assert thinned_faces(thin, slices=0).bitstream_version == thin_both
    assert len({codec_fingerprint(spec) for spec in (whole, thin, faces, thinned_faces(thin, slices=0))}) == 4


def test_faces_can_not_be_thickened_and_none_can_not_be_thinned() -> None:
    """The error says of what it is."""
    with pytest.raises(CodecError, match="faces: streams that were thinned to 2 slices can't be thinned to 2"):
        thinned_faces(thinned_faces(CodecSpec(name="dicm+hsc"), slices=2), slices=2)
    with pytest.raises(CodecError, match=r"codec 'hsc' codes no faces besides frames, .*; dicm\+hsc does"):
        thinned_faces(CodecSpec(name="hsc"), slices=2)


def test_versions_of_whole_faces_are_refused_for_thinned_ones_and_the_other_way_round() -> None:
    """Whoever knows the older versions alone can't take one for the other."""
    with pytest.raises(CodecError, match=r"with faces thinned to 2 slices, must be 5 or 6 or 11 or 15, got 2"):
        CodecSpec(name="dicm+hsc", bitstream_version=2, faces=CodecSpec(name="hsc", slices=2))
    with pytest.raises(CodecError, match="'dicm\\+hsc' must be 1 or 2 or 9 or 13, got 6"):
        CodecSpec(name="dicm+hsc", bitstream_version=6)


def test_the_fingerprint_of_thinned_faces_never_changes(tmp_path: Path) -> None:
    """Of made-up weights."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights")
    faces = CodecSpec(name="hsc", weights=str(path))
    spec = CodecSpec(name="dicm+hsc", weights=str(path), bitstream_version=2, faces=faces)

    assert (
        codec_fingerprint(thinned_faces(spec, slices=2))
        == "621cc7494757c38d10efac4bc3aa77a3e83e915617eeeeb9c97302fea8f39c60"
    )


def test_thinning_takes_nothing_from_faces() -> None:
    """Frames get fewer slices."""
    spec = CodecSpec(name="dicm+hsc", faces=CodecSpec(name="hsc", quality=8))

    thin_spec = thinned(spec, slices=1)

    assert (thin_spec.bitstream_version, thin_spec.slices, thin_spec.faces) == (14, 1, spec.faces)
