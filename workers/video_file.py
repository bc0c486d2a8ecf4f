"""Pictures to a video file, each at its own time: MP4 with H.264, or with FFV1 where every pixel shall stay.

Letters in shapes: H rows and W columns of pixels, C = 3 (red, green, blue).
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from framevault.workers.colour import resolve_matrix
from framevault.workers.errors import DecodeError

VideoCodec = Literal["h264", "ffv1"]
"""H.264 is small and plays everywhere; FFV1 loses nothing."""

ENCODERS: dict[VideoCodec, str] = {"h264": "libx264", "ffv1": "ffv1"}
"""libavcodec's names."""

H264_CRF = 16
"""Rate factor: well below libx264's own 23, as what was restored shall not be seen to suffer again."""

_COLOUR_SPACES = {"bt709": 1, "bt601": 5}
"""AVColorSpace numbers."""

_LIMITED_RANGE = 1
"""AVColorRange number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFormat:
    """What is the same for all pictures of a video."""

    codec: VideoCodec
    """How they are coded."""
    time_base: Fraction
    """Seconds a pts tick; kept exactly."""
    fps: float
    """What players are told; every picture has its own time all the same."""
    sample_aspect_ratio: Fraction
    """Width to height of a pixel."""
    num_threads: int
    """Of the encoder."""


class VideoFile:
    """A video that is being written; a context manager, for one thread."""

    def __init__(self, path: Path, video_format: VideoFormat, *, first_pts: int) -> None:
        """Begin a file.

        Args:
            path: Where to; MP4, whatever the name.
            video_format: How.
            first_pts: Of the first picture. A time before 0 is none that the file can have, so all are shifted then.
        """
        self._format = video_format
        self._shift = max(0, -first_pts)
        # A start later than 0 is kept in ticks of the film's own clock, a thousand a second unless told otherwise.
        clock = {"movie_timescale": str(video_format.time_base.denominator)}
        self._container = av.open(str(path), "w", format="mp4", options=clock)
        self._stream: VideoStream | None = None
        self._size: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish the file; after an error it is only closed."""
        try:
            if error is None and self._stream is not None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def add(self, rgb_hwc: NDArray[np.uint8], *, pts: int) -> None:
        """Add a picture.

        Args:
            rgb_hwc: RGB uint8 [H, W, C].
            pts: In ticks of the time base; above the one before.

        Raises:
            DecodeError: It has another size than the first one.
        """
        if self._stream is None:
            self._size = rgb_hwc.shape[:2]
            self._stream = self._open_stream(height=rgb_hwc.shape[0], width=rgb_hwc.shape[1])
        if rgb_hwc.shape[:2] != self._size:
            sizes = [f"{width}x{height}" for height, width in (self._size, rgb_hwc.shape[:2])]
            raise DecodeError(f"all pictures of a video must be {sizes[0]} as the first one, got {sizes[1]}")
        context = self._stream.codec_context
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_hwc), format="rgb24")
        if self._format.codec == "h264":
            frame = frame.reformat(
                format=context.pix_fmt, dst_colorspace=context.colorspace, dst_color_range=_LIMITED_RANGE
            )
            frame.colorspace, frame.color_range = context.colorspace, _LIMITED_RANGE
        else:
            frame = frame.reformat(format=context.pix_fmt)
        frame.pts, frame.time_base = pts + self._shift, self._format.time_base
        self._container.mux(self._stream.encode(frame))

    def _open_stream(self, *, height: int, width: int) -> VideoStream:
        video_format = self._format
        is_h264 = video_format.codec == "h264"
        rate = Fraction(video_format.fps).limit_denominator(1001) or Fraction(1)
        options = {"crf": str(H264_CRF)} if is_h264 else {}
        stream = self._container.add_stream(ENCODERS[video_format.codec], rate=rate, options=options)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height = width, height
        # Halved chroma needs even sides; `bgr0` is the RGB that FFV1 has.
        halves = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
        context.pix_fmt = halves if is_h264 else "bgr0"
        context.time_base = stream.time_base = video_format.time_base
        context.sample_aspect_ratio = video_format.sample_aspect_ratio
        context.thread_count = video_format.num_threads
        # Coding order is showing order: times stay what they are, from the first to the last.
        context.max_b_frames = 0
        if is_h264:
            matrix = resolve_matrix("unspecified", height=height)
            context.colorspace, context.color_range = _COLOUR_SPACES[matrix], _LIMITED_RANGE
        return stream


def has_encoder(codec: VideoCodec) -> bool:
    """Say whether this installation's libavcodec can write a kind of video."""
    return ENCODERS[codec] in av.codecs_available
