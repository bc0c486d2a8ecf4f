"""The DICM codec: frames -> bitstreams -> features.

::

    rgb u8 [N,3,H,W] -> normalise, pad to 16 -> head -> g_a, gain -> y [N,M,h,w]           h = ceil(H/16)
        y -> pad to 4 -> h_a -> round -> z -> h_s (integers) -> scale index, mean
        round(y - mean), z -> rANS -> one stream a frame
    stream -> z -> h_s -> scale index, mean -> y^ -> inverse gain, g_s -> features [N,24,ceil(H/4),ceil(W/4)]

The encoder's networks are floats of any kind: only the symbols that they lead to count. What the decoder must repeat
to the bit is in `hyper_synthesis.py` and the tables. Letters in shapes: N frames, M and Z channels of the latents,
H and W pixels, h and w positions of the latent grid.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.base import check_frames, check_size
from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.dicm.backbone import HEAD_STRIDE, IMAGENET_MEAN, IMAGENET_STD
from framevault.codecs.dicm.entropy import SYMBOL_LIMIT, EntropyCoder, FrequencyTables
from framevault.codecs.dicm.hyper_synthesis import HYPER_LIMIT, MEAN_STEP, FixedPointHyperSynthesis
from framevault.codecs.dicm.networks import LATENT_STRIDE, DicmConfig, DicmNetworks, EncoderNetworks, encoder_dtype
from framevault.codecs.errors import BitstreamError, CheckpointError, CodecError
from framevault.codecs.spec import CodecSpec

HYPER_RATIO = 4
"""Positions of y to a position of z, in both directions."""


def load_dicm(spec: CodecSpec) -> "DicmCodec":
    """Load the codec onto its device.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or not of this codec.
    """
    path = spec.checkpoint_path
    assert path is not None
    tensors, config_json = load_checkpoint(path, codec="dicm")
    try:
        config = DicmConfig(**{name: _whole(name, value) for name, value in config_json.items()})
        networks = DicmNetworks(config)
        fixed = FixedPointHyperSynthesis(config)
        fixed.load_fixed_point(_below("h_s.", tensors))
        networks.load_state_dict(_below("networks.", tensors), strict=False)
        _check_names(networks, tensors)
        coder = EntropyCoder(_tables("hyper", tensors), _tables("latent", tensors), config.skip_below)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the dicm codec: {error}") from error
    networks = networks.eval().requires_grad_(False).to(spec.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    encoder_networks = EncoderNetworks(networks, encoder_dtype(torch.device(spec.device)))
    return DicmCodec(spec, networks, encoder_networks, fixed.to(spec.device), coder)


@dataclass(frozen=True, slots=True)
class DicmCodec:
    """Networks and tables of a checkpoint at one quality; thread-safe."""

    spec: CodecSpec
    """What it was loaded from."""
    networks: DicmNetworks
    """The float networks, on the spec's device."""
    encoder_networks: EncoderNetworks
    """Those of them that encoding runs, in the precision that is fastest there."""
    hyper_synthesis: FixedPointHyperSynthesis
    """h_s in integers."""
    coder: EntropyCoder
    """Tables and coder."""

    def encoder(self, *, height: int, width: int) -> "DicmEncoder":
        """Start encoding a segment."""
        check_size(height=height, width=width)
        return DicmEncoder(self, height, width)

    def decoder(self, *, height: int, width: int) -> "DicmDecoder":
        """Start decoding a segment."""
        check_size(height=height, width=width)
        return DicmDecoder(self, height, width)

    @torch.inference_mode()
    def head_features(self, frames_nchw: Tensor) -> Tensor:
        """Return what a perfect codec would decode to.

        Args:
            frames_nchw: RGB uint8 [N, 3, H, W].

        Returns:
            float32 [N, 24, ceil(H/4), ceil(W/4)]: the features that the encoder compresses.
        """
        height, width = frames_nchw.shape[2:]
        features_nchw: Tensor = self.networks.head(self._normalise_pixels(frames_nchw))
        return features_nchw[:, :, : -(-height // HEAD_STRIDE), : -(-width // HEAD_STRIDE)]

    def _normalise_pixels(self, frames_nchw: Tensor) -> Tensor:
        """Return ImageNet-normalised RGB, float32 on the device, padded to the latent's stride."""
        device = torch.device(self.spec.device)
        mean = torch.tensor(IMAGENET_MEAN, device=device)[:, None, None]
        std = torch.tensor(IMAGENET_STD, device=device)[:, None, None]
        rgb_nchw = (frames_nchw.to(device).float() / 255 - mean) / std
        return _pad_to_multiple(rgb_nchw, LATENT_STRIDE).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def symbols(self, frames_nchw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the whole numbers that a batch of frames is coded as.

        Returns:
            z [N, Z, ceil(h/4), ceil(w/4)], y minus mean [N, M, h, w], and scale indices [N, M, h, w]; all int32.

        Raises:
            CodecError: The networks gave a value that is no number.
        """
        quality_n = self._quality(len(frames_nchw))
        y_nchw = self.encoder_networks(self._normalise_pixels(frames_nchw), quality_n)
        z_nchw = torch.round(self.networks.h_a(_pad_to_multiple(y_nchw, HYPER_RATIO)))
        z_nchw = z_nchw.clamp(-HYPER_LIMIT, HYPER_LIMIT).contiguous()
        index_nchw, mean_nchw = self.entropy_parameters(z_nchw, y_nchw.shape[2], y_nchw.shape[3])
        residual_nchw = torch.round(y_nchw - mean_nchw * MEAN_STEP).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
        if not bool(torch.isfinite(residual_nchw).all() & torch.isfinite(z_nchw).all()):
            raise CodecError("the networks gave values that are no numbers: the checkpoint or the device is faulty")
        residual_nchw = torch.where(index_nchw >= self.coder.skip_below, residual_nchw, 0)
        return z_nchw.int(), residual_nchw.int(), index_nchw

    def entropy_parameters(self, z_nchw: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return scale indices and means (in sixteenths), int32 [N, M, height, width], for a decoded z."""
        index_nchw, mean_nchw = self.hyper_synthesis(z_nchw)
        return index_nchw[:, :, :height, :width], mean_nchw[:, :, :height, :width]

    @torch.inference_mode()
    def features_of(self, residual_nchw: Tensor, mean_nchw: Tensor) -> Tensor:
        """Return features float32 [N, 24, 4h, 4w] of decoded symbols and means, int32 [N, M, h, w]."""
        y_nchw = (residual_nchw + mean_nchw * MEAN_STEP).contiguous(memory_format=torch.channels_last)
        return self.networks.synthesise(y_nchw, self._quality(len(y_nchw)))

    def _quality(self, num_frames: int) -> Tensor:
        return torch.full((num_frames,), self.spec.quality - 1, device=self.spec.device)


@dataclass(frozen=True, slots=True)
class DicmEncoder:
    """Encodes one segment's frames, each by itself."""

    codec: DicmCodec
    """Networks and tables."""
    height: int
    """Of each frame, in pixels."""
    width: int
    """Of each frame, in pixels."""

    def encode(self, frames_nchw: Tensor) -> list[bytes]:
        """Encode frames; see `Encoder.encode`."""
        check_frames(frames_nchw, height=self.height, width=self.width)
        if len(frames_nchw) == 0:
            return []
        z_nchw, y_nchw, index_nchw = (tensor.cpu().numpy() for tensor in self.codec.symbols(frames_nchw))
        return [self.codec.coder.encode(*frame) for frame in zip(z_nchw, y_nchw, index_nchw, strict=True)]


@dataclass(frozen=True, slots=True)
class DicmDecoder:
    """Decodes one segment's streams, each by itself."""

    codec: DicmCodec
    """Networks and tables."""
    height: int
    """Of each frame, in pixels."""
    width: int
    """Of each frame, in pixels."""

    def decode(self, streams: Sequence[bytes]) -> Tensor:
        """Decode features float32 [N, 24, ceil(H/4), ceil(W/4)]; see `Decoder.decode`."""
        height, width = -(-self.height // HEAD_STRIDE), -(-self.width // HEAD_STRIDE)
        if not streams:
            return torch.zeros((0, self.codec.networks.feature_mean.numel(), height, width))
        frames = [self._symbols(stream, position) for position, stream in enumerate(streams)]
        residual_nchw, mean_nchw = (torch.cat(parts) for parts in zip(*frames, strict=True))
        return self.codec.features_of(residual_nchw, mean_nchw)[:, :, :height, :width]

    def _symbols(self, stream: bytes, position: int) -> tuple[Tensor, Tensor]:
        """Decode one stream to y minus mean, and mean; int32 [1, M, h, w] on the codec's device."""
        grid = (-(-self.height // LATENT_STRIDE), -(-self.width // LATENT_STRIDE))
        config = self.codec.networks.config
        z_shape = (config.hyper, -(-grid[0] // HYPER_RATIO), -(-grid[1] // HYPER_RATIO))
        device = self.codec.spec.device
        means: list[Tensor] = []

        def index_of(
            z_chw: np.ndarray[tuple[int, ...], np.dtype[np.int32]],
        ) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
            index_nchw, mean_nchw = self.codec.entropy_parameters(torch.from_numpy(z_chw)[None].to(device), *grid)
            means.append(mean_nchw)
            return index_nchw[0].cpu().numpy()

        try:
            _, y_chw = self.codec.coder.decode(stream, z_shape, index_of)
        except BitstreamError as error:
            raise BitstreamError(f"stream {position} of the call: {error}") from error
        return torch.from_numpy(y_chw)[None].to(device), means[0]


def export_tensors(
    networks: DicmNetworks, fixed: dict[str, Tensor], hyper: Sequence[Tensor], latent: Sequence[Tensor]
) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Return a checkpoint's tensors and configuration; `load_dicm` reads them.

    Args:
        networks: The trained networks.
        fixed: What `to_fixed_point` made of h_s.
        hyper: Cumulative frequencies, lengths and offsets of z.
        latent: The same of y.
    """
    state = {f"networks.{name}": t for name, t in networks.state_dict().items() if not name.startswith("h_s.")}
    tables = {
        f"tables.{kind}.{name}": tensor.int()
        for kind, tensors in (("hyper", hyper), ("latent", latent))
        for name, tensor in zip(_TABLE_PARTS, tensors, strict=True)
    }
    return {**state, **{f"h_s.{name}": t for name, t in fixed.items()}, **tables}, dataclasses.asdict(networks.config)


_TABLE_PARTS = ("cumulative", "lengths", "offsets")


def _tables(kind: str, tensors: dict[str, Tensor]) -> FrequencyTables:
    return FrequencyTables.from_tensors(*(tensors[f"tables.{kind}.{name}"] for name in _TABLE_PARTS))


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_names(networks: DicmNetworks, tensors: dict[str, Tensor]) -> None:
    """Check that nothing but the trainable h_s is missing, which its integer form replaces."""
    expected = {f"networks.{name}" for name in networks.state_dict() if not name.startswith("h_s.")}
    got = {name for name in tensors if name.startswith("networks.")}
    if expected != got:
        raise ValueError(f"tensors missing or unknown: {sorted(expected ^ got)[:5]}")


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    return value


def _pad_to_multiple(x_nchw: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples."""
    bottom, right = (-x_nchw.shape[2] % multiple, -x_nchw.shape[3] % multiple)
    return functional.pad(x_nchw, (0, right, 0, bottom), mode="replicate") if bottom or right else x_nchw
