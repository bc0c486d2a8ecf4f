"""What machines read of coded faces: from HSC's meaning before it becomes a picture, or from decoded pictures.

| read from | for landmarks | to search by |
| --- | --- | --- |
| `core symbols` | styles S | core symbols, as `framevault similar --face` does |
| `S and f` | styles S, and feature f over a grid of 8 x 8 | |
| `pooled f` | | f, mean over positions |
| `pixels` | red, green, blue over a grid of 32 x 32 | |
| `mobilenet_v2` | its features at strides 8 and 16, over a grid of 8 x 8 | its deepest features, mean over positions |

Bytes are of the whole stream, but for core symbols, which are read from a stream thinned to them. Letters in shapes: N
faces, M values of a face, H and W pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.hsc.codec import HscCodec
from framevault.pipeline.jobs.bench.face_coders import OURS, FaceCoder
from framevault.pipeline.jobs.train.hsc.perceptual import PerceptualNetwork

CORE, BOTH, POOLED, PIXELS = "core symbols", "S and f", "pooled f", "pixels"
"""What is read."""

GRID, PIXEL_GRID = 8, 32
"""Positions of a side that are kept of features and of pixels."""

FACES_PER_CALL = 16
"""Faces that go through a codec and a network together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What one reader says of N faces, by what it is read from."""

    sizes_n: Mapping[str, Tensor]
    """Real bytes of each face, float32."""
    places_nm: Mapping[str, Tensor]
    """For landmarks."""
    search_nm: Mapping[str, Tensor]
    """To search by."""


class FaceReader(Protocol):
    """A codec and what is read of its streams."""

    @property
    def codec(self) -> str:
        """What tables call it."""
        ...

    @property
    def setting(self) -> str:
        """What tables call its setting."""
        ...

    def read(self, faces_nchw: Tensor) -> Reading:
        """Encode faces, uint8 [N, 3, H, W], decode real streams and read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HscReader:
    """HSC's styles and feature, and the pictures that are restored from them."""

    hsc: HscCodec
    """The codec at some quality."""
    network: PerceptualNetwork
    """MobileNetV2."""
    codec: str = OURS
    """Its name."""

    @property
    def setting(self) -> str:
        """The quality."""
        return f"quality {self.hsc.spec.quality}"

    def read(self, faces_nchw: Tensor) -> Reading:
        """See `FaceReader.read`."""
        return _join([self._read(batch_nchw) for batch_nchw in torch.split(faces_nchw, FACES_PER_CALL)])

    def _read(self, faces_nchw: Tensor) -> Reading:
        height, width = faces_nchw.shape[2:]
        streams = self.hsc.encoder(height=height, width=width).encode(faces_nchw)
        thin = self.hsc.thinner(height=height, width=width, slices=0).thin(streams)
        decoder = self.hsc.decoder(height=height, width=width)
        meaning = decoder.decode_latents(streams)
        sizes_n = _lengths(streams)
        seen = _see(self.network, decoder.render(meaning.styles_nld, meaning.feature_nchw).cpu(), sizes_n)
        styles_nm = meaning.styles_nld.flatten(1).cpu()
        feature_nm = _on_grid(meaning.feature_nchw, GRID).cpu()
        pooled_nm = meaning.feature_nchw.mean(dim=(2, 3)).cpu()
        return Reading(
            sizes_n={CORE: _lengths(thin), BOTH: sizes_n, POOLED: sizes_n, **seen.sizes_n},
            places_nm={CORE: styles_nm, BOTH: torch.cat([styles_nm, feature_nm], dim=1), **seen.places_nm},
            search_nm={CORE: meaning.core_nk.cpu(), POOLED: pooled_nm, **seen.search_nm},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureReader:
    """Decoded pictures of any codec."""

    coder: FaceCoder
    """Makes them."""
    network: PerceptualNetwork
    """MobileNetV2."""

    @property
    def codec(self) -> str:
        """The coder's name."""
        return self.coder.codec

    @property
    def setting(self) -> str:
        """The coder's setting."""
        return self.coder.setting

    def read(self, faces_nchw: Tensor) -> Reading:
        """See `FaceReader.read`."""
        return _join(
            [
                _see(self.network, coded.decoded_nchw, torch.tensor(coded.payload_bytes, dtype=torch.float32))
                for coded in self.coder.code(faces_nchw)
            ]
        )


@torch.inference_mode()
def _see(network: PerceptualNetwork, rgb_nchw: Tensor, sizes_n: Tensor) -> Reading:
    """Read pictures, uint8 [N, 3, H, W]."""
    seen = network(rgb_nchw.float() / 127.5 - 1, is_deep=True)
    assert seen.deepest_nc is not None
    features_nm = torch.cat([_on_grid(level_nchw, GRID) for level_nchw in seen.compared[-2:]], dim=1)
    return Reading(
        sizes_n={PIXELS: sizes_n, network.name: sizes_n},
        places_nm={PIXELS: _on_grid(rgb_nchw.float(), PIXEL_GRID), network.name: features_nm},
        search_nm={network.name: seen.deepest_nc},
    )


def _on_grid(x_nchw: Tensor, side: int) -> Tensor:
    """Return means over at most `side` x `side` parts of a map, flattened."""
    return functional.adaptive_avg_pool2d(x_nchw, min(side, x_nchw.shape[2])).flatten(1)


def _lengths(streams: list[bytes]) -> Tensor:
    return torch.tensor([len(stream) for stream in streams], dtype=torch.float32)


def _join(parts: list[Reading]) -> Reading:
    first = parts[0]
    return Reading(
        sizes_n={name: torch.cat([part.sizes_n[name] for part in parts]) for name in first.sizes_n},
        places_nm={name: torch.cat([part.places_nm[name] for part in parts]) for name in first.places_nm},
        search_nm={name: torch.cat([part.search_nm[name] for part in parts]) for name in first.search_nm},
    )
