"""Makes the golden vaults: small ones of every kind, which every later version must read and decode to the same.

::

    PYTHONPATH=.src python -m tests.golden.make_golden NAME

makes the folder `tests/golden/NAME` and, beside it, `NAME.json` with what is in it: made from what went in, not by
reading the vault. Golden vaults are made once and never again; a new kind or version is a new row of `MAKERS`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import SegmentState, SkipRule
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec, codec_fingerprint, weights_digest
from framevault.storage.detections import DetectionManifest, commit_detections, write_detections
from framevault.storage.index import (
    MissingSegment,
    SegmentRecord,
    VideoManifest,
    add_name,
    commit_video,
    write_segment,
)
from framevault.storage.packs import PackHeader, PackWriter
from framevault.storage.quarantine import Failure, write_failure
from framevault.storage.schema import detections_table
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from tests.golden.dicm_checkpoint import save_small_checkpoint
from tests.golden.facts import label_parts, mask_parts, store_facts, store_masks, vector_parts

FOLDER = Path(__file__).parent
"""Where golden vaults lie."""

DICM_WEIGHTS = FOLDER / "dicm.safetensors"
"""Checkpoint of the golden dicm vaults."""

WRITTEN_AT = "2026-11-21T17:00:00Z"
"""Time in all documents."""

LABELS = ("person", "car", "Straßenlaterne")
"""Of a detector that there never was."""

TIME_BASE = (1, 12800)
"""Seconds a tick."""


@dataclass(kw_only=True)
class Content:
    """What a golden vault holds; becomes the JSON beside it."""

    videos: list[dict[str, object]] = field(default_factory=list)
    """Each with its manifest's facts and its segments with their frames."""
    detections: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    """Rows, by segment_id."""
    facts: dict[str, dict[str, list[dict[str, object]]]] = field(default_factory=dict)
    """Rows by kind (masks, labels, vectors) and segment_id; JSON older than this has none."""
    failures: dict[str, dict[str, object]] = field(default_factory=dict)
    """Members of the failure that counts, by subject_id."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file, by key."""


@dataclass(frozen=True, kw_only=True)
class GoldenFrame:
    """A frame that goes in."""

    stream: bytes
    """Its stream."""
    pts: int
    """Its time."""
    is_keyframe: bool = False
    """Of the source."""
    is_independent: bool = True
    """Of earlier streams."""
    decoded_sha256: str | None = None
    """Of what the stream decodes to: RGB bytes [H, W, 3], or int32 latents; None if no codec made it."""

    def expected(self) -> dict[str, object]:
        """Return what a reader must find."""
        return {
            "pts": self.pts,
            "size_bytes": len(self.stream),
            "is_keyframe": self.is_keyframe,
            "is_independent": self.is_independent,
            "stream_sha256": digest(self.stream),
            "decoded_sha256": self.decoded_sha256,
        }


def digest(data: bytes) -> str:
    """Return the SHA-256."""
    return hashlib.sha256(data).hexdigest()


def golden_id(*parts: object, digits: int = 32) -> str:
    """Return hex digits that follow from some values."""
    return digest(repr(parts).encode())[:digits]


def draw_frame(number: int, *, height: int, width: int) -> NDArray[np.uint8]:
    """Draw frame `number`, RGB uint8 [height, width, 3]: slopes that drift, a block that moves, a little noise."""
    y, x = np.mgrid[:height, :width]
    frame_hwc: NDArray[np.uint8] = np.stack([3 * x + number, 2 * y + 5 * number, x + y], axis=2).astype(np.uint8)
    top, left = (3 * number) % (height - 8), (5 * number) % (width - 8)
    frame_hwc[top : top + 8, left : left + 8] = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    return frame_hwc


def make_header(video: str, segment: int, *, spec: CodecSpec, height: int, width: int) -> PackHeader:
    """Return the header of a segment that was turned by 90 degrees."""
    return PackHeader(
        video_id=golden_id(video),
        segment_id=golden_id(video, segment),
        codec=spec.name,
        bitstream_version=spec.bitstream_version,
        codec_fingerprint=codec_fingerprint(spec),
        weights_digest=weights_digest(spec),
        quality=spec.quality,
        coded_height=height,
        coded_width=width,
        source_height=width,
        source_width=height,
        time_base=TIME_BASE,
        rotation_degrees=90,
        sample_aspect_ratio=(4, 3),
        colour="bt709 limited",
        sampling="all",
    )


