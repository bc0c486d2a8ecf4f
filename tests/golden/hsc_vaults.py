"""Makes the golden vault of codec hsc, with a small random checkpoint that is golden too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from framevault.codecs.hsc.bitstream import Decoded
from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.spec import CodecSpec, thinned
from framevault.storage.index import commit_video
from framevault.storage.store import Store
from tests.golden.content import (
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
from tests.golden.hsc_checkpoint import CONFIG, save_small_hsc_checkpoint

SIZE = {"height": 60, "width": 45}
"""Of frames."""

OUTSIDE = ((1, 2), (4, 1))
"""Runs of frames outside the domain, of the whole streams."""


def make_hsc(store: Store, content: Content) -> None:
    """Six frames, the last one of no bytes: whole, with two slices, and with none."""
    if not HSC_WEIGHTS.exists():
        save_small_hsc_checkpoint(HSC_WEIGHTS)
    spec = CodecSpec(name="hsc", weights=str(HSC_WEIGHTS), quality=6)
    codec = load_hsc(spec)
    whole = [*codec.bitstream.encode(*draw_latents()), b""]
    store_run(store, content, spec, whole, codec.bitstream.decode(whole, device="cpu"))
    for slices in (2, 0):
        streams = codec.thinner(**SIZE, slices=slices).thin(whole)
        store_run(
            store,
            content,
            thinned(spec, slices=slices),
            streams,
            codec.bitstream.decode(whole, device="cpu", slices=slices),
        )


def draw_latents() -> tuple[Tensor, Tensor]:
    """Draw core symbols [5, K] and latents [5, M, g, g]: nearly all zero, usual ones, and ever larger."""
    random = torch.Generator().manual_seed(6)
    spread_n = torch.tensor([0.2, 2.0, 30.0, 1e3, 1e6])
    core_nk = torch.randn(5, CONFIG.core, generator=random) * spread_n[:, None]
    y_nmgg = torch.randn(5, CONFIG.latent, CONFIG.grid, CONFIG.grid, generator=random)
    return torch.round(core_nk), y_nmgg * spread_n[:, None, None, None]


def store_run(store: Store, content: Content, spec: CodecSpec, streams: Sequence[bytes], decoded: Decoded) -> None:
    """Store streams, and note what they decode to: core symbols, then the latent, int32."""
    header = make_header("face.mp4", 0 if spec.slices is None else 10 + spec.slices, spec=spec, **SIZE)
    if spec.slices is None:
        header = replace(header, outside_domain=OUTSIDE)
        content.outside[header.segment_id] = [1, 2, 4]
    else:
        header = replace(header, settings={"slices": spec.slices})
    values_nm = torch.cat([decoded.core_nk, decoded.latent16_nmgg.flatten(1)], dim=1).int().numpy().astype("<i4")
    frames = [
        GoldenFrame(stream=stream, pts=512 * number, is_keyframe=number == 0, decoded_sha256=digest(values.tobytes()))
        for number, (stream, values) in enumerate(zip(streams, values_nm, strict=True))
    ]
    manifest = make_manifest(header, [store_segment(store, header, frames)], name="face.mp4")
    commit_video(store, replace(manifest, slices=spec.slices))
    note_video(content, manifest, generation=0, names=[])
    note_segment(content, header, frames)
