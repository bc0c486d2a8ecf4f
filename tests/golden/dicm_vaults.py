"""Makes the golden vaults of codec dicm, with a small random checkpoint that is golden too."""

from __future__ import annotations

import numpy as np
import torch

from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.spec import CodecSpec
from framevault.storage.index import commit_video
from framevault.storage.store import Store
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
from tests.golden.dicm_checkpoint import save_small_checkpoint


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
