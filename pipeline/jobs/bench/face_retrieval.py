"""Finding a picture among thousands by another version of it: nearest neighbours of vectors.

Letters in shapes: N pictures of the gallery, Q queries, V values of a vector, H and W pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SHARE_CUT = 0.06
"""Of a side, at each border, by `crop`."""

SHARE_SHIFTED = 0.05
"""Of a side, to the right and half as much down, by `shift`; the border is repeated."""

GAIN, OFFSET = 1.2, 12
"""Of the values 0 to 255, by `brighter`."""

LEAST_DEVIATION = 1e-6
"""A value that is the same for all pictures says nothing."""


def crop(faces_nchw: Tensor) -> Tensor:
    """Return the inner part, enlarged to the same size."""
    height, width = faces_nchw.shape[2:]
    rows, columns = round(SHARE_CUT * height), round(SHARE_CUT * width)
    inner_nchw = faces_nchw[:, :, rows : height - rows, columns : width - columns].float()
    grown_nchw = functional.interpolate(inner_nchw, (height, width), mode="bicubic", align_corners=False)
    return grown_nchw.round().clamp(0, 255).to(torch.uint8)


def shift(faces_nchw: Tensor) -> Tensor:
    """Return them moved to the right and down."""
    height, width = faces_nchw.shape[2:]
    right, down = round(SHARE_SHIFTED * width), round(SHARE_SHIFTED * height / 2)
    padded_nchw = functional.pad(faces_nchw.float(), (right, 0, down, 0), mode="replicate")
    return padded_nchw[:, :, :height, :width].to(torch.uint8)


def mirror(faces_nchw: Tensor) -> Tensor:
    """Return them with left and right exchanged."""
    return faces_nchw.flip(3)


def brighter(faces_nchw: Tensor) -> Tensor:
    """Return them brighter."""
    return (faces_nchw.float() * GAIN + OFFSET).round().clamp(0, 255).to(torch.uint8)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "crop": crop,
    "shift": shift,
    "brighter": brighter,
    "mirror": mirror,
}
"""Functions of pictures, uint8 [N, 3, H, W], by name."""


def is_first(queries_qv: Tensor, gallery_nv: Tensor, wanted_q: Tensor) -> Tensor:
    """Say of each query whether its picture is nearest, [Q].

    Nearest is the largest cosine, after each value's mean over the gallery is taken off and its deviation made 1.

    Args:
        queries_qv: Vectors of changed pictures.
        gallery_nv: Vectors of all pictures.
        wanted_q: Position in the gallery of what each query was made of.
    """
    mean_v, deviation_v = gallery_nv.mean(dim=0), gallery_nv.std(dim=0)
    is_told_v = deviation_v > LEAST_DEVIATION
    query_qv, other_nv = (
        functional.normalize(((x_nv - mean_v) / deviation_v)[:, is_told_v], dim=1) for x_nv in (queries_qv, gallery_nv)
    )
    return (query_qv @ other_nv.T).argmax(dim=1) == wanted_q
