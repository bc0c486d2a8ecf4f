"""Which detector looks through the chosen videos, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

from framevault.codecs.errors import CodecError
from framevault.codecs.spec import CodecSpec
from framevault.configs.run import DetectJob
from framevault.pipeline.exits import PreflightError
from framevault.workers.detectors.registry import DEFAULT_DETECTOR, PREFERRED_DETECTOR, detector_codec
from framevault.workers.weights import check_latents


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorChoice:
    """A detector, and why it was taken."""

    detector: str
    """A name of the detectors' table."""
    reason: str
    """The end of a sentence that begins with the name."""


def choose_detector(
    job: DetectJob, codecs: Sequence[tuple[str, CodecSpec]], *, preferred: str = PREFERRED_DETECTOR
) -> DetectorChoice:
    """Choose the detector that was asked for, or else the preferred one if it reads all chosen videos.

    Args:
        job: Says what was asked for.
        codecs: Names of the chosen videos, and what encoded each.
        preferred: A shipped detector.

    Raises:
        DetectorError: There is no such detector, or its weights can't be had.
        PreflightError: It reads the latents of one codec checkpoint, and a video was encoded with another.
    """
    if job.detector is not None:
        if (latents_of := detector_codec(job.detector, weights=job.detector_weights)) is not None:
            _check_videos(codecs, latents_of)
        return DetectorChoice(detector=job.detector, reason="was asked for")
    if job.detector_weights is not None or job.masks:
        return DetectorChoice(detector=DEFAULT_DETECTOR, reason="is the one that weights and masks are asked of")
    latents_of = detector_codec(preferred)
    if latents_of is None:
        return DetectorChoice(detector=preferred, reason="is the usual one")
    for name, spec in codecs:
        if spec.slices is not None:
            return _on_features(f"video {name} was thinned, and {preferred} was not trained on such latents")
        try:
            check_latents(spec, latents_of, name=f"video {name}")
        except CodecError:
            return _on_features(f"video {name} was not encoded with the codec whose latents {preferred} reads")
    return DetectorChoice(detector=preferred, reason="reads the latents of this codec directly")


def _on_features(why: str) -> DetectorChoice:
    return DetectorChoice(detector=DEFAULT_DETECTOR, reason=f"reads features: {why}")


def _check_videos(codecs: Sequence[tuple[str, CodecSpec]], latents_of: str) -> None:
    for name, spec in codecs:
        try:
            check_latents(spec, latents_of, name=f"video {name}")
        except CodecError as error:
            raise PreflightError(str(error)) from error
