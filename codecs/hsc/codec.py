"""The HSC codec: frames of one domain -> bitstreams -> frames.

::

    frames u8 [N,3,H,W] -> square -> GIE -> styles S, f;  S -> SCN -> round -> core symbols [N,K] -> SCN -> S^
        S^ -> generator's lower blocks -> F(S^), colours;  f, F(S^) -> FCN -> y [N,M,g,g]
        core symbols, y -> bitstream.py -> one stream a frame -> core symbols, y^
    core symbols -> SCN -> S^ -> lower blocks -> F(S^), colours;  y^, F(S^) -> FCN -> f^
        f^, colours, S^ -> generator's tail -> square -> frames u8 [N,3,H,W]

The networks here are floats of any kind: only the symbols that they lead to count. What the decoder must repeat to the
bit is in `bitstream.py`. Letters in shapes: N frames, H and W pixels, L styles of D values, K core symbols, M latent
channels, g the side of the latent's grid, C channels of the feature, s its side, R the side of the domain's pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from framevault.codecs.base import CheckedStreams, Semantics, check_frames, check_size, check_slices
from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.entropy.latents import MEAN_STEPS
from framevault.codecs.errors import CheckpointError
from framevault.codecs.hsc.bitstream import BatchSymbols, Bitstream
from framevault.codecs.hsc.checkpoint import HscParts, check_golden, read_tensors
from framevault.codecs.hsc.distortion import Distortion, DomainLimits, measure
from framevault.codecs.hsc.encoder_networks import EncoderNetworks
from framevault.codecs.hsc.geometry import from_square, place, to_square
from framevault.codecs.hsc.networks import HscNetworks
from framevault.codecs.hsc.thinning import HscThinner
from framevault.codecs.layers.precision import fastest_dtype
from framevault.codecs.spec import CodecSpec


def load_hsc(spec: CodecSpec) -> "HscCodec":
    """Load the codec onto its device, and try on a golden vector whether it computes there what it should.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or not of this codec.
        GoldenMismatchError: This machine computes other symbols than the one that made the checkpoint.
    """
    path = spec.checkpoint_path
    assert path is not None
    if spec.weights is None and not path.exists():
        raise CheckpointError(f"this installation ships no weights of codec 'hsc' ({path}): name some with --weights")
    tensors, config_json = load_checkpoint(path, codec="hsc")
    try:
        parts = read_tensors(tensors, config_json)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the hsc codec: {error}") from error
    return make_codec(spec, parts, path=path)


def make_codec(spec: CodecSpec, parts: HscParts, *, path: Path) -> "HscCodec":
    """Put what a checkpoint describes onto a device; arguments and errors as `load_hsc`, `path` for messages."""
    networks = parts.networks.eval().requires_grad_(False).to(spec.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    parts.bitstream.networks.to(spec.device)
    check_golden(parts.bitstream, parts.golden, name=str(path), device=spec.device)
    codec = HscCodec(
        spec=spec,
        networks=networks,
        encoder_networks=EncoderNetworks(networks, fastest_dtype(torch.device(spec.device))),
        bitstream=replace(parts.bitstream, quality=spec.quality),
        limits=parts.limits,
    )
    return codec if spec.slices is None else codec.restricted_to(spec.slices)


@dataclass(frozen=True, slots=True, kw_only=True)
class HscCodec:
    """A checkpoint at one quality; thread-safe."""

    spec: CodecSpec
    """What it was loaded from."""
    networks: HscNetworks
    """The float networks, on the spec's device."""
    encoder_networks: EncoderNetworks
    """Those of them that encoding alone runs, in the precision that is fastest there."""
    bitstream: Bitstream
    """Integer networks, tables and coder."""
    limits: DomainLimits
    """From where on a frame is outside the domain."""

    def is_independent(self, stream: bytes) -> bool:
        """Say that every frame decodes by itself."""
        return True

    @property
    def num_slices(self) -> int:
        """Slices of its streams; see `SupportsThinning.num_slices`."""
        return self.bitstream.num_coded

    def at_quality(self, quality: int) -> "HscCodec":
        """Return it at another quality, 1 to 8."""
        return replace(
            self, spec=replace(self.spec, quality=quality), bitstream=replace(self.bitstream, quality=quality)
        )

    def restricted_to(self, slices: int) -> "HscCodec":
        """Return it without the last slices.

        Raises:
            CodecError: It has no more slices than that.
        """
        check_slices(slices, num_slices=self.num_slices)
        return replace(self, bitstream=replace(self.bitstream, num_coded=slices))

    def thinner(self, *, height: int, width: int, slices: int) -> HscThinner:
        """Start thinning a segment; see `SupportsThinning.thinner`."""
        check_size(height=height, width=width)
        few = self.restricted_to(slices)
        return HscThinner(source=self.bitstream, target=few.bitstream, device=self.spec.device)

    def encoder(self, *, height: int, width: int) -> "HscEncoder":
        """Start encoding a segment."""
        check_size(height=height, width=width)
        return HscEncoder(self, height, width)

    def decoder(self, *, height: int, width: int) -> "HscDecoder":
        """Start decoding a segment."""
        check_size(height=height, width=width)
        return HscDecoder(self, height, width)

    @torch.inference_mode()
    def analyse(self, square_nchw: Tensor) -> "Analysis":
        """Return what square pictures, RGB in -1..1 [N, 3, R, R], are coded from."""
        channels_last_nchw = square_nchw.contiguous(memory_format=torch.channels_last)
        styles_nld, feature_nchw = self.encoder_networks.invert(channels_last_nchw)
        core_nk = torch.round(self.networks.style_codec.analyse(styles_nld))
        decoded_nld = self.networks.style_codec.synthesise(core_nk)
        with self.encoder_networks.fast_precision():
            own_nchw, colours_nchw = self.networks.generator.lower(decoded_nld)
        y_nmgg = self.encoder_networks.analyse(feature_nchw, own_nchw, self._quality(len(square_nchw)))
        return Analysis(core_nk, y_nmgg.contiguous(), decoded_nld, own_nchw.float(), colours_nchw)

    @torch.inference_mode()
    def preview(self, analysis: "Analysis", latent16_nmgg: Tensor) -> Tensor:
        """Return what `restore` would, up to some hundredths of a level, from what the encoder has already."""
        feature_nchw = self._feature(latent16_nmgg, analysis.own_nchw)
        with self.encoder_networks.fast_precision():
            return self.networks.generator.tail(feature_nchw, analysis.colours_nchw, analysis.styles_nld).float()

    @torch.inference_mode()
    def restore(self, core_nk: Tensor, latent16_nmgg: Tensor) -> Tensor:
        """Return the square pictures, float32 [N, 3, R, R] in about -1..1, of decoded symbols."""
        styles_nld = self.networks.style_codec.synthesise(core_nk)
        own_nchw, colours_nchw = self.networks.generator.lower(styles_nld)
        feature_nchw = self._feature(latent16_nmgg, own_nchw)
        return self.networks.generator.tail(feature_nchw, colours_nchw, styles_nld)

    @torch.inference_mode()
    def semantics(self, core_nk: Tensor, latent16_nmgg: Tensor) -> Semantics:
        """Return styles and feature of decoded symbols."""
        styles_nld = self.networks.style_codec.synthesise(core_nk)
        own_nchw, _ = self.networks.generator.lower(styles_nld)
        return Semantics(styles_nld, self._feature(latent16_nmgg, own_nchw), core_nk)

    def _feature(self, latent16_nmgg: Tensor, own_nchw: Tensor) -> Tensor:
        """Return f^ [N, C, s, s] of latents in sixteenths."""
        y_nmgg = (latent16_nmgg * (1 / MEAN_STEPS)).contiguous(memory_format=torch.channels_last)
        return self.networks.feature_codec.synthesise(y_nmgg, own_nchw, self._quality(len(y_nmgg)))

    def _quality(self, num_frames: int) -> Tensor:
        return torch.full((num_frames,), self.spec.quality - 1, device=self.spec.device)


