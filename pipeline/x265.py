"""Frames through libx265, in memory: what framevault's rates are compared with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import av.codec.context
import numpy as np
import numpy.typing as npt

RgbFrame = npt.NDArray[np.uint8]
"""One frame, [H, W, 3]."""


_PARAMETER_SET_TYPES = (32, 33, 34)
"""NAL unit types of VPS, SPS and PPS (H.265, table 7-1)."""


HIGHEST_RATE = 51
"""The largest crf and qp there is: fewest bytes."""


MIN_SIDE = 64
"""Pixels; at some smaller sizes, such as 48x32, libx265 writes past its own buffers and the process dies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class X265Settings:
    """How libx265 is run."""

    crf: int | None = None
    """Constant rate factor, 0..51: larger is smaller. Either this or `qp`."""
    qp: int | None = None
    """The same quantiser in every block of every frame instead, 0..51: no frame depends on another's."""
    is_intra: bool
    """Whether every frame is coded by itself, as HEVC's still pictures (BPG) are."""
    preset: str = "medium"
    """libx265's own name for speed against size."""
    keyframe_distance: int | None = None
    """Most frames from keyframe to keyframe; libx265's own 250 if not given."""

    def __post_init__(self) -> None:
        """Check that one of `crf` and `qp` is given, and its range; raises ValueError."""
        rates = [rate for rate in (self.crf, self.qp) if rate is not None]
        if len(rates) != 1:
            raise ValueError(f"x265 needs either crf or qp, got crf {self.crf} and qp {self.qp}")
        if not 0 <= rates[0] <= HIGHEST_RATE:
            raise ValueError(f"x265's crf and qp must be 0 to {HIGHEST_RATE}, got {rates[0]}")


def count_headers(packets: Sequence[bytes]) -> int:
    """Return the bytes of the parameter sets, which stand in the first packet and are not the frames' own."""
    return len(packets[0]) - len(_drop_parameter_sets(packets[0])) if packets else 0


def encode_x265(frames_nhwc: Iterable[RgbFrame], settings: X265Settings, *, fps: float) -> list[bytes]:
    """Encode RGB frames [H, W, 3] as 4:2:0; sides are cut to even numbers, which x265 demands.

    Returns:
        A packet a frame, in coding order: the elementary stream, without a container. The parameter sets stand once,
        before the first frame: repeated at every intra frame they would cost some 80 bytes each.

    Raises:
        ValueError: A side is smaller than `MIN_SIDE`.
    """
    context: av.VideoCodecContext | None = None
    packets: list[bytes] = []
    for frame_hwc in frames_nhwc:
        height, width = frame_hwc.shape[0] // 2 * 2, frame_hwc.shape[1] // 2 * 2
        context = context or _open_encoder(settings, height=height, width=width, fps=fps)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_hwc[:height, :width]), format="rgb24")
        packets.extend(bytes(packet) for packet in context.encode(frame.reformat(format="yuv420p")))
    if context is not None:
        packets.extend(bytes(packet) for packet in context.encode(None))
        packets = [_drop_parameter_sets(packet) for packet in packets]
        packets[0] = (context.extradata or b"") + packets[0]
    return packets


def _drop_parameter_sets(packet: bytes) -> bytes:
    """Return an Annex B packet without its parameter sets, which libx265 repeats before every frame of `keyint=1`."""
    units = [unit.rstrip(b"\0") for unit in packet.split(b"\0\0\1") if unit.strip(b"\0")]
    return b"".join(b"\0\0\1" + unit for unit in units if (unit[0] >> 1) & 0x3F not in _PARAMETER_SET_TYPES)


def decode_x265(packets: Sequence[bytes]) -> list[RgbFrame]:
    """Decode what `encode_x265` made to RGB frames [H, W, 3], in display order."""
    context = av.CodecContext.create("hevc", "r")
    frames: list[RgbFrame] = []
    for packet in [*(av.Packet(data) for data in packets), None]:
        for frame in context.decode(packet):
            frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    return frames


def _open_encoder(settings: X265Settings, *, height: int, width: int, fps: float) -> av.VideoCodecContext:
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"frames for x265 must be {MIN_SIDE}x{MIN_SIDE} or larger, got {width}x{height}")
    context = av.CodecContext.create("libx265", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    rate = Fraction(fps).limit_denominator(1001)
    context.framerate, context.time_base = rate, 1 / rate
    distance = 1 if settings.is_intra else settings.keyframe_distance
    parameters = [] if distance is None else [f"keyint={distance}"]
    if settings.qp is not None:
        # Otherwise intra frames get a quantiser of some 3 less than is asked for.
        parameters += [f"qp={settings.qp}", "ipratio=1"]
    # No SEI with the settings (2 kB a keyframe), no repeated headers: rates are the frames'. One thread: the same
    # bytes on every machine.
    parameters += ["info=0", "repeat-headers=0", "pools=1", "frame-threads=1", "log-level=none"]
    context.flags |= av.codec.context.Flags.global_header
    crf = {} if settings.crf is None else {"crf": str(settings.crf)}
    context.options = {"preset": settings.preset, "x265-params": ":".join(parameters), **crf}
    return context
