"""The codecs that HSC is compared with on faces, by name, and the settings that they are run with.

Letters in shapes: N pictures, H and W pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from framevault.pipeline import x265
from framevault.pipeline.jobs.bench.coders import X265IntraCoder, require_encoder
from framevault.pipeline.jobs.bench.face_coders import FaceCoder, FrameCoder, PictureFileCoder, require_format

FaceAnchor = Literal["x265-intra", "avif", "webp"]
"""Codecs that need no weights."""

FACE_ANCHORS: tuple[FaceAnchor, ...] = get_args(FaceAnchor)
"""All of them."""

INTRA_PRESET = "slow"
"""Of x265."""

QPS = (28, 32, 36, 40, 44, 48, 51)
"""Of x265, unless told otherwise: about 100 to 1000 bytes a face of 128 pixels."""

AVIF_QUALITIES = (0, 10, 20, 30, 40, 50)
"""Of AVIF, unless told otherwise."""

WEBP_QUALITIES = (0, 1, 5, 10, 20, 40)
"""Of WebP, unless told otherwise."""

FINE_QPS = tuple(range(51, 19, -1))
"""Of x265, where the bytes of HSC are looked for: every one that could cost as little."""

FINE_AVIF_QUALITIES, FINE_WEBP_QUALITIES = tuple(range(0, 51, 2)), tuple(range(0, 31, 2))
"""Of the others, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodedFace:
    """One picture as one setting codes it."""

    codec: str
    """The codec."""
    setting: str
    """Its setting."""
    file_bytes: int
    """As it is written."""
    payload_bytes: int
    """Without containers and headers."""
    rgb_chw: Tensor
    """Decoded, uint8 [3, H, W]."""


def anchor_coders(
    anchor: FaceAnchor,
    *,
    qps: Sequence[int] = QPS,
    avif_qualities: Sequence[int] = AVIF_QUALITIES,
    webp_qualities: Sequence[int] = WEBP_QUALITIES,
) -> Iterator[FaceCoder]:
    """Yield an anchor at each of its settings.

    Raises:
        PreflightError: This FFmpeg or Pillow can't write it.
    """
    if anchor == "x265-intra":
        require_encoder("libx265")
        for qp in qps:
            yield FrameCoder(
                coder=X265IntraCoder(settings=x265.X265Settings(qp=qp, is_intra=True, preset=INTRA_PRESET))
            )
        return
    require_format(anchor)
    for quality in avif_qualities if anchor == "avif" else webp_qualities:
        yield PictureFileCoder(codec=anchor, quality=quality)


def code_each(coder: FaceCoder, faces_nchw: Tensor) -> list[CodedFace]:
    """Return what a coder makes of each picture, uint8 [N, 3, H, W]."""
    return [
        CodedFace(
            codec=coder.codec,
            setting=coder.setting,
            file_bytes=file_bytes,
            payload_bytes=payload_bytes,
            rgb_chw=rgb_chw,
        )
        for coded in coder.code(faces_nchw)
        for file_bytes, payload_bytes, rgb_chw in zip(
            coded.file_bytes, coded.payload_bytes, coded.decoded_nchw, strict=True
        )
    ]


def next_larger(choices: Iterable[CodedFace], payload_bytes: int) -> CodedFace:
    """Return the smallest of one picture's codings that takes at least so many bytes; the largest if none does."""
    by_size = sorted(choices, key=lambda coded: coded.payload_bytes)
    return next((coded for coded in by_size if coded.payload_bytes >= payload_bytes), by_size[-1])
