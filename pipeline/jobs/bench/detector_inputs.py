"""What a detector under measurement looks at: features, or the codec's latents."""

from collections.abc import Sequence

from torch import Tensor

from framevault.codecs.base import Changes, Decoder, SupportsLatents, SupportsRepeats
from framevault.codecs.dicm.codec import DicmCodec
from framevault.codecs.errors import CodecError
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.exits import PreflightError
from framevault.workers.detectors.base import Detector, ReadsLatents
from framevault.workers.detectors.registry import DEFAULT_DETECTOR, load_detector
from framevault.workers.weights import check_latents


def load_bench_detector(name: str | None, *, device: str = "cpu", weights: str | None = None) -> Detector:
    """Load a detector that reads what the shipped codec stores.

    Args:
        name: A key of `DETECTORS`; None takes the one on features.
        device: A torch device.
        weights: Path of another checkpoint to take.

    Raises:
        DetectorError: There is no such detector, or its checkpoint is missing or damaged.
        PreflightError: It reads another codec's features or latents.
    """
    detector = load_detector(name or DEFAULT_DETECTOR, device, weights=weights)
    if detector.backbone != "mobilenet_v2":
        raise PreflightError(
            f"detector {detector.name} reads features of {detector.backbone}, dicm's are mobilenet_v2's"
        )
    if isinstance(detector, ReadsLatents):
        try:
            check_latents(CodecSpec(name="dicm"), detector.codec_weights, name="the shipped codec")
        except CodecError as error:
            raise PreflightError(f"detector {detector.name}: {error}") from error
    return detector


def inputs_of_pixels(codec: DicmCodec, detector: Detector, frames_nchw: Tensor) -> Tensor:
    """Return what a detector would see of frames, RGB uint8 [N, 3, H, W], if nothing were lost in the streams."""
    return codec.clean_latents(frames_nchw) if isinstance(detector, ReadsLatents) else codec.head_features(frames_nchw)


def decode_inputs(decoder: Decoder, detector: Detector, streams: Sequence[bytes]) -> Changes:
    """Decode the segment's next streams, of a codec whose features are not pixels, to what a detector reads."""
    if isinstance(detector, ReadsLatents):
        assert isinstance(decoder, SupportsLatents)
        return decoder.decode_latent_changes(streams)
    assert isinstance(decoder, SupportsRepeats)
    return decoder.decode_changes(streams)


def add_inputs(inputs: list[Tensor], changes: Changes) -> None:
    """Append what each of some frames looks like to that of the segment's frames before them, each [...]."""
    for row in changes.rows:
        inputs.append(inputs[-1] if row < 0 else changes.decoded[row])
