"""What a checkpoint makes of held-out pictures: real bytes, and what is lost.

Letters in shapes: N pictures, C channels, h and w positions of the features.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.dicm.layouts import INTRA_VERSION
from framevault.codecs.dicm.training import relative_error
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.jobs.train.frozen_backbone import FrozenTail
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import Row


@torch.inference_mode()
def measure_checkpoint(path: Path, pictures: PictureSet, tail: FrozenTail, *, quality: int) -> Row:
    """Encode pictures with a checkpoint, each by itself, and compare what is decoded.

    Args:
        path: The checkpoint.
        pictures: At least one.
        tail: Of the backbone; its device is the codec's.
        quality: 1 to 8.

    Returns:
        `quality`, `pictures`, `bytes_per_picture` and `bits_per_pixel` of the real streams, and the squared error over
        each picture's variance, the mean over the pictures: `feature_error` of the decoded features, and `tail_error`
        of what the tail's last stage makes of them, where there is a tail.
    """
    device = str(tail.device)
    spec = CodecSpec(name="dicm", quality=quality, weights=str(path), device=device, bitstream_version=INTRA_VERSION)
    codec = load_dicm(spec)
    num_bytes = num_pixels = 0
    errors: list[list[float]] = []
    for rgb_hwc in pictures.rgb_hwc:
        height, width = rgb_hwc.shape[:2]
        frames_nchw = torch.from_numpy(np.array(rgb_hwc)).permute(2, 0, 1)[None]
        streams = codec.encoder(height=height, width=width).encode(frames_nchw)
        decoded_nchw = codec.decoder(height=height, width=width).decode(streams)
        num_bytes += sum(map(len, streams))
        num_pixels += height * width
        errors.append(_errors(decoded_nchw, codec.head_features(frames_nchw), tail))
    names = ("feature_error", "tail_error")[: len(errors[0])]
    return {
        "quality": quality,
        "pictures": len(pictures),
        "bytes_per_picture": num_bytes / len(pictures),
        "bits_per_pixel": 8 * num_bytes / num_pixels,
        **dict(zip(names, np.mean(errors, axis=0).tolist(), strict=True)),
    }


def _errors(decoded_nchw: Tensor, target_nchw: Tensor, tail: FrozenTail) -> list[float]:
    """Return the relative error of the features, and of the tail's last stage where there is a tail."""
    pairs = [(decoded_nchw, target_nchw)]
    if tail.num_stages:
        pairs.append((tail(decoded_nchw, tail.num_stages)[0][-1], tail(target_nchw, tail.num_stages)[0][-1]))
    return [float(relative_error(decoded, target)[0]) for decoded, target in pairs]
