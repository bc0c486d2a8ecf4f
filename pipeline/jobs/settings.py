"""From a compression's settings to the plain arguments of the parts that do it; without torch, for `plan`."""

import os

from framevault.codecs.checkpoint_header import count_slices
from framevault.codecs.errors import CodecError
from framevault.codecs.spec import CODECS, USUAL_VERSION, CodecSpec, codec_fingerprint, thinned
from framevault.configs.run import CompressJob
from framevault.pipeline.planning import PlanSettings, Sampling
from framevault.workers.face_search import FaceSearch
from framevault.workers.limits import DecodeLimits


def codec_spec(job: CompressJob, *, device: str = "cpu") -> CodecSpec:
    """Return what encodes, on a device.

    Raises:
        CodecError: The codec has no so many slices, or its checkpoint can't be read.
    """
    version = CODECS[job.codec].intra_version if job.intra else USUAL_VERSION
    whole = CodecSpec(
        name=job.codec,
        quality=job.quality,
        weights=_absolute(job.weights),
        device=device,
        bitstream_version=version,
        faces=_faces_spec(job),
    )
    return with_usual_slices(whole) if job.slices is None else with_slices(whole, job.slices)


def _faces_spec(job: CompressJob) -> CodecSpec | None:
    """Return what codes faces; None for codecs without."""
    name = CODECS[job.codec].faces_codec
    if name is None:
        return None
    return CodecSpec(name=name, quality=job.face_quality, weights=_absolute(job.face_weights))


def _absolute(path: str | None) -> str | None:
    """Return where a checkpoint is, whatever folder a worker runs in."""
    return None if path is None else os.path.abspath(path)


def with_slices(whole: CodecSpec, slices: int) -> CodecSpec:
    """Return a codec with its first slices.

    Raises:
        CodecError: The codec has no so many slices, or its checkpoint can't be read.
    """
    if not whole.row.thinned_versions:
        return thinned(whole, slices=slices)
    if slices > (num_slices := count_slices(whole)):
        raise CodecError(f"slices must be 0 to {num_slices}, as many as the codec has, got {slices}")
    return whole if slices == num_slices else thinned(whole, slices=slices)


def with_usual_slices(whole: CodecSpec) -> CodecSpec:
    """Return a codec with as many slices as are of use at its quality, which is what `compress` takes.

    Raises:
        CodecError: The checkpoint can't be read.
    """
    usual = whole.row.usual_slices.get(whole.bitstream_version)
    if usual is None or (slices := usual[whole.quality - 1]) >= count_slices(whole):
        return whole
    return thinned(whole, slices=slices)


def plan_settings(job: CompressJob) -> PlanSettings:
    """Return what decides which segments there are."""
    return PlanSettings(
        codec_fingerprint=codec_fingerprint(codec_spec(job)),
        sampling=Sampling(fps=job.fps),
        segment_frames=job.segment_frames,
        faces=face_search(job) if CODECS[job.codec].faces_codec is not None else None,
    )


def face_search(job: CompressJob) -> FaceSearch:
    """Return how faces are looked for."""
    return FaceSearch(score=job.face_score, size_pixels=job.face_size, fps=job.face_fps)


def decode_limits(job: CompressJob) -> DecodeLimits:
    """Return what a decoding child may use."""
    return DecodeLimits(**job.limits.model_dump())
