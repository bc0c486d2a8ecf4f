"""A whole vault in a local folder, from FORMAT.md: what is in it, and what its streams are."""

import hashlib
import io
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.storage.independent.crc32c import crc32c
from tests.storage.independent.documents import (
    KNOWN_FEATURES,
    Members,
    fraction,
    hexadecimal,
    integer,
    number,
    objects,
    parse_document,
    pts,
    require,
    text,
    time,
    word,
)
from tests.storage.independent.packs import IndependentPack, parse_pack

VIDEO_KEY = re.compile(r"manifests/([0-9a-f]{32})/([0-9a-f]{16})-([0-9]{4}|[1-9][0-9]{4,8})\.json")
FACTS_KEY = re.compile(
    r"manifests/([0-9a-f]{32})/(labels|vectors|faces|face_vectors)/([0-9a-f]{16})/([0-9a-f]{16})\.json"
)
DETECTIONS_KEY = re.compile(r"manifests/([0-9a-f]{32})/detections/([0-9a-f]{16})/([0-9a-f]{16})\.json")
NAME_KEY = re.compile(r"names/([0-9a-f]{32})/([0-9a-f]{16})\.json")
FAILURE_KEY = re.compile(r"quarantine/([0-9a-f]{32})/([0-9]{4}|[1-9][0-9]{4,8})\.json")

FRAMES_COLUMNS = {
    "frame_number": ("INT32", "None"),
    "pts": ("INT64", "None"),
    "size_bytes": ("INT32", "None"),
    "is_keyframe": ("BOOLEAN", "None"),
    "is_independent": ("BOOLEAN", "None"),
}
OUTSIDE_COLUMN = {"is_outside": ("BOOLEAN", "None")}
DETECTIONS_COLUMNS = {
    "frame_number": ("INT32", "None"),
    "pts": ("INT64", "None"),
    "label": ("BYTE_ARRAY", "String"),
    "label_id": ("INT32", "Int(bitWidth=16, isSigned=true)"),
    **dict.fromkeys(("score", "x_min", "y_min", "x_max", "y_max"), ("FLOAT", "None")),
}
MASK_COLUMN = {"mask_rle": ("BYTE_ARRAY", "String")}
LABELS_COLUMNS = {
    "rank": ("INT32", "Int(bitWidth=16, isSigned=true)"),
    **{name: DETECTIONS_COLUMNS[name] for name in ("frame_number", "pts", "label", "label_id", "score")},
}
VECTORS_COLUMNS = {
    "frame_number": ("INT32", "None"),
    "pts": ("INT64", "None"),
    "vector": ("FIXED_LEN_BYTE_ARRAY", "None"),
}
PLACE_COLUMNS = {
    "frame_number": ("INT32", "None"),
    "pts": ("INT64", "None"),
    "face_number": ("INT32", "Int(bitWidth=16, isSigned=true)"),
    **dict.fromkeys(("x_min", "y_min", "side"), ("FLOAT", "None")),
}
FACES_COLUMNS = {
    **PLACE_COLUMNS,
    **dict.fromkeys(("angle_degrees", "score"), ("FLOAT", "None")),
    "size_bytes": ("INT32", "None"),
    "is_outside": ("BOOLEAN", "None"),
}
FACE_VECTORS_COLUMNS = {**PLACE_COLUMNS, "vector": ("FIXED_LEN_BYTE_ARRAY", "None")}
FACT_KINDS = ("labels", "vectors", "faces", "face_vectors")
MOST_VALUES = 65536


