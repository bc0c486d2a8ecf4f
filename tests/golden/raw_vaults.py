"""Makes the golden vaults without checkpoints: raw frames, packs at the edges of what they can be, and facts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec
from framevault.storage.index import MissingSegment, commit_video
from framevault.storage.names import add_name
from framevault.storage.quarantine import write_failure
from framevault.storage.store import Store
from tests.golden.content import (
    Content,
    GoldenFrame,
    digest,
    draw_frame,
    golden_id,
    make_failure,
    make_header,
    make_manifest,
    missing_of,
    note_segment,
    note_video,
    store_detections,
    store_failure,
    store_segment,
)
from tests.golden.facts import label_parts, mask_parts, store_facts, store_masks, vector_parts


def encode_raw(numbers: range, *, height: int, width: int) -> list[GoldenFrame]:
    """Encode drawn frames; each decodes to itself."""
    frames_nhwc = np.stack([draw_frame(number, height=height, width=width) for number in numbers])
    encoder = load_codec(CodecSpec(name="raw")).encoder(height=height, width=width)
    streams = encoder.encode(torch.from_numpy(frames_nhwc).permute(0, 3, 1, 2))
    return [
        GoldenFrame(
            stream=stream,
            pts=512 * number + (number == 3),
            is_keyframe=position == 0,
            decoded_sha256=digest(frame_hwc.tobytes()),
        )
        for position, (number, stream, frame_hwc) in enumerate(zip(numbers, streams, frames_nhwc, strict=True))
    ]


def make_raw(store: Store, content: Content) -> None:
    """A turned video of two segments, one of which came later, under two names, with a failure and detections."""
    spec, size = CodecSpec(name="raw"), {"height": 48, "width": 64}
    headers = [make_header("walk.mp4", segment, spec=spec, **size) for segment in range(3)]
    segments = [encode_raw(range(6), **size), encode_raw(range(6, 10), **size)]
    records = [store_segment(store, header, frames) for header, frames in zip(headers, segments, strict=False)]
    failure = make_failure(headers[2], name="walk.mp4", reason='the decoder was killed: "signal 9" (Ä)')
    second = MissingSegment(
        segment_id=headers[1].segment_id,
        first_pts=records[1].first_pts,
        last_pts=records[1].last_pts,
        num_frames=4,
        reason="not yet",
    )
    manifest = make_manifest(headers[0], records[:1], name="walk.mp4", missing=[second, missing_of(failure)])
    commit_video(store, manifest)
    manifest = replace(manifest, segments=tuple(records), missing=(missing_of(failure),))
    commit_video(store, manifest)
    names = ["walk.mp4", b"caf\xe9/\xc3\xa4 b.mp4".decode("utf-8", "surrogateescape")]
    for name in names:
        add_name(store, manifest.video_id, name=name, source_url=f"/footage/{name}")
    note_video(content, manifest, generation=1, names=names)
    for header, frames in zip(headers, segments, strict=False):
        note_segment(content, header, frames)
    write_failure(store, replace(failure, attempts=1, category="bug", reason="an earlier one"))
    store_failure(store, content, failure)
    unreadable = golden_id("letter.mp4")
    store_failure(
        store,
        content,
        replace(failure, subject_id=unreadable, video_id=unreadable, first_pts=None, last_pts=None, num_frames=0),
    )
    pts = {
        header.segment_id: [frame.pts for frame in frames] for header, frames in zip(headers, segments, strict=False)
    }
    store_detections(store, content, manifest, pts)


def make_edges(store: Store, content: Content) -> None:
    """Packs at the edges of what a pack can be, of a codec that nobody knows."""
    header = replace(
        make_header("edges", 0, spec=CodecSpec(name="raw"), height=2**20, width=1),
        codec="opaque.v2",
        bitstream_version=65535,
        codec_fingerprint="f" * 64,
        quality=1000,
        settings={"nested": {"list": [1, -2.5e-7, None, True, "ä\n\U0001f600"]}},
        time_base=(2**31 - 1, 1),
        rotation_degrees=0,
    )
    largest = 2**63 - 1
    wide = [
        GoldenFrame(stream=b"", pts=-largest, is_keyframe=True),
        GoldenFrame(stream=bytes(range(256)) * 3, pts=-largest + 1, is_independent=False),
        GoldenFrame(stream=b"", pts=-1, is_keyframe=True, is_independent=False),
        GoldenFrame(stream=b"x", pts=largest - 2, is_independent=False),
    ]
    empty = [GoldenFrame(stream=b"", pts=largest - 1), GoldenFrame(stream=b"", pts=largest, is_independent=False)]
    second = replace(header, segment_id=golden_id("edges", 1))
    records = [store_segment(store, header, wide), store_segment(store, second, empty)]
    manifest = make_manifest(header, records, name="edges")
    commit_video(store, manifest)
    note_video(content, manifest, generation=0, names=[])
    note_segment(content, header, wide)
    note_segment(content, second, empty)


def make_facts(store: Store, content: Content) -> None:
    """Two segments of empty frames, with boxes, masks, labels and vectors; half of the parts by another writer."""
    spec, size = CodecSpec(name="raw"), {"height": 150, "width": 130}
    headers = [make_header("empty.mp4", segment, spec=spec, **size) for segment in range(2)]
    frame_hwc = np.full((size["height"], size["width"], 3), 7, np.uint8)
    (stream,) = load_codec(spec).encoder(**size).encode(torch.from_numpy(frame_hwc).permute(2, 0, 1)[None])
    pts = [[512, 1024, 1536], [2048, 2560]]
    segments = [
        [GoldenFrame(stream=stream, pts=each, decoded_sha256=digest(frame_hwc.tobytes())) for each in of_segment]
        for of_segment in pts
    ]
    records = [store_segment(store, header, frames) for header, frames in zip(headers, segments, strict=True)]
    manifest = make_manifest(headers[0], records, name="empty.mp4")
    commit_video(store, manifest)
    note_video(content, manifest, generation=0, names=[])
    for header, frames in zip(headers, segments, strict=True):
        note_segment(content, header, frames)
    store_detections(store, content, manifest, {record.segment_id: pts[n] for n, record in enumerate(records)})
    model_fp = golden_id("model", digits=16)
    parts = {"masks": mask_parts(pts, **size), "labels": label_parts(pts), "vectors": vector_parts(pts)}
    store_masks(store, manifest, parts["masks"], detector_fp=golden_id("detector with masks", digits=16))
    store_facts(store, manifest, parts["labels"], kind="labels", model_fp=model_fp)
    store_facts(store, manifest, parts["vectors"], kind="vectors", model_fp=model_fp)
    for kind, of_kind in parts.items():
        content.facts[kind] = {record.segment_id: part.rows for record, part in zip(records, of_kind, strict=True)}
