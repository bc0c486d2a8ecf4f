"""From a compression's settings to the plain arguments of the parts that do it; without torch, for `plan`."""

import os

from framevault.codecs.spec import CODECS, USUAL_VERSION, CodecSpec, codec_fingerprint
from framevault.configs.run import CompressJob
from framevault.pipeline.planning import PlanSettings, Sampling
from framevault.workers.limits import DecodeLimits


def codec_spec(job: CompressJob, *, device: str = "cpu") -> CodecSpec:
    """Return what encodes, on a device."""
    # Absolute: workers may run in another folder.
    weights = None if job.weights is None else os.path.abspath(job.weights)
    version = CODECS[job.codec].bitstream_versions[0] if job.intra else USUAL_VERSION
    return CodecSpec(name=job.codec, quality=job.quality, weights=weights, device=device, bitstream_version=version)


def plan_settings(job: CompressJob) -> PlanSettings:
    """Return what decides which segments there are."""
    return PlanSettings(
        codec_fingerprint=codec_fingerprint(codec_spec(job)),
        sampling=Sampling(fps=job.fps),
        segment_frames=job.segment_frames,
    )


def decode_limits(job: CompressJob) -> DecodeLimits:
    """Return what a decoding child may use."""
    return DecodeLimits(**job.limits.model_dump())
