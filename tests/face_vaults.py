"""Small vaults whose frames have faces, or are some; what codes frames of codec dicm+hsc never comes into it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from framevault.codecs.faces.framing import CodedFace, FaceRegion, join_stream
from framevault.codecs.hsc.codec import HscCodec
from framevault.codecs.spec import CodecSpec, codec_fingerprint, weights_digest
from framevault.storage.index import VideoManifest, commit_video, write_segment
from framevault.storage.names import add_name
from framevault.storage.packs import PackHeader, PackWriter
from framevault.storage.store import Store
from framevault.workers.weights import pack_settings
from tests.storage.samples import PTS_STEP, pack_header, sample_id, sample_manifest

FRAME = b"no stream of dicm"
"""In the place of a frame's own stream."""


def face_pictures(count: int, *, seed: int = 0, side: int = 128) -> Tensor:
    """Return smooth random pictures, uint8 [count, 3, side, side]: no two have the same core symbols."""
    random = torch.Generator().manual_seed(seed)
    coarse_nchw = torch.randint(0, 256, (count, 3, 4, 4), generator=random).float()
    return functional.interpolate(coarse_nchw, (side, side), mode="bilinear").byte()


def drawn_faces(codec: HscCodec, count: int, *, seed: int = 5) -> NDArray[np.uint8]:
    """Return faces that hsc's generator draws of random symbols, uint8 [count, 128, 128, 3]; detectors see them."""
    random = torch.Generator().manual_seed(seed)
    decoder = codec.decoder(height=128, width=128)
    middle_1k = decoder.mean_latents(1).core_nk
    core_nk = middle_1k + torch.randn(count, middle_1k.shape[1], generator=random).mul(1.5).round()
    semantics = codec.semantics(core_nk, codec.bitstream.latents_of_core(core_nk))
    pictures_nchw = decoder.render(semantics.styles_nld, semantics.feature_nchw)
    return np.ascontiguousarray(pictures_nchw.permute(0, 2, 3, 1).numpy())


def encode_faces(codec: HscCodec, pictures_nchw: Tensor) -> list[bytes]:
    """Return streams of square pictures."""
    return codec.encoder(height=pictures_nchw.shape[2], width=pictures_nchw.shape[3]).encode(pictures_nchw)


def face_at(x_min: float, y_min: float, side: float, stream: bytes, *, score: float = 0.8) -> CodedFace:
    """Return an upright face of a frame."""
    region = FaceRegion(x_min=x_min, y_min=y_min, side=side, angle_degrees=0.0, score=score, is_outside=False)
    return CodedFace(region=region, stream=stream)


def faces_header(spec: CodecSpec, *, video: str = "a.mp4", height: int, width: int) -> PackHeader:
    """Return the header of a codec's pack."""
    return replace(
        pack_header(video),
        codec=spec.name,
        bitstream_version=spec.bitstream_version,
        codec_fingerprint=codec_fingerprint(spec),
        weights_digest=weights_digest(spec),
        quality=spec.quality,
        settings=pack_settings(spec),
        coded_height=height,
        coded_width=width,
        source_height=height,
        source_width=width,
    )


def pack_streams(header: PackHeader, streams: Sequence[bytes]) -> bytes:
    """Return a pack of streams, a frame each."""
    writer = PackWriter(header)
    for number, stream in enumerate(streams):
        writer.add(stream, pts=1000 + number * PTS_STEP, is_keyframe=number == 0, is_independent=True)
    return writer.finish()


def join_streams(frames: Sequence[Sequence[CodedFace]]) -> list[bytes]:
    """Return the streams of frames with some faces each."""
    return [join_stream(FRAME, faces) for faces in frames]


def store_streams(
    store: Store, spec: CodecSpec, streams: Sequence[bytes], *, video: str = "a.mp4", height: int, width: int
) -> VideoManifest:
    """Store a video of one segment."""
    header = faces_header(spec, video=video, height=height, width=width)
    record = write_segment(store, pack_streams(header, streams))
    manifest = replace(
        sample_manifest((record,), video=video),
        run_fp=sample_id(spec.name)[:16],
        width=width,
        height=height,
        codec=spec.name,
        bitstream_version=spec.bitstream_version,
        quality=spec.quality,
        codec_fingerprint=header.codec_fingerprint,
    )
    commit_video(store, manifest)
    add_name(store, manifest.video_id, name=video, source_url=manifest.source_url)
    return manifest