def make_manifest(
    header: PackHeader, segments: Sequence[SegmentRecord], *, name: str, missing: Sequence[MissingSegment] = ()
) -> VideoManifest:
    """Return the manifest of a video."""
    return VideoManifest(
        video_id=header.video_id,
        run_fp=golden_id(header.codec_fingerprint, digits=16),
        name=name,
        source_url=f"/footage/{name}",
        source_bytes=123_456,
        source_version="123456-1700000000",
        container="mov,mp4,m4a,3gp,3g2,mj2",
        source_codec="h264",
        width=header.coded_width,
        height=header.coded_height,
        time_base=header.time_base,
        fps=25,
        duration_s=0.4,
        num_source_frames=10,
        codec=header.codec,
        bitstream_version=header.bitstream_version,
        quality=header.quality,
        codec_fingerprint=header.codec_fingerprint,
        sampling=header.sampling,
        segments=tuple(segments),
        missing=tuple(missing),
        created_at=WRITTEN_AT,
    )


def make_failure(header: PackHeader, *, name: str, reason: str) -> Failure:
    """Return the failure of a segment of ten frames."""
    return Failure(
        subject_id=header.segment_id,
        video_id=header.video_id,
        name=name,
        source_url=f"/footage/{name}",
        category="killed",
        reason=reason,
        attempts=3,
        first_pts=10_000_000,
        last_pts=10_004_608,
        num_frames=10,
        command=f"framevault compress /footage/{name} /vault --retry-failed",
        created_at=WRITTEN_AT,
    )


def missing_of(failure: Failure) -> MissingSegment:
    """Return what a manifest says of a failed segment."""
    assert failure.first_pts is not None
    assert failure.last_pts is not None
    return MissingSegment(
        segment_id=failure.subject_id,
        first_pts=failure.first_pts,
        last_pts=failure.last_pts,
        num_frames=failure.num_frames,
        reason=failure.reason,
    )


def store_segment(store: Store, header: PackHeader, frames: Sequence[GoldenFrame]) -> SegmentRecord:
    """Write a segment."""
    writer = PackWriter(header)
    for frame in frames:
        writer.add(frame.stream, pts=frame.pts, is_keyframe=frame.is_keyframe, is_independent=frame.is_independent)
    return write_segment(store, writer.finish())


def note_video(content: Content, manifest: VideoManifest, *, generation: int, names: Sequence[str]) -> None:
    """Note a video; its segments follow."""
    content.videos.append(
        {
            "video_id": manifest.video_id,
            "run_fp": manifest.run_fp,
            "generation": generation,
            "codec": manifest.codec,
            "bitstream_version": manifest.bitstream_version,
            "names": sorted(names),
            "missing": [segment.segment_id for segment in manifest.missing],
            "segments": {},
        }
    )


def note_segment(content: Content, header: PackHeader, frames: Sequence[GoldenFrame]) -> None:
    """Note a segment of the latest video."""
    segments = content.videos[-1]["segments"]
    assert isinstance(segments, dict)
    segments[header.segment_id] = [frame.expected() for frame in frames]


def store_failure(store: Store, content: Content, failure: Failure) -> None:
    """Write a failure that counts from now on."""
    write_failure(store, failure)
    content.failures[failure.subject_id] = {each.name: getattr(failure, each.name) for each in fields(failure)}


def store_detections(store: Store, content: Content, manifest: VideoManifest, pts: dict[str, list[int]]) -> None:
    """Write detections: two objects in each even frame."""
    detector_fp = golden_id("detector", digits=16)
    parts = []
    for record in manifest.segments:
        rows = []
        content.detections[record.segment_id] = expected = []
        for frame_number in range(0, record.num_frames, 2):
            boxes = np.array([[0, 0.5, 10, 20.25], [30, 31, 30, 40 + frame_number]], np.float32)
            scores, labels = np.array([1, 0.125], np.float32), np.array([2, frame_number % 3])
            frame_pts = pts[record.segment_id][frame_number]
            rows.append((frame_number, frame_pts, boxes, scores, labels))
            for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
                values = (frame_number, frame_pts, LABELS[label], label, score, *box)
                names = ("frame_number", "pts", "label", "label_id", "score", "x_min", "y_min", "x_max", "y_max")
                expected.append(dict(zip(names, values, strict=True)))
        table = detections_table(rows, labels=LABELS)
        parts.append(write_detections(store, detector_fp, record.segment_id, table, num_frames=record.num_frames))
    for number in range(len(parts)):  # two runs, each over one segment more
        found = DetectionManifest(
            detector_fp=detector_fp,
            detector="golden",
            video_id=manifest.video_id,
            run_fp=manifest.run_fp,
            score_floor=0.05,
            parts=tuple(parts[: number + 1]),
        )
        commit_detections(store, found)


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


