"""Frames through SVT-AV1, in memory: the other video codec that framevault's rates are compared with."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from framevault.pipeline.x265 import RgbFrame

ENCODER, DECODER = "libsvtav1", "libdav1d"
"""libavcodec's names."""

MIN_SIDE = 64
"""Pixels; SVT-AV1 refuses smaller frames."""

HIGHEST_CRF = 63
"""The largest rate factor: fewest bytes. The scale is not x265's."""

HIGHEST_PRESET = 13
"""The fastest preset."""

_TEMPORAL_DELIMITER, _SEQUENCE_HEADER = 2, 1
"""OBU types (AV1 specification, 6.2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SvtAv1Settings:
    """How SVT-AV1 is run."""

    crf: int
    """Constant rate factor, 1..63: larger is smaller."""
    preset: int
    """0 (slowest, fewest bytes) to 13."""
    keyframe_distance: int
    """Frames from keyframe to keyframe."""

    def __post_init__(self) -> None:
        """Check the ranges; raises ValueError."""
        if not 1 <= self.crf <= HIGHEST_CRF:
            raise ValueError(f"SVT-AV1's crf must be 1 to {HIGHEST_CRF}, got {self.crf}")
        if not 0 <= self.preset <= HIGHEST_PRESET:
            raise ValueError(f"SVT-AV1's preset must be 0 to {HIGHEST_PRESET}, got {self.preset}")


def encode_svt_av1(frames_nhwc: Iterable[RgbFrame], settings: SvtAv1Settings, *, fps: float) -> list[bytes]:
    """Encode RGB frames [H, W, 3] as 4:2:0; sides are cut to even numbers.

    Returns:
        The packets in coding order, as a container holds them: without temporal delimiters. Some show a frame that was
        coded before, so there is one for each frame. The sequence header stands in each keyframe's packet.

    Raises:
        ValueError: A side is smaller than `MIN_SIDE`.
    """
    context: av.VideoCodecContext | None = None
    packets: list[bytes] = []
    for number, frame_hwc in enumerate(frames_nhwc):
        height, width = frame_hwc.shape[0] // 2 * 2, frame_hwc.shape[1] // 2 * 2
        context = context or _open_encoder(settings, height=height, width=width, fps=fps)
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_hwc[:height, :width]), format="rgb24")
        frame = rgb.reformat(format="yuv420p")
        frame.pts = number
        packets.extend(bytes(packet) for packet in context.encode(frame))
    if context is not None:
        packets.extend(bytes(packet) for packet in context.encode(None))
    return [b"".join(unit for kind, unit in _units(packet) if kind != _TEMPORAL_DELIMITER) for packet in packets]


def decode_svt_av1(packets: Sequence[bytes]) -> list[RgbFrame]:
    """Decode what `encode_svt_av1` made to RGB frames [H, W, 3], in display order."""
    context = av.CodecContext.create(DECODER, "r")
    assert isinstance(context, av.VideoCodecContext)
    frames: list[RgbFrame] = []
    for packet in [*(av.Packet(data) for data in packets), None]:
        for frame in context.decode(packet):
            frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    return frames


def count_headers(packets: Sequence[bytes]) -> int:
    """Return the bytes of the sequence headers: needed once for a stream, and not the frames' own."""
    return sum(len(unit) for packet in packets for kind, unit in _units(packet) if kind == _SEQUENCE_HEADER)


def _open_encoder(settings: SvtAv1Settings, *, height: int, width: int, fps: float) -> av.VideoCodecContext:
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"frames for SVT-AV1 must be {MIN_SIDE}x{MIN_SIDE} or larger, got {width}x{height}")
    # The library prints its settings on standard error, and takes advice from the environment alone: errors only.
    os.environ.setdefault("SVT_LOG", "1")
    context = av.CodecContext.create(ENCODER, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    rate = Fraction(fps).limit_denominator(1001)
    context.framerate, context.time_base = rate, 1 / rate
    context.gop_size = settings.keyframe_distance
    # lp=1: no threads beside one another, the same bytes on every machine.
    context.options = {"preset": str(settings.preset), "crf": str(settings.crf), "svtav1-params": "lp=1"}
    return context


def _units(packet: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the types and bytes of a packet's OBUs (AV1 specification, 5.3); SVT-AV1 writes each with its size."""
    start = 0
    while start < len(packet):
        header = packet[start]
        place = start + (2 if header & 0b100 else 1)
        if not header & 0b10:
            raise ValueError(f"expected an OBU with its size at byte {start}, got header {header:#04x}")
        size, shift = 0, 0
        while True:
            byte = packet[place]
            size |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if not byte & 0x80:
                break
        yield header >> 3 & 0xF, packet[start : place + size]
        start = place + size
