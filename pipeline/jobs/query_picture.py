"""The picture that a search begins with."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from framevault.pipeline.exits import PreflightError


def read_picture(path: str) -> NDArray[np.uint8]:
    """Return a picture, turned as its EXIF orientation says, as RGB uint8 [1, H, W, 3].

    Raises:
        PreflightError: It can't be read.
    """
    try:
        with Image.open(path) as picture:
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))[None]
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise PreflightError(f"picture {path} can't be read: {error}") from error