@dataclass
class IndependentVault:
    """All that counts in a vault."""

    folder: Path
    videos: dict[tuple[str, str], Members] = field(default_factory=dict)
    """By video_id and run_fp: the manifest of the highest generation, if anything is left of the run."""
    detections: list[Members] = field(default_factory=list)
    """All detection manifests."""
    facts: dict[str, list[Members]] = field(default_factory=lambda: {kind: [] for kind in FACT_KINDS})
    """All manifests of each kind of facts."""
    names: dict[str, set[str]] = field(default_factory=dict)
    """By video_id."""
    failures: dict[str, Members] = field(default_factory=dict)
    """By subject_id: the latest."""

    def pack(self, manifest: Members, segment: Members) -> IndependentPack:
        """Read a segment's pack and check it against the manifest and the frames part."""
        key = ref_key(segment, "pack")
        pack = parse_pack(key, self.read_ref(segment["pack"]))
        frames = pack.frames
        found = (pack.header["segment_id"], pack.header["video_id"], len(frames), frames[0].pts, frames[-1].pts)
        said = tuple(segment[name] for name in ("segment_id", "video_id", "num_frames", "first_pts", "last_pts"))
        require(found == said, f"{key}: is {found}, must be {said}")
        for name in ("codec", "bitstream_version", "quality", "codec_fingerprint", "time_base"):
            require(pack.header[name] == manifest[name], f"{key}: has another {name} than the manifest")
        require(sum(frame.length for frame in frames) == segment["payload_bytes"], f"{key}: payload_bytes")
        rows = self.rows(segment, "frames", columns=FRAMES_COLUMNS | OUTSIDE_COLUMN if pack.outside else FRAMES_COLUMNS)
        expected = [
            {
                "frame_number": frame_number,
                "pts": frame.pts,
                "size_bytes": frame.length,
                "is_keyframe": frame.is_keyframe,
                "is_independent": frame.is_independent,
                **({"is_outside": frame_number in pack.outside} if pack.outside else {}),
            }
            for frame_number, frame in enumerate(frames)
        ]
        require(rows == expected, f"{key}: the frames part has other rows")
        return pack

    def detected(self, part: Members, *, has_masks: bool = False) -> list[dict[str, Any]]:
        """Read the rows of a detections part."""
        columns = DETECTIONS_COLUMNS | MASK_COLUMN if has_masks else DETECTIONS_COLUMNS
        rows = self.rows(part, "part", columns=columns)
        require(len(rows) == part["num_detections"], "another number of detections")
        check_numbers(rows, part)
        require(all(0 <= row["score"] <= 1 for row in rows), "scores must be 0 to 1")
        require(all(row["x_min"] <= row["x_max"] and row["y_min"] <= row["y_max"] for row in rows), "impossible box")
        return rows

    def labels(self, part: Members) -> list[dict[str, Any]]:
        """Read the rows of a labels part."""
        rows = self.rows(part, "part", columns=LABELS_COLUMNS)
        require(len(rows) == part["num_rows"], "another number of labels")
        check_numbers(rows, part)
        require(all(0 <= row["score"] <= 1 for row in rows), "scores must be 0 to 1")
        before = {"frame_number": -1}
        for row in rows:
            is_first = row["frame_number"] != before["frame_number"]
            require(row["rank"] == (1 if is_first else before["rank"] + 1), "ranks must be 1, 2, 3 and so on")
            require(is_first or row["score"] <= before["score"], "scores must not rise")
            before = row
        return rows

    def vectors(self, part: Members) -> list[dict[str, Any]]:
        """Read the rows of a vectors part; a vector is a tuple of numbers."""
        rows = self.rows(part, "part", columns=VECTORS_COLUMNS)
        require(len(rows) == part["num_rows"], "another number of vectors")
        check_numbers(rows, part)
        require(len({row["frame_number"] for row in rows}) == len(rows), "one vector a frame")
        unpack_vectors(rows)
        return rows

    def faces(self, part: Members) -> list[dict[str, Any]]:
        """Read the rows of a faces part."""
        rows = self.rows(part, "part", columns=FACES_COLUMNS)
        check_faces(rows, part)
        require(all(0 <= row["angle_degrees"] < 360 for row in rows), "angles must be 0 to less than 360")
        require(all(0 <= row["score"] <= 1 for row in rows), "scores must be 0 to 1")
        require(all(row["size_bytes"] >= 0 for row in rows), "sizes must not be negative")
        return rows

    def face_vectors(self, part: Members) -> list[dict[str, Any]]:
        """Read the rows of a face_vectors part; a vector is a tuple of numbers."""
        rows = self.rows(part, "part", columns=FACE_VECTORS_COLUMNS)
        check_faces(rows, part)
        unpack_vectors(rows)
        return rows

    def rows(self, members: Members, name: str, *, columns: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
        """Read a Parquet part that a ref names; unknown columns are left out."""
        file = pq.ParquetFile(io.BytesIO(self.read_ref(members[name])))
        found = {
            column.name: (column.physical_type, str(column.logical_type))
            for column in map(file.schema.column, range(len(file.schema.names)))
            if column.name in columns
        }
        require(found == columns, f"columns must be {columns}, are {found}")
        rows: list[dict[str, Any]] = file.read(columns=list(columns)).to_pylist()
        return rows

    def read_ref(self, ref: Members) -> bytes:
        """Read an object, checked."""
        data = (self.folder / check_key(text(ref, "key"))).read_bytes()
        require(len(data) == integer(ref, "size_bytes", 0, 2**40), f"{ref['key']}: wrong size")
        require(crc32c(data) == int(hexadecimal(ref, "crc32c", 8), 16), f"{ref['key']}: wrong CRC")
        return data


def check_numbers(rows: Sequence[Mapping[str, Any]], part: Members) -> None:
    """Check the frame numbers of a part."""
    numbers = [row["frame_number"] for row in rows]
    require(numbers == sorted(numbers), "rows must be sorted by frame")
    require(all(0 <= each < part["num_frames"] for each in numbers), "rows of other frames")


def check_faces(rows: Sequence[Mapping[str, Any]], part: Members) -> None:
    """Check which faces the rows of a part are about, and where those are."""
    require(len(rows) == part["num_rows"], "another number of faces")
    check_numbers(rows, part)
    before: Mapping[str, Any] = {"frame_number": -1}
    for row in rows:
        is_first = row["frame_number"] != before["frame_number"]
        require(row["face_number"] == (0 if is_first else before["face_number"] + 1), "faces must be 0, 1, 2 and so on")
        require(all(math.isfinite(row[name]) for name in ("x_min", "y_min", "side")), "squares must be finite")
        require(row["side"] > 0, "sides must be above 0")
        before = row


def unpack_vectors(rows: Sequence[dict[str, Any]]) -> None:
    """Turn the bytes of vectors into tuples of numbers."""
    for row in rows:
        length, rest = divmod(len(row["vector"]), 2)
        require(rest == 0 and 1 <= length <= MOST_VALUES, "a vector of another length")
        row["vector"] = struct.unpack(f"<{length}e", row["vector"])
        require(all(map(math.isfinite, row["vector"])), "vectors must be finite")


def open_vault(folder: Path) -> IndependentVault:
    """Read all documents of a vault."""
    parse_document("vault.json", (folder / "vault.json").read_bytes(), kind="framevault")
    keys = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    required = {key.removeprefix("requires/").removesuffix(".json") for key in keys if key.startswith("requires/")}
    require(required <= KNOWN_FEATURES, f"the vault requires {required}")
    vault = IndependentVault(folder)
    for key in sorted(keys, key=lambda key: (len(key), key)):  # longer numbers are higher ones
        data = (folder / key).read_bytes()
        if match := VIDEO_KEY.fullmatch(key):
            vault.videos[match[1], match[2]] = parse_video(key, data, ids=match.groups())
        elif match := DETECTIONS_KEY.fullmatch(key):
            vault.detections.append(parse_detections(key, data, ids=match.groups()))
        elif match := FACTS_KEY.fullmatch(key):
            vault.facts[match[2]].append(parse_facts(key, data, ids=match.groups()))
        elif match := NAME_KEY.fullmatch(key):
            vault.names.setdefault(match[1], set()).add(parse_name(key, data, ids=match.groups()))
        elif match := FAILURE_KEY.fullmatch(key):
            vault.failures[match[1]] = parse_failure(key, data, subject_id=match[1])
    vault.videos = {key: video for key, video in vault.videos.items() if video["segments"] or video["missing"]}
    said = {(each["video_id"], each["run_fp"], each["detector_fp"], has_masks(each)) for each in vault.detections}
    require(len({each[:3] for each in said}) == len(said), "manifests that count together must agree about masks")
    return vault


def check_key(key: str) -> str:
    """Return a key that leads nowhere else."""
    is_plain = 1 <= len(key) <= 512 and all(" " <= letter <= "~" and letter != "\\" for letter in key)
    require(is_plain and not {"", ".", ".."} & set(key.split("/")), f"{key!r} is no key")
    return key


def ref_key(members: Members, name: str) -> str:
    """Return the key that a ref names."""
    require(isinstance(members.get(name), dict), f"{name} must be a ref")
    return check_key(text(members[name], "key"))


def parse_video(key: str, data: bytes, *, ids: Sequence[str]) -> Members:
    """Check a video manifest."""
    members = parse_document(key, data, kind="framevault manifest")
    found = (hexadecimal(members, "video_id", 32), hexadecimal(members, "run_fp", 16), integer(members, "generation"))
    require(found == (ids[0], ids[1], int(ids[2])), f"{key}: lies under another key")
    for name in ("name", "source_url", "source_version", "container", "source_codec", "sampling"):
        text(members, name)
    for name, low, high in (
        ("source_bytes", 0, 2**63 - 1),
        ("num_source_frames", 0, 2**63 - 1),
        ("width", 1, 2**20),
        ("height", 1, 2**20),
        ("bitstream_version", 1, 65535),
        ("quality", 0, 1000),
    ):
        integer(members, name, low, high)
    number(members, "fps")
    number(members, "duration_s")
    fraction(members, "time_base")
    word(members, "codec")
    hexadecimal(members, "codec_fingerprint", 64)
    time(members, "created_at")
    for segment in objects(members, "segments"):
        require(segment.get("video_id") == ids[0], f"{key}: a segment of another video")
        integer(segment, "num_frames", 1, 2**24)
        integer(segment, "payload_bytes", 0, 2**40)
        ref_key(segment, "pack")
        ref_key(segment, "frames")
    for segment in objects(members, "missing"):
        integer(segment, "num_frames", 0, 2**31 - 1)
        text(segment, "reason")
    for name in ("segments", "missing"):
        order = [(pts(segment, "first_pts"), hexadecimal(segment, "segment_id", 32)) for segment in members[name]]
        require(order == sorted(order), f"{key}: {name} must be sorted")
        require(all(segment["first_pts"] <= pts(segment, "last_pts") for segment in members[name]), f"{key}: pts")
    all_ids = [segment["segment_id"] for name in ("segments", "missing") for segment in members[name]]
    require(len(set(all_ids)) == len(all_ids), f"{key}: a segment twice")
    return members


def parse_detections(key: str, data: bytes, *, ids: Sequence[str]) -> Members:
    """Check a detection manifest."""
    members = parse_document(key, data, kind="framevault detections")
    require(hashlib.sha256(data).hexdigest()[:16] == ids[2], f"{key}: wrong digest")
    require((members.get("video_id"), members.get("detector_fp")) == (ids[0], ids[1]), f"{key}: wrong ids")
    hexadecimal(members, "run_fp", 16)
    text(members, "detector")
    number(members, "score_floor")
    require(isinstance(members.get("has_masks", False), bool), f"{key}: has_masks must be true or false")
    check_parts(key, members, count="num_detections")
    return members


def has_masks(members: Members) -> bool:
    """Say whether the parts of a detection manifest have masks."""
    return bool(members.get("has_masks", False))


def parse_facts(key: str, data: bytes, *, ids: Sequence[str]) -> Members:
    """Check a labels or vectors manifest."""
    members = parse_document(key, data, kind=f"framevault {ids[1]}")
    require(hashlib.sha256(data).hexdigest()[:16] == ids[3], f"{key}: wrong digest")
    require((members.get("video_id"), members.get("model_fp")) == (ids[0], ids[2]), f"{key}: wrong ids")
    hexadecimal(members, "run_fp", 16)
    text(members, "model")
    check_parts(key, members, count="num_rows")
    return members


def check_parts(key: str, members: Members, *, count: str) -> None:
    """Check what a manifest says about its parts."""
    parts = objects(members, "parts")
    names = [hexadecimal(part, "segment_id", 32) for part in parts]
    require(names == sorted(set(names)), f"{key}: parts must be sorted, one a segment")
    for part in parts:
        integer(part, "num_frames", 1, 2**24)
        integer(part, count, 0, 2**31 - 1)
        ref_key(part, "part")


def parse_name(key: str, data: bytes, *, ids: Sequence[str]) -> str:
    """Check a name document and return the name."""
    members = parse_document(key, data, kind="framevault name")
    name = text(members, "name")
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    require((members.get("video_id"), digest) == (ids[0], ids[1]), f"{key}: lies under another key")
    text(members, "source_url")
    return name


def parse_failure(key: str, data: bytes, *, subject_id: str) -> Members:
    """Check a failure document."""
    members = parse_document(key, data, kind="framevault failure")
    require(hexadecimal(members, "subject_id", 32) == subject_id, f"{key}: lies under another key")
    hexadecimal(members, "video_id", 32)
    for name in ("name", "source_url", "reason", "command"):
        text(members, name)
    require(members.get("category") in {"input", "killed", "environment", "bug"}, f"{key}: unknown category")
    for name in ("attempts", "num_frames"):
        integer(members, name, 0, 2**31 - 1)
    for name in ("first_pts", "last_pts"):
        require(name in members, f"{key}: no {name}")
        if members[name] is not None:
            pts(members, name)
    time(members, "created_at")
    return members
