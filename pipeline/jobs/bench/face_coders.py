"""The codecs that faces go through in `framevault bench rate-perception`: pictures in, real bytes and pictures out.

Bytes are counted in two ways:

| codec | `file_bytes`: as it is written | `payload_bytes`: without what a container could say once for all |
| --- | --- | --- |
| hsc | the whole stream | the same |
| x265-intra | the elementary stream without parameter sets, as `bench rate-accuracy` counts | the same |
| avif | the whole file | the AV1 units of the item, without the sequence header |
| webp | the whole file | the VP8 frame, without RIFF and chunk headers |
| CompressAI's | its strings | the same |

An x265 picture in a file of its own (BPG, HEIC) has some 80 bytes of parameter sets and a container more.
Letters in shapes: N pictures, H and W pixels.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from framevault.codecs.hsc.codec import HscCodec
from framevault.codecs.hsc.editing import Shift
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.coders import Coder
from framevault.pipeline.jobs.bench.sampling import split_calls
from framevault.pipeline.picture_payloads import avif_payload_size, webp_payload_size
from framevault.workers.restored import partial_decoder

OURS = "hsc"
"""The name of what is compared with the others."""

THINNED = "hsc thinned"
"""The name of its streams without their last slices."""

PictureFormat = Literal["avif", "webp"]
"""File formats that Pillow writes."""

AVIF_SPEED = 4
"""Of 0 to 10, where 0 takes eight times as long for 1 % fewer bytes."""

WEBP_METHOD = 6
"""The slowest and best."""

SAVE_OPTIONS: dict[PictureFormat, dict[str, Any]] = {
    # One thread: the same bytes on every machine.
    "avif": {"speed": AVIF_SPEED, "codec": "aom", "max_threads": 1},
    "webp": {"method": WEBP_METHOD},
}
"""What Pillow is told beside the quality."""

PAYLOAD_SIZES: dict[PictureFormat, Callable[[bytes], int]] = {"avif": avif_payload_size, "webp": webp_payload_size}
"""How many of a file's bytes are the picture's own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodedFaces:
    """Some pictures after coding and decoding."""

    file_bytes: tuple[int, ...]
    """Of each, as it is written."""
    payload_bytes: tuple[int, ...]
    """Of each, without containers and headers."""
    decoded_nchw: Tensor
    """Pictures, uint8 [N, 3, H, W]."""


class FaceCoder(Protocol):
    """One codec with one setting."""

    @property
    def codec(self) -> str:
        """What tables call it; settings of one codec make a curve."""
        ...

    @property
    def setting(self) -> str:
        """What tables call the setting."""
        ...

    def code(self, faces_nchw: Tensor) -> Iterator[CodedFaces]:
        """Encode and decode pictures uint8 [N, 3, H, W], in order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HscCoder:
    """HSC with whole streams of one quality, or without their last slices."""

    hsc: HscCodec
    """The codec as it codes."""
    codec: str
    """`OURS` or `THINNED`."""
    setting: str
    """Quality and slices."""
    shift: Shift | None = None
    """What an edit adds to what is decoded; None decodes what was coded."""

    def code(self, faces_nchw: Tensor) -> Iterator[CodedFaces]:
        """See `FaceCoder.code`."""
        height, width = faces_nchw.shape[2:]
        encoder = self.hsc.encoder(height=height, width=width)
        decoder = self.hsc.decoder(height=height, width=width)
        decode: Callable[[Sequence[bytes]], Tensor] = decoder.decode
        if self.shift is not None:
            decode = partial_decoder(decoder, self.hsc.spec, depth=None, shift=self.shift)
        for batch_nchw in split_calls(faces_nchw):
            streams = encoder.encode(batch_nchw)
            sizes = tuple(map(len, streams))
            yield CodedFaces(file_bytes=sizes, payload_bytes=sizes, decoded_nchw=decode(streams).cpu())


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanFaceCoder:
    """What HSC makes of no bytes at all."""

    hsc: HscCodec
    """The codec."""
    codec: str = THINNED
    """The end of thinning."""
    setting: str = "nothing"
    """There is no setting."""

    def code(self, faces_nchw: Tensor) -> Iterator[CodedFaces]:
        """See `FaceCoder.code`."""
        height, width = faces_nchw.shape[2:]
        mean_1chw = self.hsc.decoder(height=height, width=width).decode([b""]).cpu()
        none = (0,) * len(faces_nchw)
        yield CodedFaces(
            file_bytes=none, payload_bytes=none, decoded_nchw=mean_1chw.repeat_interleave(len(faces_nchw), dim=0)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFileCoder:
    """A file a picture, through Pillow."""

    codec: PictureFormat
    """The format."""
    quality: int
    """0 to 100."""

    @property
    def setting(self) -> str:
        """The quality."""
        return f"quality {self.quality}"

    def code(self, faces_nchw: Tensor) -> Iterator[CodedFaces]:
        """See `FaceCoder.code`."""
        for rgb_chw in faces_nchw:
            buffer = io.BytesIO()
            picture = Image.fromarray(np.ascontiguousarray(rgb_chw.permute(1, 2, 0).numpy()))
            picture.save(buffer, self.codec.upper(), quality=self.quality, **SAVE_OPTIONS[self.codec])
            data = buffer.getvalue()
            with Image.open(buffer) as reopened:
                decoded = torch.from_numpy(np.array(reopened.convert("RGB")))
            yield CodedFaces(
                file_bytes=(len(data),),
                payload_bytes=(PAYLOAD_SIZES[self.codec](data),),
                decoded_nchw=decoded.permute(2, 0, 1)[None],
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCoder:
    """A codec of `coders.py`, whose sizes have no headers in them."""

    coder: Coder
    """Codes every picture by itself."""

    @property
    def codec(self) -> str:
        """Its own name."""
        return self.coder.codec

    @property
    def setting(self) -> str:
        """Its own."""
        return self.coder.setting

    def code(self, faces_nchw: Tensor) -> Iterator[CodedFaces]:
        """See `FaceCoder.code`."""
        # Pictures have no rate, but encoders want one.
        for coded in self.coder.code([tuple(split_calls(faces_nchw))], fps=25.0):
            yield CodedFaces(file_bytes=coded.sizes, payload_bytes=coded.sizes, decoded_nchw=coded.decoded_nchw)


def hsc_coders(hsc: HscCodec, *, qualities: Sequence[int], slices: Sequence[int]) -> Iterator[FaceCoder]:
    """Yield HSC from nothing at all to whole streams; what is thinned has the highest of the qualities.

    Raises:
        CodecError: The codec has not so many slices.
    """
    thick = hsc.at_quality(max(qualities))
    yield MeanFaceCoder(hsc=thick)
    for count in sorted(slices):
        setting = f"quality {thick.spec.quality}, " + ("core alone" if count == 0 else f"slices {count}")
        yield HscCoder(hsc=thick.restricted_to(count), codec=THINNED, setting=setting)
    for quality in sorted(qualities):
        yield HscCoder(hsc=hsc.at_quality(quality), codec=OURS, setting=f"quality {quality}")


def require_format(name: PictureFormat) -> None:
    """Check that this Pillow writes a format.

    Raises:
        PreflightError: It does not.
    """
    if not features.check(name):
        raise PreflightError(f"this Pillow writes no {name}: install Pillow's own wheel, or leave it out of --anchors")
