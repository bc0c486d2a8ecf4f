"""The codecs that a comparison runs, behind one protocol: frames in, real bytes and what is decoded from them out.

::

    runs of frames -> encode -> streams (counted) -> decode -> pixels, or the features of a codec for machines

What stands once for a whole stream is counted for no codec: parameter sets, sequence headers, containers, a pack's
header and table. Letters in shapes: N frames, C channels, H and W pixels, h = ceil(H / 4), w = ceil(W / 4).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import av
import av.codec.codec
import numpy as np
import torch
from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec
from framevault.pipeline import svt_av1, x265
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.material import Run, rgb_frames
from framevault.pipeline.jobs.bench.sampling import FRAMES_PER_CALL

UNCOMPRESSED = "uncompressed"
"""What tables call the frames themselves."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coded:
    """Some consecutive frames after coding and decoding."""

    sizes: tuple[int, ...]
    """Bytes of each; of codecs that predict between frames only the sum over all frames means something."""
    decoded_nchw: Tensor
    """Pixels uint8 [N, 3, H, W], or features float32 [N, C, h, w]."""


class Coder(Protocol):
    """One codec with one setting."""

    @property
    def codec(self) -> str:
        """What tables call it; settings of one codec make a curve."""
        ...

    @property
    def setting(self) -> str:
        """What tables call the setting."""
        ...

    @property
    def is_intra(self) -> bool:
        """Whether every frame is coded by itself."""
        ...

    def code(self, runs: Sequence[Run], *, fps: float) -> Iterator[Coded]:
        """Encode and decode all frames, in order; a yield never spans two runs.

        Args:
            runs: Segments of a video, or pictures of one size each.
            fps: Frames a second that an encoder is told.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelCoder:
    """The frames as they are."""

    codec: str = UNCOMPRESSED
    """Its name."""
    setting: str = ""
    """It has none."""
    is_intra: bool = True
    """Frames lie side by side."""

    def code(self, runs: Sequence[Run], *, fps: float) -> Iterator[Coded]:
        """Yield the frames; their bytes are those of RGB."""
        for batch_nchw in chain.from_iterable(runs):
            yield Coded(sizes=(batch_nchw[0].numel(),) * len(batch_nchw), decoded_nchw=batch_nchw)


@dataclass(frozen=True, slots=True, kw_only=True)
class DicmCoder:
    """DICM: every frame by itself, or against the ones before it in its run."""

    dicm: DicmCodec
    """The codec at some quality, in either bitstream version."""
    slices: int | None = None
    """How many it was told to keep, for its name; None for those that are usual at each quality."""

    @property
    def codec(self) -> str:
        """Its name."""
        name = "dicm intra" if self.is_intra else "dicm video"
        return name if self.slices is None else f"{name} slices {self.slices}"

    @property
    def setting(self) -> str:
        """The quality."""
        return f"quality {self.dicm.spec.quality}"

    @property
    def is_intra(self) -> bool:
        """Whether it is the bitstream version without prediction."""
        return not self.dicm.is_video

    def code(self, runs: Sequence[Run], *, fps: float) -> Iterator[Coded]:
        """Encode to real streams and decode them; each run is a segment. See `Coder.code`."""
        for run in runs:
            height, width = run[0].shape[2:]
            encoder = self.dicm.encoder(height=height, width=width)
            decoder = self.dicm.decoder(height=height, width=width)
            for batch_nchw in run:
                streams = encoder.encode(batch_nchw)
                yield Coded(sizes=tuple(map(len, streams)), decoded_nchw=decoder.decode(streams))


@dataclass(frozen=True, slots=True, kw_only=True)
class X265IntraCoder:
    """libx265, every frame by itself with a fixed quantiser: as BPG codes pictures."""

    settings: x265.X265Settings
    """Preset and quantiser."""
    is_intra: bool = True
    """Whether every frame is coded by itself."""

    @property
    def codec(self) -> str:
        """Its name."""
        return f"x265-intra {self.settings.preset}"

    @property
    def setting(self) -> str:
        """The quantiser."""
        return f"qp {self.settings.qp}"

    def code(self, runs: Sequence[Run], *, fps: float) -> Iterator[Coded]:
        """Encode and decode each run; see `Coder.code`."""
        for run in runs:
            packets = x265.encode_x265(rgb_frames(run), self.settings, fps=fps)
            sizes = [len(packet) for packet in packets]
            sizes[0] -= x265.count_headers(packets)
            yield from _in_batches(x265.decode_x265(packets), sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class X265InterCoder:
    """libx265 with prediction between frames."""

    settings: x265.X265Settings
    """Preset and rate factor."""
    is_intra: bool = False
    """Whether every frame is coded by itself."""

    @property
    def codec(self) -> str:
        """Its name."""
        return f"x265-inter {self.settings.preset}"

    @property
    def setting(self) -> str:
        """The rate factor."""
        return f"crf {self.settings.crf}"

    def code(self, runs: Sequence[Run], *, fps: float) -> Iterator[Coded]:
        """Encode and decode all runs as one stream; see `Coder.code`."""
        packets = x265.encode_x265(rgb_frames(chain.from_iterable(runs)), self.settings, fps=fps)
        sizes = [len(packet) for packet in packets]
        sizes[0] -= x265.count_headers(packets)
        yield from _in_runs(x265.decode_x265(packets), sizes, runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class SvtAv1InterCoder:
    """SVT-AV1 with prediction between frames."""

    settings: svt_av1.SvtAv1Settings
    """Preset and rate factor."""
    preset_name: str
    """What the preset is called here; SVT-AV1 has numbers only."""
    is_intra: bool = False
    """Whether every frame is coded by itself."""

    @property
    def codec(self) -> str:
        """Its name."""
        return f"svtav1-inter {self.preset_name}"

    @property
    def setting(self) -> str:
        """The rate factor."""
        return f"crf {self.settings.crf}"

    def code(self, runs: Sequence[Run], *, fps: float) -> Iterator[Coded]:
        """Encode and decode all runs as one stream; see `Coder.code`."""
        packets = svt_av1.encode_svt_av1(rgb_frames(chain.from_iterable(runs)), self.settings, fps=fps)
        sizes = [len(packet) for packet in packets]
        sizes[0] -= svt_av1.count_headers(packets)
        yield from _in_runs(svt_av1.decode_svt_av1(packets), sizes, runs)


def require_encoder(name: str) -> None:
    """Check that libavcodec has an encoder.

    Raises:
        PreflightError: It has not.
    """
    try:
        av.codec.codec.Codec(name, "w")
    except av.codec.codec.UnknownCodecError as error:
        raise PreflightError(
            f"the FFmpeg of this PyAV ({av.__version__}) has no encoder {name}: install PyAV's own wheel, or leave "
            "it out with --anchors"
        ) from error


def _in_runs(frames: Sequence[x265.RgbFrame], sizes: Sequence[int], runs: Sequence[Run]) -> Iterator[Coded]:
    first = 0
    for run in runs:
        last = first + sum(map(len, run))
        yield from _in_batches(frames[first:last], sizes[first:last])
        first = last


def _in_batches(frames: Sequence[x265.RgbFrame], sizes: Sequence[int]) -> Iterator[Coded]:
    for first in range(0, len(frames), FRAMES_PER_CALL):
        some = slice(first, first + FRAMES_PER_CALL)
        decoded_nchw = torch.from_numpy(np.stack(frames[some])).permute(0, 3, 1, 2)
        yield Coded(sizes=tuple(sizes[some]), decoded_nchw=decoded_nchw)
