"""Makes the golden vault of codec dicm+hsc: streams of the golden checkpoints of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from framevault.codecs.dicm.codec import grid_of, load_dicm
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.faces.codec import FacesCodec
from framevault.codecs.faces.framing import CodedFace, FaceRegion, join_stream
from framevault.codecs.hsc.codec import HscCodec
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec, frames_spec, thinned, thinned_faces, weights_digest
from framevault.storage.documents import JsonValue
from framevault.storage.index import commit_video
from framevault.storage.store import Store
from tests.golden.content import (
    DICM_WEIGHTS,
    HSC_WEIGHTS,
    Content,
    GoldenFrame,
    digest,
    make_header,
    make_manifest,
    note_segment,
    note_video,
    store_segment,
)
from tests.golden.hsc_vaults import draw_latents
from tests.golden.thin_vaults import SIZE, encode

FACES_QUALITY = 3
"""Of faces; frames have 6."""

PLACES = (
    (1, 0, 0, 1, 0, 0, False),
    (2, -1, -64, 127, 1, 128, True),
    (2, 63, 64, 128, 64, 255, False),
    (4, -8192, 8191, 16383, 128, 1, True),
    (4, 2**20, -(2**20), 2**20, 255, 254, False),
    (4, 200, 100, 16384, 0, 204, False),
)
"""Of each face its frame, left, top and side in quarters, angle, score, and whether it is outside the domain."""

Row = dict[str, object]
"""What a reader must find of a face."""


def make_dicm_hsc(store: Store, content: Content) -> None:
    """Six frames of two groups, with none to three faces, one of them of no bytes: whole, and thinned to one slice."""
    faces = CodecSpec(name="hsc", weights=str(HSC_WEIGHTS), quality=FACES_QUALITY)
    spec = CodecSpec(name="dicm+hsc", weights=str(DICM_WEIGHTS), quality=6, bitstream_version=2, faces=faces)
    codec = load_codec(spec)
    assert isinstance(codec, FacesCodec)
    rows, coded = draw_faces(codec.faces)
    plain = encode(codec.frames)
    store_run(store, content, spec, plain, rows, coded)
    store_run(store, content, thinned(spec, slices=1), codec.frames.thinner(**SIZE, slices=1).thin(plain), rows, coded)


def make_thinned_faces(store: Store, content: Content) -> None:
    """The same frames and faces, whose faces were thinned to two slices; then all to none and frames to one."""
    faces = CodecSpec(name="hsc", weights=str(HSC_WEIGHTS), quality=FACES_QUALITY)
    whole = CodecSpec(name="dicm+hsc", weights=str(DICM_WEIGHTS), quality=6, bitstream_version=2, faces=faces)
    codec = load_codec(whole)
    assert isinstance(codec, FacesCodec)
    plain = encode(codec.frames)
    for spec, frames in (
        (thinned_faces(whole, slices=2), plain),
        (thinned_faces(thinned(whole, slices=1), slices=0), codec.frames.thinner(**SIZE, slices=1).thin(plain)),
    ):
        assert spec.faces is not None
        rows, coded = draw_faces(codec.faces, slices=spec.faces.slices)
        store_run(store, content, spec, frames, rows, coded)


def draw_faces(codec: HscCodec, *, slices: int | None = None) -> tuple[list[Row], list[CodedFace]]:
    """Return faces as they go in, and what a reader must find of them."""
    streams = [*codec.bitstream.encode(*draw_latents()), b""]
    decoded = codec.bitstream.decode(streams, device="cpu", slices=slices)
    if slices is not None:
        streams = codec.thinner(height=1, width=1, slices=slices).thin(streams)
    values_nm = torch.cat([decoded.core_nk, decoded.latent16_nmgg.flatten(1)], dim=1).int().numpy().astype("<i4")
    rows: list[Row] = []
    coded = []
    for place, stream, values in zip(PLACES, streams, values_nm, strict=True):
        frame_number, left, top, side, angle, score, is_outside = place
        row = {"frame_number": frame_number, "left": left, "top": top, "side": side, "angle": angle, "score": score}
        shas = {"stream_sha256": digest(stream), "decoded_sha256": digest(values.tobytes())}
        rows.append({**row, "is_outside": is_outside, **shas})
        region = FaceRegion(
            x_min=left / 4,
            y_min=top / 4,
            side=side / 4,
            angle_degrees=angle * 360 / 256,
            score=score / 255,
            is_outside=is_outside,
        )
        coded.append(CodedFace(region=region, stream=stream))
    return rows, coded


def store_run(
    store: Store,
    content: Content,
    spec: CodecSpec,
    plain: Sequence[bytes],
    rows: Sequence[Row],
    coded: Sequence[CodedFace],
) -> None:
    """Store streams of frames with faces, and note the frames' latents, int32, and the faces."""
    codec = load_dicm(frames_spec(spec))
    assert codec.video is not None
    assert spec.faces is not None
    said: dict[str, JsonValue] = {"quality": FACES_QUALITY, "version": 1, "weights": weights_digest(spec.faces)}
    number = 0 if spec.slices is None else 10 + spec.slices
    if spec.faces.slices is not None:
        said |= {"version": 2, "slices": spec.faces.slices}
        number += 100 + spec.faces.slices
    header = make_header("crowd.mp4", number, spec=spec, **SIZE)
    settings: dict[str, JsonValue] = {"faces": said} if spec.slices is None else {"slices": spec.slices, "faces": said}
    header = replace(header, settings=settings)
    latents = codec.video.decode(SegmentState(), plain, grid_of(**SIZE), device="cpu")
    frames = []
    for number, (stream, latent) in enumerate(zip(plain, latents, strict=True)):
        faces = [face for row, face in zip(rows, coded, strict=True) if row["frame_number"] == number]
        frames.append(
            GoldenFrame(
                stream=join_stream(stream, faces),
                pts=512 * number,
                is_keyframe=number == 0,
                is_independent=codec.is_independent(stream),
                decoded_sha256=digest(latent.int().numpy().astype("<i4").tobytes()),
            )
        )
    manifest = make_manifest(header, [store_segment(store, header, frames)], name="crowd.mp4")
    commit_video(store, replace(manifest, slices=spec.slices, face_slices=spec.faces.slices))
    note_video(content, manifest, generation=0, names=[])
    note_segment(content, header, frames)
    content.faces[header.segment_id] = list(rows)
