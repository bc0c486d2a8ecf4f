"""Frames of which nothing but faces is known: a plain canvas, and on it each face where it was.

::

    streams -> regions, streams of faces -> decoder of faces -> faces [K, 3, R, R] -> canvases [N, H, W, 3]

Letters in shapes: N frames of H x W pixels, K faces, R the side of the pictures that the decoder gives.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from framevault.codecs.faces.geometry import paste_face
from framevault.workers.stored_faces import decode_faces, faces_in

CANVAS_LEVEL = 128
"""Red, green and blue where nothing is known."""


def place_faces(
    streams: Sequence[bytes],
    decode: Callable[[Sequence[bytes]], Tensor],
    *,
    height: int,
    width: int,
    batch_size: int,
) -> NDArray[np.uint8]:
    """Return frames, RGB uint8 [N, H, W, 3], with their faces in place: where some overlap, the surest lies on top.

    Args:
        streams: Of a codec with faces, one a frame.
        decode: Decodes streams of faces to uint8 [K, 3, R, R].
        height: Of the frames, in pixels.
        width: Of the frames, in pixels.
        batch_size: Most faces of a call.

    Raises:
        BitstreamError: A stream, or one of its faces, is damaged; the message says which.
    """
    canvases_nhwc = np.full((len(streams), height, width, 3), CANVAS_LEVEL, np.uint8)
    faces = sorted(faces_in(streams), key=lambda each: (each.stream_number, each.face.region.score))
    for batch, faces_kchw in decode_faces(faces, decode, batch_size=batch_size):
        faces_khwc = np.ascontiguousarray(faces_kchw.permute(0, 2, 3, 1).cpu().numpy())
        for each, face_hwc in zip(batch, faces_khwc, strict=True):
            paste_face(canvases_nhwc[each.stream_number], face_hwc, each.face.region)
    return canvases_nhwc
