"""Small real videos and pictures for the tests, made on the spot with PyAV and Pillow.

Every frame is a function of its number alone (`test_pattern`), so a test can tell which frame it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSpec:
    """What `make_video` writes: a short H.264 clip unless told otherwise."""

    width: int = 96
    """Pixels."""
    height: int = 64
    """Pixels."""
    num_frames: int = 25
    """Frames."""
    fps: int = 25
    """Frames a second, and the frame numbers' time base."""
    codec: str = "libx264"
    """libavcodec's name of the encoder."""
    pixel_format: str = "yuv420p"
    """libavutil's name of the pixel format."""
    gop: int = 8
    """Frames from keyframe to keyframe, at most."""
    b_frames: int = 0
    """B-frames in a row."""
    is_open_gop: bool = False
    """Whether frames shown before a keyframe may come after it and lean on the one before (libx264, libx265)."""
    rotation_degrees: int = 0
    """Clockwise turn that players must apply, written as a display matrix."""
    sample_aspect_ratio: tuple[int, int] = (1, 1)
    """Width to height of a pixel."""
    frame_ticks: tuple[int, ...] = ()
    """For a variable frame rate: each frame's time, in units of 1 / fps; empty for 0, 1, 2..."""
    colour_matrix: int = 2
    """AVColorSpace number that the stream states: 1 is BT.709, 2 unspecified, 5 BT.601, 9 BT.2020."""
    colour_range: int = 0
    """AVColorRange number that the stream states: 0 unspecified, 1 limited, 2 full."""
    num_video_streams: int = 1
    """Video streams; the second and later ones have half the width."""
    options: tuple[tuple[str, str], ...] = ()
    """Further options of the encoder."""
    container_options: tuple[tuple[str, str], ...] = ()
    """Further options of the container, such as ("movflags", "faststart")."""


def test_pattern(frame_number: int, *, width: int, height: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Draws frame `frame_number`, RGB uint8 [height, width, 3]: slopes that drift and a block that moves."""
    rows, columns = np.mgrid[0:height, 0:width]
    drift = 3 * frame_number
    rgb_hwc = np.stack(
        [(columns * 2 + drift) % 256, (rows * 2 + 2 * drift) % 256, (rows + columns + 120 + drift) % 256], axis=-1
    ).astype(np.uint8)
    side = max(2, height // 4)
    left = (5 * frame_number) % max(1, width - side)
    rgb_hwc[height // 3 : height // 3 + side, left : left + side] = (230, 40, 60)
    return np.asarray(rgb_hwc, np.uint8)


test_pattern.__test__ = False  # type: ignore[attr-defined]  # pytest must not take it for a test


def make_video(path: Path, spec: VideoSpec | None = None) -> Path:
    """Writes a video as the spec says (its container follows from the suffix) and returns its path."""
    spec = spec or VideoSpec()
    with av.open(str(path), "w", options=dict(spec.container_options)) as container:
        streams = [_add_stream(container, spec, number) for number in range(spec.num_video_streams)]
        ticks = spec.frame_ticks or tuple(range(spec.num_frames))
        for frame_number, tick in enumerate(ticks):
            for stream in streams:
                container.mux(stream.encode(_make_frame(frame_number, stream, spec=spec, tick=tick)))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def _add_stream(container: av.container.OutputContainer, spec: VideoSpec, number: int) -> VideoStream:
    stream = container.add_stream(spec.codec, rate=spec.fps, options=_encoder_options(spec))
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.width, context.height = (spec.width, spec.height) if number == 0 else (spec.width // 4 * 2, spec.height)
    context.pix_fmt = spec.pixel_format
    context.time_base = Fraction(1, spec.fps)
    context.gop_size = spec.gop
    context.max_b_frames = spec.b_frames
    context.sample_aspect_ratio = Fraction(*spec.sample_aspect_ratio)
    context.colorspace, context.color_range = spec.colour_matrix, spec.colour_range
    context.thread_count = 1
    if spec.rotation_degrees:
        stream.set_display_rotation(-spec.rotation_degrees)
    return stream


def _encoder_options(spec: VideoSpec) -> dict[str, str]:
    options = dict(spec.options)
    if spec.codec == "libx264":
        parameters = (
            f"keyint={spec.gop}:min-keyint=1:scenecut=0:bframes={spec.b_frames}:open-gop={int(spec.is_open_gop)}"
        )
        return {"preset": "ultrafast", "x264-params": f"{parameters}:b-adapt=0:threads=1"} | options
    if spec.codec == "libx265":
        parameters = (
            f"keyint={spec.gop}:min-keyint=1:scenecut=0:bframes={spec.b_frames}:open-gop={int(spec.is_open_gop)}"
        )
        return {
            "preset": "ultrafast",
            "x265-params": f"{parameters}:b-adapt=0:pools=1:frame-threads=1:log-level=none",
        } | options
    return options


def _make_frame(frame_number: int, stream: VideoStream, *, spec: VideoSpec, tick: int) -> av.VideoFrame:
    context = stream.codec_context
    rgb_hwc = test_pattern(frame_number, width=context.width, height=context.height)
    matrix = spec.colour_matrix if spec.colour_matrix != 2 else 5
    frame = av.VideoFrame.from_ndarray(rgb_hwc, format="rgb24").reformat(
        format=spec.pixel_format, dst_colorspace=matrix, dst_color_range=spec.colour_range or 1
    )
    frame.pts, frame.time_base = tick, Fraction(1, spec.fps)
    frame.colorspace, frame.color_range = spec.colour_matrix, spec.colour_range
    return frame


def cut_by_edit_list(source: Path, target: Path, *, num_frames: int, frame_ticks: int = 512) -> Path:
    """Copies an MP4's packets but lets an edit list take out its first frames; returns the new path."""
    with av.open(str(source)) as old, av.open(str(target), "w", options={"avoid_negative_ts": "disabled"}) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.pts is None or packet.dts is None:
                continue
            packet.pts -= num_frames * frame_ticks
            packet.dts -= num_frames * frame_ticks
            packet.stream = copy
            new.mux(packet)
    return target


def make_audio_only(path: Path) -> Path:
    """Writes a second of silence without any video stream and returns its path."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 44100), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 44100
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_pictures(folder: Path, sizes: Sequence[tuple[int, int]], *, suffix: str = ".png", mode: str = "RGB") -> Path:
    """Writes one picture a size (width, height) into the folder, `000.png` and on, and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (width, height) in enumerate(sizes):
        picture = Image.fromarray(test_pattern(number, width=width, height=height)).convert(mode)
        picture.save(folder / f"{number:03d}{suffix}")
    return folder


def flip_bytes(path: Path, *, start: int, count: int, step: int = 1) -> Path:
    """Inverts `count` bytes of the file from offset `start`, one in every `step`, and returns its path."""
    data = bytearray(path.read_bytes())
    for offset in range(start, min(start + count * step, len(data)), step):
        data[offset] ^= 0xFF
    path.write_bytes(bytes(data))
    return path
