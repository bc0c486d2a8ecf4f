"""Makes the golden vault of thinned streams: bitstream versions 3 and 4 of codec dicm, and a run that was let go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.thinning import VideoThinner
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.entropy.coder import SymbolDecoder
from framevault.codecs.entropy.latents import MEAN_STEPS
from framevault.codecs.spec import CodecSpec, thinned
from framevault.storage.index import commit_video
from framevault.storage.moving import retire_segments
from framevault.storage.store import Store
from framevault.storage.tombstones import claim
from tests.golden.content import (
    DICM_WEIGHTS,
    Content,
    GoldenFrame,
    digest,
    draw_frame,
    make_header,
    make_manifest,
    note_segment,
    note_video,
    store_segment,
)

SIZE = {"height": 75, "width": 100}
"""Of frames."""


def make_thinned(store: Store, content: Content) -> None:
    """Six frames of each kind of stream, thinned to one slice and to none."""
    for version, name in ((1, "street.mp4"), (2, "crossing.mp4")):
        spec = CodecSpec(name="dicm", weights=str(DICM_WEIGHTS), quality=6, bitstream_version=version)
        codec = load_dicm(spec)
        streams = encode(codec)
        if version == 2:
            let_go(store, streams, spec=spec, name=name)
        for slices in (1, 0):
            spec_thinned = thinned(spec, slices=slices)
            header = replace(make_header(name, 10 + slices, spec=spec_thinned, **SIZE), settings={"slices": slices})
            frames = [
                GoldenFrame(
                    stream=stream,
                    pts=512 * number,
                    is_keyframe=number == 0,
                    is_independent=codec.is_independent(streams[number]),
                    decoded_sha256=digest(latent.int().numpy().astype("<i4").tobytes()),
                )
                for number, (stream, latent) in enumerate(thin(codec, streams, slices=slices))
            ]
            manifest = make_manifest(header, [store_segment(store, header, frames)], name=name)
            commit_video(store, replace(manifest, slices=slices))
            note_video(content, manifest, generation=0, names=[])
            note_segment(content, header, frames)


def encode(codec: DicmCodec) -> list[bytes]:
    """Encode frames in which a corner changes; where frames lean on each other, the fourth does not."""
    frames_nchw = torch.from_numpy(draw_frame(0, **SIZE)).permute(2, 0, 1)[None].repeat(6, 1, 1, 1)
    for number in range(1, 6):
        drawn = torch.from_numpy(draw_frame(number, **SIZE)).permute(2, 0, 1)
        frames_nchw[number, :, :32, : 16 * number] = drawn[:, :32, : 16 * number]
    latents = codec.latents(frames_nchw)
    if not codec.is_video:
        return codec.bitstream.encode(*latents)
    assert codec.video is not None
    rule = SkipRule(most_coded=1.1, least_gain=0.2)
    y_parts, z_parts = (torch.split(tensor, 3) for tensor in latents)
    return [
        stream
        for y_nchw, z_nchw in zip(y_parts, z_parts, strict=True)
        for stream in codec.video.encode(SegmentState(), y_nchw, z_nchw, rule=rule)
    ]


def thin(codec: DicmCodec, streams: Sequence[bytes], *, slices: int) -> Iterator[tuple[bytes, Tensor]]:
    """Give the thinned streams, and the latents in sixteenths that they were made of, [M, h, w]."""
    thinner = codec.thinner(**SIZE, slices=slices)
    for stream in streams:
        (thin_stream,) = thinner.thin([stream])
        if isinstance(thinner, VideoThinner):
            assert thinner.coded.latent16_mhw is not None
            yield thin_stream, thinner.coded.latent16_mhw
        else:
            z_nchw, latent16_nchw = thinner.source.pull_both([SymbolDecoder(stream)], thinner.grid, device="cpu")
            yield thin_stream, thinner.target.find_symbols(latent16_nchw * (1 / MEAN_STEPS), z_nchw).latent16_nmhw[0]


def let_go(store: Store, streams: Sequence[bytes], *, spec: CodecSpec, name: str) -> None:
    """Store a run, let it go and remove it, but for its tombstones."""
    header = make_header(name, 0, spec=spec, **SIZE)
    frames = [
        GoldenFrame(stream=stream, pts=512 * number, is_independent=number == 0)
        for number, stream in enumerate(streams)
    ]
    record = store_segment(store, header, frames)
    manifest = make_manifest(header, [record], name=name)
    commit_video(store, manifest)
    retire_segments(store, manifest.video_id, run_fp=manifest.run_fp, segment_ids=[record.segment_id], reason="thinned")
    for ref in (record.frames, record.pack):
        store.remove(ref.key)
    claim(store, record.segment_id)
