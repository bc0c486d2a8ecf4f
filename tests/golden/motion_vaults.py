"""Makes the golden vaults of bitstream versions 9, 10, 13 and 14 of codec dicm, and 9 to 16 of dicm+hsc.

Their checkpoint is the small one with random maps of motion, and golden too. What moves is made up: what an encoder
finds may change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

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

Vectors = tuple[tuple[int, int], ...]
"""Down and right, in steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """What the frames of a vault are."""

    version: int
    """Bitstream version of whole streams."""
    vectors: tuple[Vectors | None, ...]
    """Of each frame; None for one that is not moved."""
    intra: frozenset[int]
    """Frames that stand alone."""
    still: frozenset[int]
    """Frames in which nothing is coded; in others, some or all positions are."""

    @property
    def spec(self) -> CodecSpec:
        """Of whole streams."""
        return CodecSpec(name="dicm", weights=str(MOTION_WEIGHTS), quality=6, bitstream_version=self.version)


FAR: Vectors = (
    (0, 0),
    (3, 3),
    (3, 3),
    (-LONGEST_VECTOR, LONGEST_VECTOR),
    (32, -32),
    (33, -33),
    (4, -5),
    (-7, 1),
)
"""Vectors of all kinds, as many as there may be in version 9."""

MOTION = Clip(
    version=9,
    vectors=(
        None,
        ((1, -3), (-4, 3), (-21, 40)),
        FAR,
        ((0, 8),),
        None,
        ((-8, -8), (2, 0)),
        None,
        ((5, 1), (-1, -1), (0, 1)),
    ),
    intra=frozenset({0, 4}),
    still=frozenset({6}),
)

BACKGROUND = Clip(
    version=13,
    vectors=(
        None,
        ((1, -3), (0, 0), (-21, 40)),
        None,
        (*FAR, (0, 0), *FAR[1:]),
        *(None,) * 7,
        ((0, 0),),
        (*FAR, (1, 0), (0, 0), (0, -9), (-1, 1)),
        ((0, 0),),
        None,
        ((0, 0), *FAR),
        None,
        *(None,) * 4,
        ((0, 0), (8, 8)),
        *(None,) * 4,
        None,
        ((5, 1), (0, 0)),
        None,
        ((0, 0),),
    ),
    intra=frozenset({0, 14}),
    still=frozenset({*range(4, 12), 13, *range(17, 24), 25, 29}),
)
"""Still frames before and after an intra frame, in which positions settle that come back later. Some don't: in the
eighth of the first ones, they are taken from the background as it was; of the second ones, they are moved or coded."""


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


def draw_motion_field(clip: Clip, number: int, *, height: int, width: int) -> MotionField | None:
    """Return what moves in a frame."""
    vectors = clip.vectors[number]
    if vectors is None:
        return None
    number_hw = np.random.default_rng(number).integers(0, len(vectors) + 1, (height, width)).astype(np.uint8)
    return MotionField(vectors_k2=np.array(vectors, np.int32), number_hw=number_hw)


def encode(codec: DicmCodec, clip: Clip) -> tuple[list[bytes], list[Tensor]]:
    """Return streams of frames of all kinds, and the latents in sixteenths that they were made of, each [M, h, w]."""
    assert codec.video is not None
    frames = [torch.from_numpy(draw_frame(number, **SIZE)) for number in range(len(clip.vectors))]
    y_nchw, z_nchw = codec.latents(torch.stack(frames).permute(0, 3, 1, 2))
    state, streams, latents = SegmentState(), [], []
    for number, y_chw in enumerate(y_nchw):
        frame = DecodedFrame(
            latent16_mhw=torch.round(y_chw * MEAN_STEPS),
            z_nchw=z_nchw[number : number + 1] if number in clip.intra else None,
            motion=draw_motion_field(clip, number, height=y_chw.shape[1], width=y_chw.shape[2]),
        )
        gain = 1e9 if number in clip.still else 0.3 * (number % 8)
        rule = SkipRule(least_gain=gain, largest_change=1e9, moved_gain=gain, moved_change=1e9)
        streams.append(codec.video.encode_again(state, frame, rule=rule))
        assert state.latent16_mhw is not None
        latents.append(state.latent16_mhw)
    return streams, latents


def make_motion(store: Store, content: Content, *, clip: Clip = MOTION) -> None:
    """A clip whole, and thinned to one slice and to none."""
    if not MOTION_WEIGHTS.exists():
        save_moving_checkpoint()
    codec = load_dicm(clip.spec)
    streams, latents = encode(codec, clip)
    store_frames(store, content, clip.spec, codec, streams, latents)
    for slices in (1, 0):
        thinned_streams, thinned_latents = zip(*thin(codec, streams, slices=slices), strict=True)
        store_frames(store, content, thinned(clip.spec, slices=slices), codec, thinned_streams, thinned_latents)


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


def make_background(store: Store, content: Content) -> None:
    """The clip with a background."""
    make_motion(store, content, clip=BACKGROUND)


def make_background_faces(store: Store, content: Content) -> None:
    """The same with faces."""
    make_motion_faces(store, content, clip=BACKGROUND)


def make_motion_faces(store: Store, content: Content, *, clip: Clip = MOTION) -> None:
    """The same frames with faces: whole, thinned to one slice, with faces thinned to two, and both thinned."""
    codec = load_dicm(clip.spec)
    plain, _ = encode(codec, clip)
    thin_plain = codec.thinner(**SIZE, slices=1).thin(plain)
    of_faces = CodecSpec(name="hsc", weights=str(HSC_WEIGHTS), quality=FACES_QUALITY)
    whole = replace(clip.spec, name="dicm+hsc", faces=of_faces)
    for spec, frames in (
        (whole, plain),
        (thinned(whole, slices=1), thin_plain),
        (thinned_faces(whole, slices=2), plain),
        (thinned_faces(thinned(whole, slices=1), slices=0), thin_plain),
    ):
        assert spec.faces is not None
        rows, coded = draw_faces(load_hsc(of_faces), slices=spec.faces.slices)
        store_run(store, content, spec, frames, rows, coded)
