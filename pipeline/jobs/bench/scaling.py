"""A clip at another size, so that one source shows how speed goes with resolution."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.sampling import locate_source, probe, read_batches

LARGEST_SIDE = 8192
"""Pixels; what workers take unless told otherwise."""

CRF = 18
"""Of the scaled clip: close to the original, at a rate that real footage has."""

KEYFRAME_DISTANCE = 64
"""Frames; segments are cut at keyframes."""


def read_size(text: str) -> tuple[int, int]:
    """Read a size such as `1280x720`.

    Returns:
        Width and height.

    Raises:
        PreflightError: It is none, or has odd or impossible sides.
    """
    words = text.lower().split("x")
    sides = [int(word) for word in words if word.isascii() and word.isdecimal()]
    if len(words) != 2 or len(sides) != 2 or any(side % 2 or not 16 <= side <= LARGEST_SIDE for side in sides):
        raise PreflightError(f"--size must be like 1280x720, of even sides from 16 to {LARGEST_SIDE}, got {text!r}")
    return sides[0], sides[1]


def scale_clip(video: str, target: Path, *, width: int, height: int, num_frames: int) -> str:
    """Write a source's first frames at another size, as H.264.

    Args:
        video: The source.
        target: Path of the file, an .mp4.
        width: Of the scaled frames.
        height: Of the scaled frames.
        num_frames: How many, if there are as many.

    Returns:
        The target's path.

    Raises:
        InputError: There is no such source.
        PreflightError: It can't be read.
    """
    probed = probe(locate_source(video))
    rate = Fraction(probed.info.fps).limit_denominator(1001)
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = KEYFRAME_DISTANCE
        stream.options = {"crf": str(CRF), "preset": "veryfast"}
        for batch in read_batches(probed, range(num_frames)):
            for rgb_chw in batch.rgb_nchw:
                rgb_hwc = np.ascontiguousarray(rgb_chw.permute(1, 2, 0).numpy())
                frame = av.VideoFrame.from_ndarray(rgb_hwc, format="rgb24")
                scaled = frame.reformat(width, height, "yuv420p", interpolation=Interpolation.BICUBIC)
                container.mux(stream.encode(scaled))
        container.mux(stream.encode(None))
    return str(target)
