"""Streams of codec `raw`, bitstream version 1, from FORMAT.md."""

import zlib

import numpy as np
from numpy.typing import NDArray

from tests.storage.independent.documents import FormatError, require


def decode_raw(stream: bytes, *, height: int, width: int) -> NDArray[np.uint8]:
    """Return a frame, RGB uint8 [height, width, 3]."""
    size = 3 * height * width
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(stream, size + 1)
    except zlib.error as error:
        raise FormatError(f"no zlib stream: {error}") from error
    require(len(data) == size and inflater.eof and not inflater.unused_data, f"a frame must have {size} bytes")
    differences_hwc = np.frombuffer(data, np.uint8).reshape(height, width, 3)
    return (np.cumsum(differences_hwc, axis=1, dtype=np.int64) % 256).astype(np.uint8)
