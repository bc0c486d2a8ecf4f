"""What the detector learns from and is measured on: features of pictures, original ones and through real streams.

Letters in shapes: N pictures, C channels of the features, H and W pixels, h = ceil(H / 4), w = ceil(W / 4).
"""

from dataclasses import replace

import torch
from torch import Tensor

from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.dicm.layouts import INTRA_VERSION
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.exits import PreflightError
from framevault.workers.weights import backbone_of


class FeatureSource:
    """A frozen codec at all qualities."""

    def __init__(self, weights: str | None, *, backbone: str, device: torch.device) -> None:
        """Load a checkpoint of codec dicm; None for the shipped one.

        Raises:
            CodecError: It is missing, damaged or another codec's.
            PreflightError: Its features are of another backbone.
        """
        spec = CodecSpec(name="dicm", weights=weights, device=str(device), bitstream_version=INTRA_VERSION)
        if (found := backbone_of(spec)) != backbone:
            raise PreflightError(
                f"weights: {spec.checkpoint_path} holds features of {found}, the detector reads those of {backbone}"
            )
        self._codec = load_dicm(spec)

    def original(self, rgb_nchw: Tensor) -> Tensor:
        """Return features float32 [N, C, h, w] of RGB pictures, uint8 [N, 3, H, W], as the encoder sees them."""
        return self._codec.head_features(rgb_nchw)

    def through_streams(self, rgb_nchw: Tensor, *, quality: int) -> tuple[Tensor, int]:
        """Encode pictures, each by itself, and decode their features; returns these and the streams' bytes."""
        codec = replace(self._codec, spec=replace(self._codec.spec, quality=quality))
        height, width = rgb_nchw.shape[2:]
        streams = codec.encoder(height=height, width=width).encode(rgb_nchw)
        return codec.decoder(height=height, width=width).decode(streams), sum(map(len, streams))