def make_dicm(store: Store, content: Content) -> None:
    """A video of one segment of odd size, coded by a small random checkpoint that is golden too."""
    spec = CodecSpec(name="dicm", weights=str(DICM_WEIGHTS), quality=6, bitstream_version=1)
    if not DICM_WEIGHTS.exists():
        save_small_checkpoint(DICM_WEIGHTS)
    size = {"height": 75, "width": 100}
    header = make_header("street.mp4", 0, spec=spec, **size)
    frames_nhwc = np.stack([draw_frame(number, **size) for number in range(6)])
    codec = load_dicm(spec)
    symbols = codec.bitstream.find_symbols(*codec.latents(torch.from_numpy(frames_nhwc).permute(0, 3, 1, 2)))
    streams = codec.bitstream.write_symbols(symbols)
    latents = symbols.latent16_nmhw.int().cpu().numpy().astype("<i4")
    frames = [
        GoldenFrame(stream=stream, pts=512 * number, is_keyframe=number == 0, decoded_sha256=digest(latent.tobytes()))
        for number, (stream, latent) in enumerate(zip(streams, latents, strict=True))
    ]
    manifest = make_manifest(header, [store_segment(store, header, frames)], name="street.mp4")
    commit_video(store, manifest)
    note_video(content, manifest, generation=0, names=[])
    note_segment(content, header, frames)


def make_dicm_video(store: Store, content: Content) -> None:
    """A video of one segment, coded by bitstream version 2: an intra frame, and predicted ones."""
    spec = CodecSpec(name="dicm", weights=str(DICM_WEIGHTS), quality=6, bitstream_version=2)
    size = {"height": 75, "width": 100}
    header = make_header("crossing.mp4", 0, spec=spec, **size)
    frames_nhwc = np.repeat(draw_frame(0, **size)[None], 6, axis=0)
    for number in range(2, 6):
        frames_nhwc[number, :32, : 16 * number] = draw_frame(number, **size)[:32, : 16 * number]
    codec = load_dicm(spec)
    assert codec.video is not None
    latents = codec.latents(torch.from_numpy(frames_nhwc).permute(0, 3, 1, 2))
    rule = SkipRule(most_coded=1.1, least_gain=0.2, dead_zone=0.5)
    streams = codec.video.encode(SegmentState(), *latents, rule=rule)
    grid = LatentGrid(*latents[0].shape[2:])
    decoded = codec.video.decode(SegmentState(), streams, grid, device="cpu").int().numpy().astype("<i4")
    frames = [
        GoldenFrame(
            stream=stream,
            pts=512 * number,
            is_keyframe=number == 0,
            is_independent=codec.is_independent(stream),
            decoded_sha256=digest(latent.tobytes()),
        )
        for number, (stream, latent) in enumerate(zip(streams, decoded, strict=True))
    ]
    manifest = make_manifest(header, [store_segment(store, header, frames)], name="crossing.mp4")
    commit_video(store, manifest)
    note_video(content, manifest, generation=0, names=[])
    note_segment(content, header, frames)


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


MAKERS: dict[str, Callable[[Store, Content], None]] = {
    "v1-raw": make_raw,
    "v1-edges": make_edges,
    "v1-dicm": make_dicm,
    "v1-dicm-video": make_dicm_video,
    "v1-facts": make_facts,
}
"""Every golden vault, by its folder's name."""


def make(name: str) -> None:
    """Make a golden vault, which must not be there yet."""
    folder = FOLDER / name
    if folder.exists():
        raise FileExistsError(f"{folder} is golden: it is never made again")
    content = Content()
    MAKERS[name](open_vault(str(folder), create=True), content)
    (folder / ".tmp").rmdir()
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    content.files = {path.relative_to(folder).as_posix(): digest(path.read_bytes()) for path in paths}
    plain: dict[str, Any] = {each.name: getattr(content, each.name) for each in fields(content)}
    (FOLDER / f"{name}.json").write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n", encoding="ascii")


if __name__ == "__main__":
    for each in sys.argv[1:]:
        make(each)
