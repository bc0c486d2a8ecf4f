"""Reads pictures as frames, with Pillow. Runs in the decoding child only.

A picture is turned as its EXIF orientation says, before anything else: its size is the upright one. It becomes RGB of 8
bits; alpha is dropped without blending, of an animation the first picture is taken.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from framevault.workers.errors import DecodeError, SourceChangedError, SourceUnavailableError
from framevault.workers.limits import DecodeLimits, grant_cpu
from framevault.workers.messages import Message
from framevault.workers.sourcefiles import open_source

PICTURE_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read."""

_EXIF_ORIENTATION = 0x0112
# What Pillow raises at damaged files, besides its own UnidentifiedImageError.
_PICTURE_ERRORS = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    EOFError,
    IndexError,
    KeyError,
)


def probe_picture(url: str, *, limits: DecodeLimits, on_progress: Callable[[], None]) -> Message:
    """Hashes one picture and reads its upright size from its header; 0x0 if it has no header that can be read.

    Raises:
        SourceUnavailableError: It can't be reached.
        SourceChangedError: It changed meanwhile.
    """
    file = open_source(url)
    grant_cpu(limits.cpu_s_start + limits.cpu_s_per_megabyte * file.size_bytes / 1e6)
    try:
        digest = file.hash_content(on_progress)
        try:
            with _open_picture(url, file, limits=limits) as picture:
                width, height = _upright_size(picture)
                codec = (picture.format or "unknown").lower()
        except DecodeError:
            # Not this picture's place to stop the whole folder: its segment will say what is wrong with it.
            width, height, codec = 0, 0, "unknown"
        if file.has_changed():
            raise SourceChangedError(f"{url}: it changed while it was probed")
    finally:
        file.close()
    return {
        "digest": digest,
        "version_token": file.version_token,
        "size_bytes": file.size_bytes,
        "width": width,
        "height": height,
        "codec": codec,
    }


def decode_picture(url: str, *, version_token: str, limits: DecodeLimits) -> NDArray[np.uint8]:
    """Gives the upright picture as RGB uint8 [height, width, 3].

    Raises:
        DecodeError: It is damaged, of no format that is read, or too large.
        SourceChangedError: It is not the one that was planned.
        SourceUnavailableError: It can't be reached.
    """
    file = open_source(url)
    try:
        if file.version_token != version_token:
            raise SourceChangedError(f"{url}: expected version {version_token}, found {file.version_token}")
        with _open_picture(url, file, limits=limits) as picture:
            rgb_hwc = _decode(url, picture)
        if file.has_changed():
            raise SourceChangedError(f"{url}: it changed while it was read")
    finally:
        file.close()
    return rgb_hwc


def _open_picture(url: str, file: object, *, limits: DecodeLimits) -> Image.Image:
    Image.MAX_IMAGE_PIXELS = None  # Our own limit stands below; Pillow's only warns.
    try:
        picture = Image.open(file, formats=PICTURE_FORMATS)  # type: ignore[arg-type]  # a nameless readable, not IO[bytes]
    except SourceUnavailableError:
        raise
    except _PICTURE_ERRORS as error:
        raise DecodeError(f"{url}: expected a picture ({', '.join(PICTURE_FORMATS)}): {error}") from error
    if picture.width * picture.height > limits.max_pixels:
        size = f"{picture.width}x{picture.height}"
        raise DecodeError(f"{url}: expected at most {limits.max_pixels} pixels, got {size}")
    return picture


def _upright_size(picture: Image.Image) -> tuple[int, int]:
    try:
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except _PICTURE_ERRORS:
        orientation = 1  # As exif_transpose does not turn it either.
    return (picture.height, picture.width) if orientation in (5, 6, 7, 8) else (picture.width, picture.height)


def _decode(url: str, picture: Image.Image) -> NDArray[np.uint8]:
    try:
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith(("I", "F")):
            return _gray_to_rgb(np.asarray(upright))
        return np.asarray(upright.convert("RGB"))
    except _PICTURE_ERRORS as error:
        raise DecodeError(f"{url}: the picture can't be decoded: {error}") from error


def _gray_to_rgb(gray_hw: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Takes the upper 8 of 16 bits: Pillow's own conversion would clip everything above 255."""
    if gray_hw.dtype.kind == "f":
        raise ValueError("pictures of floating-point samples have no defined range")
    eight_bits = (np.clip(gray_hw.astype(np.int64), 0, 65535) >> 8).astype(np.uint8)
    return np.repeat(eight_bits[:, :, np.newaxis], 3, axis=2)