class Analysis(NamedTuple):
    """What the encoder's networks make of square pictures."""

    core_nk: Tensor
    """Core symbols, whole numbers in float32."""
    y_nmgg: Tensor
    """Latents, float32."""
    styles_nld: Tensor
    """S^, of the core symbols."""
    own_nchw: Tensor
    """F(S^), float32 [N, C, s, s]."""
    colours_nchw: Tensor
    """The generator's colours so far, [N, 3, s, s]."""


@dataclass(frozen=True, slots=True)
class HscEncoder:
    """Encodes one segment's frames."""

    codec: HscCodec
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
        analysis = self.codec.analyse(self._square(frames_nchw))
        return self.codec.bitstream.encode(analysis.core_nk, analysis.y_nmgg)

    def encode_checked(self, frames_nchw: Tensor) -> CheckedStreams:
        """Encode frames, and restore them to see whether they are the domain's; see `SupportsDomainCheck`."""
        check_frames(frames_nchw, height=self.height, width=self.width)
        if len(frames_nchw) == 0:
            return CheckedStreams([], [])
        symbols, found = self._code_and_measure(frames_nchw)
        outside = self.codec.limits.are_outside(found, quality=self.codec.spec.quality)
        return CheckedStreams(self.codec.bitstream.write_symbols(symbols), outside)

    def find_symbols(self, frames_nchw: Tensor) -> BatchSymbols:
        """Return what frames, at least one, are coded as.

        Raises:
            CodecError: The frames have another shape or type.
        """
        check_frames(frames_nchw, height=self.height, width=self.width)
        analysis = self.codec.analyse(self._square(frames_nchw))
        return self.codec.bitstream.find_symbols(analysis.core_nk, analysis.y_nmgg)

    def measure(self, frames_nchw: Tensor) -> Distortion:
        """Return how far each of some frames, at least one, is from what would be restored of it.

        Raises:
            CodecError: The frames have another shape or type.
        """
        check_frames(frames_nchw, height=self.height, width=self.width)
        return self._code_and_measure(frames_nchw)[1]

    def _square(self, frames_nchw: Tensor) -> Tensor:
        config = self.codec.networks.config
        return to_square(frames_nchw, resolution=config.resolution, device=self.codec.spec.device)

    def _code_and_measure(self, frames_nchw: Tensor) -> tuple[BatchSymbols, Distortion]:
        """Compare the frame's own part of the square; what it was filled up with does not count."""
        square_nchw = self._square(frames_nchw)
        analysis = self.codec.analyse(square_nchw)
        symbols = self.codec.bitstream.find_symbols(analysis.core_nk, analysis.y_nmgg)
        restored_nchw = self.codec.preview(analysis, symbols.latent16_nmgg)
        where = place(self.height, self.width, resolution=square_nchw.shape[2])
        return symbols, measure(where.cut(restored_nchw), where.cut(square_nchw))


