"""Makes the golden vaults of bitstream versions 9 and 10 of codec dicm, and 9 to 12 of dicm+hsc.

Their checkpoint is the small one with random maps of motion, and golden too. What moves is made up: what an encoder
finds may change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.dicm.checkpoint import read_tensors
from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.motion import LONGEST_VECTOR, STEPS, Motion, MotionField
from framevault.codecs.dicm.motion_checkpoint import export_motion
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.video import DecodedFrame, SegmentState
from framevault.codecs.dicm.video_checkpoint import read_video, video_names
from framevault.codecs.entropy.latents import MEAN_STEPS
from framevault.codecs.entropy.tables import FlagTable
from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.spec import CodecSpec, thinned, thinned_faces
from framevault.storage.index import commit_video
from framevault.storage.store import Store
from tests.golden.content import (
    DICM_WEIGHTS,
    HSC_WEIGHTS,
    MOTION_WEIGHTS,
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
from tests.golden.faces_vaults import FACES_QUALITY, draw_faces, store_run
from tests.golden.thin_vaults import SIZE, thin

NUM_CARRIED = 5
"""Channels: all of the first slice, and some of the second."""

SPEC = CodecSpec(name="dicm", weights=str(MOTION_WEIGHTS), quality=6, bitstream_version=9)
"""Of whole streams."""

VECTORS: tuple[tuple[tuple[int, int], ...] | None, ...] = (
    None,
    ((1, -3), (-4, 3), (-21, 40)),
    (
        (0, 0),
        (3, 3),
        (3, 3),
        (-LONGEST_VECTOR, LONGEST_VECTOR),
        (32, -32),
        (33, -33),
        (4, -5),
        (-7, 1),
    ),
    ((0, 8),),
    None,
    ((-8, -8), (2, 0)),
    None,
    ((5, 1), (-1, -1), (0, 1)),
)
"""Of each frame; None for one that is not moved."""

INTRA = {0, 4}
"""Frames that stand alone."""


def save_moving_checkpoint() -> None:
    """Write the small checkpoint with maps."""
    tensors, config_json = load_checkpoint(DICM_WEIGHTS, codec="dicm")
    config = DicmConfig.from_json(config_json)
    of_video = video_names(config)
    alone = {name: tensor for name, tensor in tensors.items() if name not in of_video}
    _, bitstream, _ = read_tensors(alone, config_json)
    video = read_video(tensors, config, bitstream).bitstream
    config = replace(config, motion=NUM_CARRIED)
    motion = export_motion(video, config, draw_motion())
    save_checkpoint(MOTION_WEIGHTS, {**tensors, **motion}, codec="dicm", config=asdict(config))


def draw_motion() -> Motion:
    """Return maps near those of whole positions, and some of the largest and smallest numbers."""
    random = np.random.default_rng(9)
    maps = random.normal(0, 8, (STEPS * STEPS, NUM_CARRIED, NUM_CARRIED, 9))
    maps[:, range(NUM_CARRIED), range(NUM_CARRIED), 4] += 50
    maps[::13] *= 100
    maps = np.clip(np.rint(maps), -128, 127).reshape(STEPS * STEPS, NUM_CARRIED, 9 * NUM_CARRIED)
    return Motion(
        maps=torch.from_numpy(maps),
        moved_table=FlagTable(probabilities=np.arange(3_000, 3_000 + 512 * 110, 110, dtype=np.int32)),
        choice_table=FlagTable(probabilities=np.arange(60_000, 60_000 - 512 * 110, -110, dtype=np.int32)),
    )


def draw_motion_field(number: int, *, height: int, width: int) -> MotionField | None:
    """Return what moves in a frame."""
    vectors = VECTORS[number]
    if vectors is None:
        return None
    number_hw = np.random.default_rng(number).integers(0, len(vectors) + 1, (height, width)).astype(np.uint8)
    return MotionField(vectors_k2=np.array(vectors, np.int32), number_hw=number_hw)


def encode(codec: DicmCodec) -> tuple[list[bytes], list[Tensor]]:
    """Return streams of frames of all kinds, and the latents in sixteenths that they were made of, each [M, h, w]."""
    assert codec.video is not None
    frames = [torch.from_numpy(draw_frame(number, **SIZE)) for number in range(len(VECTORS))]
    y_nchw, z_nchw = codec.latents(torch.stack(frames).permute(0, 3, 1, 2))
    state, streams, latents = SegmentState(), [], []
    for number, y_chw in enumerate(y_nchw):
        frame = DecodedFrame(
            latent16_mhw=torch.round(y_chw * MEAN_STEPS),
            z_nchw=z_nchw[number : number + 1] if number in INTRA else None,
            motion=draw_motion_field(number, height=y_chw.shape[1], width=y_chw.shape[2]),
        )
        # In the last frame but one, nothing is coded; in others, some or all positions are.
        gain = 1e9 if number == 6 else 0.3 * number
        rule = SkipRule(least_gain=gain, largest_change=1e9, moved_gain=gain, moved_change=1e9)
        streams.append(codec.video.encode_again(state, frame, rule=rule))
        assert state.latent16_mhw is not None
        latents.append(state.latent16_mhw)
    return streams, latents


def make_motion(store: Store, content: Content) -> None:
    """Eight frames whole, and thinned to one slice and to none."""
    if not MOTION_WEIGHTS.exists():
        save_moving_checkpoint()
    codec = load_dicm(SPEC)
    streams, latents = encode(codec)
    store_frames(store, content, SPEC, codec, streams, latents)
    for slices in (1, 0):
        thinned_streams, thinned_latents = zip(*thin(codec, streams, slices=slices), strict=True)
        store_frames(store, content, thinned(SPEC, slices=slices), codec, thinned_streams, thinned_latents)


def store_frames(
    store: Store,
    content: Content,
    spec: CodecSpec,
    codec: DicmCodec,
    streams: Sequence[bytes],
    latents: Sequence[Tensor],
) -> None:
    """Store a run of one segment, and note what its streams were made of."""
    header = make_header("roundabout.mp4", 0 if spec.slices is None else 10 + spec.slices, spec=spec, **SIZE)
    header = header if spec.slices is None else replace(header, settings={"slices": spec.slices})
    frames = [
        GoldenFrame(
            stream=stream,
            pts=512 * number,
            is_keyframe=number == 0,
            is_independent=codec.is_independent(stream),
            decoded_sha256=digest(latent.int().numpy().astype("<i4").tobytes()),
        )
        for number, (stream, latent) in enumerate(zip(streams, latents, strict=True))
    ]
    manifest = make_manifest(header, [store_segment(store, header, frames)], name="roundabout.mp4")
    commit_video(store, replace(manifest, slices=spec.slices))
    note_video(content, manifest, generation=0, names=[])
    note_segment(content, header, frames)


def make_motion_faces(store: Store, content: Content) -> None:
    """The same frames with faces: whole, thinned to one slice, with faces thinned to two, and both thinned."""
    codec = load_dicm(SPEC)
    plain, _ = encode(codec)
    thin_plain = codec.thinner(**SIZE, slices=1).thin(plain)
    of_faces = CodecSpec(name="hsc", weights=str(HSC_WEIGHTS), quality=FACES_QUALITY)
    whole = replace(SPEC, name="dicm+hsc", faces=of_faces)
    for spec, frames in (
        (whole, plain),
        (thinned(whole, slices=1), thin_plain),
        (thinned_faces(whole, slices=2), plain),
        (thinned_faces(thinned(whole, slices=1), slices=0), thin_plain),
    ):
        assert spec.faces is not None
        rows, coded = draw_faces(load_hsc(of_faces), slices=spec.faces.slices)
        store_run(store, content, spec, frames, rows, coded)
