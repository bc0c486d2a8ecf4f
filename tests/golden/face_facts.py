"""Makes the golden vault of what is known of faces in streams: their places, and vectors to search by.

What readers must find is spelled out in plain Python, beside the tables that go into the vault. The second segment's
parts are written as another writer might.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.faces.framing import CodedFace, FaceRegion, join_stream
from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.spec import CodecSpec, frames_spec
from framevault.storage.face_tables import FACES_SCHEMA
from framevault.storage.face_vectors import face_vectors_schema
from framevault.storage.frame_facts import FactManifest, commit_facts, facts_key, write_facts
from framevault.storage.index import VideoManifest, commit_video
from framevault.storage.store import Store
from framevault.workers.weights import pack_settings
from tests.golden.content import (
    DICM_WEIGHTS,
    HSC_WEIGHTS,
    Content,
    GoldenFrame,
    draw_frame,
    golden_id,
    make_header,
    make_manifest,
    note_segment,
    note_video,
    store_segment,
)
from tests.golden.facts import Part, Row, make_part
from tests.golden.facts import store_facts as store_parts
from tests.golden.hsc_vaults import draw_latents

SIZE = {"height": 20, "width": 30}
"""Of frames."""

PTS = ((512, 1024, 1536), (2048, 2560))
"""Of both segments' frames."""

PLACES: tuple[tuple[int, int, int, int, int, int, int, int, bool], ...] = (
    (0, 0, 0, -5, 200, 128, 64, 255, True),
    (0, 0, 1, 0, 0, 1, 0, 0, False),
    (0, 2, 0, -(2**20), 2**20, 2**20, 255, 204, False),
    (1, 1, 0, 3, -7, 21, 1, 51, False),
    (1, 1, 1, 2, 2, 75, 128, 254, True),
)
"""Of each face its segment, frame, number; left, top and side in quarters, angle, score; whether it is outside."""

VECTORS = ((1.0, -0.5, 65504.0), (-0.0, 2.0**-24, 0.0), (0.0, 0.0, 0.0), (-65504.0, 3.0, 10.0), (0.25, 0.0, -1.0))
"""Of the faces; all exact in half precision."""


def make_face_facts(store: Store, content: Content) -> None:
    """Two segments of codec dicm+hsc, with none to two faces a frame, and parts that say where they are."""
    faces = CodecSpec(name="hsc", weights=str(HSC_WEIGHTS), quality=3)
    spec = CodecSpec(name="dicm+hsc", weights=str(DICM_WEIGHTS), quality=6, bitstream_version=1, faces=faces)
    streams = [*load_hsc(faces).bitstream.encode(*draw_latents())[:2], b""]
    coded = [_coded(place, streams[number % 3]) for number, place in enumerate(PLACES)]
    headers = [replace(make_header("pair.mp4", n, spec=spec, **SIZE), settings=pack_settings(spec)) for n in range(2)]
    segments = [_draw_segment(spec, number, coded) for number in range(2)]
    records = [store_segment(store, header, frames) for header, frames in zip(headers, segments, strict=True)]
    manifest = make_manifest(headers[0], records, name="pair.mp4")
    commit_video(store, manifest)
    note_video(content, manifest, generation=0, names=[])
    for header, frames in zip(headers, segments, strict=True):
        note_segment(content, header, frames)
    parts = {"faces": _face_parts(coded), "face_vectors": _vector_parts(coded)}
    store_parts(store, manifest, parts["faces"], kind="faces", model_fp=headers[0].codec_fingerprint[:16])
    _store_vectors(store, manifest, parts["face_vectors"])
    for kind, of_kind in parts.items():
        content.facts[kind] = {record.segment_id: part.rows for record, part in zip(records, of_kind, strict=True)}


def _coded(place: tuple[int, int, int, int, int, int, int, int, bool], stream: bytes) -> CodedFace:
    _, _, _, left, top, side, angle, score, is_outside = place
    region = FaceRegion(
        x_min=left / 4,
        y_min=top / 4,
        side=side / 4,
        angle_degrees=angle * 360 / 256,
        score=score / 255,
        is_outside=is_outside,
    )
    return CodedFace(region=region, stream=stream)


def _draw_segment(spec: CodecSpec, segment: int, coded: Sequence[CodedFace]) -> list[GoldenFrame]:
    frames_nhwc = np.stack([draw_frame(10 * segment + number, **SIZE) for number in range(len(PTS[segment]))])
    frames_nchw = torch.from_numpy(frames_nhwc).permute(0, 3, 1, 2).contiguous()
    plain = load_dicm(frames_spec(spec)).encoder(**SIZE).encode(frames_nchw)
    frames = []
    for number, (stream, pts) in enumerate(zip(plain, PTS[segment], strict=True)):
        here = [face for place, face in zip(PLACES, coded, strict=True) if place[:2] == (segment, number)]
        frames.append(GoldenFrame(stream=join_stream(stream, here), pts=pts, is_keyframe=number == 0))
    return frames


def _face_parts(coded: Sequence[CodedFace]) -> list[Part]:
    parts: list[list[Row]] = [[], []]
    for place, face in zip(PLACES, coded, strict=True):
        segment, frame_number, face_number, left, top, side, angle, score, is_outside = place
        parts[segment].append(
            {
                "frame_number": frame_number,
                "pts": PTS[segment][frame_number],
                "face_number": face_number,
                "x_min": left / 4,
                "y_min": top / 4,
                "side": side / 4,
                "angle_degrees": angle * 360 / 256,
                "score": float(np.float32(score / 255)),
                "size_bytes": len(face.stream),
                "is_outside": is_outside,
            }
        )
    return [make_part(rows, FACES_SCHEMA, is_foreign=segment == 1) for segment, rows in enumerate(parts)]


def _vector_parts(coded: Sequence[CodedFace]) -> list[Part]:
    schema = face_vectors_schema(len(VECTORS[0]))
    values = iter(VECTORS)
    parts = []
    for segment, places in enumerate(_face_parts(coded)):
        rows: list[Row] = [
            {**{name: row[name] for name in schema.names if name != "vector"}, "values": list(next(values))}
            for row in places.rows
        ]
        packed = [{**row, "vector": struct.pack("<3e", *_numbers(row["values"]))} for row in rows]
        part = make_part(packed, schema, is_foreign=segment == 1)
        parts.append(Part(table=part.table, rows=rows, foreign=part.foreign))
    return parts


def _numbers(values: object) -> list[float]:
    assert isinstance(values, list)
    return values


def _store_vectors(store: Store, manifest: VideoManifest, parts: Sequence[Part]) -> None:
    """Write vectors of faces, in one manifest of both segments."""
    model_fp = golden_id("face vectors", digits=16)
    stored = []
    for record, part in zip(manifest.segments, parts, strict=True):
        if part.foreign is not None:
            store.create(facts_key("face_vectors", model_fp, record.segment_id), part.foreign)
        segment_id, num_frames = record.segment_id, record.num_frames
        stored.append(write_facts(store, "face_vectors", model_fp, segment_id, part.table, num_frames=num_frames))
    said = FactManifest(
        kind="face_vectors",
        model_fp=model_fp,
        model="golden model (ß)",
        video_id=manifest.video_id,
        run_fp=manifest.run_fp,
        parts=tuple(stored),
    )
    commit_facts(store, said)