@dataclass(frozen=True, slots=True)
class HscDecoder:
    """Decodes one segment's streams; see `SupportsEditing` for all but `decode`."""

    codec: HscCodec
    """Networks and tables."""
    height: int
    """Of each frame, in pixels."""
    width: int
    """Of each frame, in pixels."""

    @property
    def num_slices(self) -> int:
        """Slices that its streams hold."""
        return self.codec.num_slices

    def decode(self, streams: Sequence[bytes]) -> Tensor:
        """Decode frames uint8 [N, 3, H, W]; see `Decoder.decode`."""
        if not streams:
            return self._no_frames()
        decoded = self.codec.bitstream.decode(streams, device=self.codec.spec.device)
        return from_square(self.codec.restore(*decoded), height=self.height, width=self.width)

    def decode_core(self, streams: Sequence[bytes]) -> Tensor:
        """Decode core symbols alone, [N, K]; runs no network."""
        if not streams:
            return torch.zeros((0, self.codec.networks.config.core), device=self.codec.spec.device)
        return self.codec.bitstream.decode_core(streams).to(self.codec.spec.device)

    def decode_latents(self, streams: Sequence[bytes], *, slices: int | None = None) -> Semantics:
        """Decode styles and feature, with the first slices only if so told."""
        if not streams:
            return _first(self.mean_latents(1), 0)
        return self.codec.semantics(*self.codec.bitstream.decode(streams, device=self.codec.spec.device, slices=slices))

    def mean_latents(self, num_frames: int) -> Semantics:
        """Return styles and feature of streams of no bytes."""
        core_nk = torch.from_numpy(self.codec.bitstream.middle_core_k).to(self.codec.spec.device).float()
        core_nk = core_nk.expand(max(1, num_frames), -1).contiguous()
        both = self.codec.semantics(core_nk, self.codec.bitstream.latents_of_core(core_nk))
        return _first(both, num_frames)

    @torch.inference_mode()
    def own_feature(self, styles_nld: Tensor) -> Tensor:
        """Return the generator's own feature F(S) [N, C, s, s]."""
        return self.codec.networks.generator.lower(styles_nld)[0]

    @torch.inference_mode()
    def render(self, styles_nld: Tensor, feature_nchw: Tensor) -> Tensor:
        """Return the frames, uint8 [N, 3, H, W], of styles [N, L, D] and a feature [N, C, s, s]."""
        if len(styles_nld) == 0:
            return self._no_frames()
        generator = self.codec.networks.generator
        _, colours_nchw = generator.lower(styles_nld)
        square_nchw = generator.tail(feature_nchw, colours_nchw, styles_nld)
        return from_square(square_nchw, height=self.height, width=self.width)

    def _no_frames(self) -> Tensor:
        return torch.zeros((0, 3, self.height, self.width), dtype=torch.uint8, device=self.codec.spec.device)


def _first(semantics: Semantics, count: int) -> Semantics:
    return Semantics(*(tensor[:count] for tensor in semantics))
