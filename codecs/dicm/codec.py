"""The DICM codec: frames -> bitstreams -> features.

::

    rgb u8 [N,3,H,W] -> normalise, pad to 16 -> head -> g_a, gain -> y [N,M,h,w]           h = ceil(H/16)
        y -> pad to 4 -> h_a -> round -> z
        y, z -> bitstream.py -> one stream a frame -> y^
    y^ -> inverse gain, g_s -> features [N,C,ceil(H/4),ceil(W/4)]

The networks here are floats of any kind: only the symbols that they lead to count. What the decoder must repeat to the
bit is in `bitstream.py`. Letters in shapes: N frames, C channels of the backbone's features, M and Z channels of the
latents, H and W pixels, h and w positions of the latent grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.base import Changes, check_frames, check_size, check_slices
from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.dicm.backbones.pixels import normalise
from framevault.codecs.dicm.backbones.registry import BACKBONES, BackboneRow
from framevault.codecs.dicm.bitstream import Bitstream
from framevault.codecs.dicm.checkpoint import check_golden, read_tensors
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.layouts import layout_of
from framevault.codecs.dicm.motion_search import half_brightness
from framevault.codecs.dicm.networks import LATENT_STRIDE, DicmNetworks, EncoderNetworks
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.symbols import HYPER_RATIO, LatentGrid
from framevault.codecs.dicm.thinning import IntraThinner, VideoThinner
from framevault.codecs.dicm.video import SegmentState, VideoBitstream
from framevault.codecs.dicm.video_checkpoint import read_video, video_names
from framevault.codecs.entropy.latents import MEAN_STEPS
from framevault.codecs.errors import CheckpointError
from framevault.codecs.layers.precision import fastest_dtype
from framevault.codecs.spec import CodecSpec


def load_dicm(spec: CodecSpec) -> "DicmCodec":
    """Load the codec onto its device, and try on a golden vector whether it computes there what it should.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or not of this codec.
        GoldenMismatchError: This machine computes other symbols than the one that made the checkpoint.
    """
    path, layout = spec.checkpoint_path, layout_of(spec.bitstream_version)
    assert path is not None
    tensors, config_json = load_checkpoint(path, codec="dicm")
    try:
        config = DicmConfig.from_json(config_json)
        of_video = video_names(config)
        networks, bitstream, golden = read_tensors(
            {name: tensor for name, tensor in tensors.items() if name not in of_video}, config_json
        )
        video = read_video(tensors, config, bitstream) if of_video else None
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the dicm codec: {error}") from error
    networks = networks.eval().requires_grad_(False).to(spec.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    bitstream.networks.to(spec.device)
    check_golden(bitstream, golden, name=str(path), device=spec.device)
    if video is not None:
        video = video.to(spec.device)
        video.check(name=str(path), device=spec.device)
    elif layout is not None:
        raise CheckpointError(f"{path} has no networks for predicted frames: encode every frame by itself (--intra)")
    encoder_networks = EncoderNetworks(networks, fastest_dtype(torch.device(spec.device)))
    coder = None if video is None else replace(video.bitstream, layout=layout or video.bitstream.layout)
    codec = DicmCodec(spec, networks, encoder_networks, bitstream, coder)
    return codec if spec.slices is None else codec.restricted_to(spec.slices)


@dataclass(frozen=True, slots=True)
class DicmCodec:
    """A checkpoint at one quality; thread-safe."""

    spec: CodecSpec
    """What it was loaded from."""
    networks: DicmNetworks
    """The float networks, on the spec's device."""
    encoder_networks: EncoderNetworks
    """Those of them that encoding runs, in the precision that is fastest there."""
    bitstream: Bitstream
    """Integer networks, tables and coder of single frames."""
    video: VideoBitstream | None
    """The same of frames that lean on those before them; None if the checkpoint has none."""

    @property
    def backbone(self) -> BackboneRow:
        """Whose features it carries."""
        return BACKBONES[self.networks.config.backbone]

    def is_independent(self, stream: bytes) -> bool:
        """Say whether a stream decodes without those before it."""
        if not self.is_video:
            return True
        assert self.video is not None
        return self.video.is_intra(stream)

    @property
    def is_video(self) -> bool:
        """Whether frames may lean on those before them."""
        return layout_of(self.spec.bitstream_version) is not None

    @property
    def num_slices(self) -> int:
        """Slices of its streams; see `SupportsThinning.num_slices`."""
        return self.bitstream.num_coded

    def restricted_to(self, slices: int) -> "DicmCodec":
        """Return it without the last slices.

        Raises:
            CodecError: It has no more slices than that.
        """
        check_slices(slices, num_slices=self.num_slices)
        bitstream = replace(self.bitstream, num_coded=slices)
        return replace(
            self, bitstream=bitstream, video=None if self.video is None else replace(self.video, intra=bitstream)
        )

    def thinner(self, *, height: int, width: int, slices: int) -> IntraThinner | VideoThinner:
        """Start thinning a segment; see `SupportsThinning.thinner`."""
        check_size(height=height, width=width)
        few, grid, device = self.restricted_to(slices), grid_of(height, width), self.spec.device
        if not self.is_video:
            return IntraThinner(source=self.bitstream, target=few.bitstream, grid=grid, device=device)
        assert self.video is not None
        assert few.video is not None
        return VideoThinner(source=self.video, target=few.video, grid=grid, device=device)

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
            float32 [N, C, ceil(H/4), ceil(W/4)]: the features that the encoder compresses.
        """
        height, width = frames_nchw.shape[2:]
        stride = self.backbone.head_stride
        features_nchw: Tensor = self.networks.head(self._normalise_pixels(frames_nchw))
        return features_nchw[:, :, : -(-height // stride), : -(-width // stride)]

    def _normalise_pixels(self, frames_nchw: Tensor) -> Tensor:
        """Return ImageNet-normalised RGB, float32 on the device, padded to the latent's stride."""
        rgb_nchw = normalise(frames_nchw, device=torch.device(self.spec.device))
        return _pad_to_multiple(rgb_nchw, LATENT_STRIDE).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def latents(self, frames_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a batch of frames is coded from.

        Returns:
            y [N, M, h, w], and z rounded [N, Z, ceil(h/4), ceil(w/4)]; float32.
        """
        y_nchw = self.latent(frames_nchw)
        return y_nchw, self.hyper_latent(y_nchw)

    @torch.inference_mode()
    def latent(self, frames_nchw: Tensor) -> Tensor:
        """Return y [N, M, h, w], float32, of frames."""
        y_nchw: Tensor = self.encoder_networks(self._normalise_pixels(frames_nchw), self._quality(len(frames_nchw)))
        return y_nchw

    @torch.inference_mode()
    def hyper_latent(self, y_nchw: Tensor) -> Tensor:
        """Return z rounded [N, Z, ceil(h/4), ceil(w/4)], float32, of y."""
        z_nchw: Tensor = self.networks.h_a(_pad_to_multiple(y_nchw, HYPER_RATIO))
        return torch.round(z_nchw).contiguous()

    @torch.inference_mode()
    def brightness(self, frames_nchw: Tensor) -> Tensor | None:
        """Return what the encoder looks for motion in, of RGB uint8 [N, 3, H, W]; None if no frame is moved.

        Returns:
            See `motion_search.half_brightness`; on the device.
        """
        if self.video is None or not self.video.has_moved_frames:
            return None
        return half_brightness(frames_nchw.to(self.spec.device))

    @torch.inference_mode()
    def clean_latents(self, frames_nchw: Tensor) -> Tensor:
        """Return what a perfect entropy coder would decode to, stopped at the latents.

        Args:
            frames_nchw: RGB uint8 [N, 3, H, W].

        Returns:
            float32 [N, M, ceil(H/16), ceil(W/16)], the gain taken out.
        """
        return self.networks.unscale(self.latent(frames_nchw), self._quality(len(frames_nchw)))

    @torch.inference_mode()
    def latents_of(self, latent16_nchw: Tensor) -> Tensor:
        """Return decoded latents, given in sixteenths [N, M, h, w], with the gain taken out; float32."""
        return self.networks.unscale(latent16_nchw * (1 / MEAN_STEPS), self._quality(len(latent16_nchw)))

    @torch.inference_mode()
    def features_of(self, latent16_nchw: Tensor) -> Tensor:
        """Return features float32 [N, C, 4h, 4w] of decoded latents in sixteenths, [N, M, h, w]."""
        y_nchw = (latent16_nchw * (1 / MEAN_STEPS)).contiguous(memory_format=torch.channels_last)
        return self.networks.synthesise(y_nchw, self._quality(len(y_nchw)))

    def _quality(self, num_frames: int) -> Tensor:
        return torch.full((num_frames,), self.spec.quality - 1, device=self.spec.device)


@dataclass(frozen=True, slots=True)
class DicmEncoder:
    """Encodes one segment's frames, in either bitstream version."""

    codec: DicmCodec
    """Networks and tables."""
    height: int
    """Of each frame, in pixels."""
    width: int
    """Of each frame, in pixels."""
    state: SegmentState = field(default_factory=SegmentState)
    """What the next frame is predicted from."""

    def encode(self, frames_nchw: Tensor) -> list[bytes]:
        """Encode frames; see `Encoder.encode`."""
        check_frames(frames_nchw, height=self.height, width=self.width)
        if len(frames_nchw) == 0:
            return []
        y_nchw, z_nchw = self.codec.latents(frames_nchw)
        if not self.codec.is_video:
            return self.codec.bitstream.encode(y_nchw, z_nchw)
        assert self.codec.video is not None
        brightness_nyx = self.codec.brightness(frames_nchw)
        return self.codec.video.encode(self.state, y_nchw, z_nchw, rule=SkipRule(), brightness_nyx=brightness_nyx)


@dataclass(frozen=True, slots=True)
class DicmDecoder:
    """Decodes one segment's streams, of either bitstream version."""

    codec: DicmCodec
    """Networks and tables."""
    height: int
    """Of each frame, in pixels."""
    width: int
    """Of each frame, in pixels."""
    state: SegmentState = field(default_factory=SegmentState)
    """What a predicted frame is decoded against."""

    def decode(self, streams: Sequence[bytes]) -> Tensor:
        """Decode features float32 [N, C, ceil(H/4), ceil(W/4)]; see `Decoder.decode`."""
        if not streams:
            return self._features([])
        spec, video = self.codec.spec, self.codec.video
        if self.codec.is_video:
            assert video is not None
            latent16_nchw = video.decode(self.state, streams, self._grid, device=spec.device)
        else:
            latent16_nchw = self.codec.bitstream.decode(streams, self._grid, device=spec.device)
        return self._features(list(latent16_nchw))

    def decode_changes(self, streams: Sequence[bytes]) -> Changes:
        """Decode the features of frames that differ from the one before; see `SupportsRepeats.decode_changes`."""
        latents16, rows = self._decode_distinct(streams)
        return Changes(decoded=self._features(latents16), rows=rows)

    def decode_latent_changes(self, streams: Sequence[bytes]) -> Changes:
        """Decode the latents alone, float32 [K, M, h, w]; see `SupportsLatents.decode_latent_changes`."""
        latents16, rows = self._decode_distinct(streams)
        if not latents16:
            networks, grid = self.codec.networks, self._grid
            empty_nchw = networks.feature_mean.new_zeros((0, networks.config.latent, grid.height, grid.width))
            return Changes(decoded=empty_nchw, rows=rows)
        return Changes(decoded=self.codec.latents_of(torch.stack(latents16)), rows=rows)

    def _decode_distinct(self, streams: Sequence[bytes]) -> tuple[list[Tensor], tuple[int, ...]]:
        """Return the latents in sixteenths, each [M, h, w], of frames that differ, and each frame's row of them."""
        spec, video = self.codec.spec, self.codec.video
        if self.codec.is_video:
            assert video is not None
            distinct, rows = video.decode_changes(self.state, streams, self._grid, device=spec.device)
            return distinct, tuple(rows)
        if not streams:
            return [], ()
        return list(self.codec.bitstream.decode(streams, self._grid, device=spec.device)), tuple(range(len(streams)))

    @property
    def _grid(self) -> LatentGrid:
        return grid_of(self.height, self.width)

    def _features(self, latents16: Sequence[Tensor]) -> Tensor:
        """Return the features of latents in sixteenths, each [M, h, w]."""
        row = self.codec.backbone
        height, width = -(-self.height // row.head_stride), -(-self.width // row.head_stride)
        if not latents16:
            return self.codec.networks.feature_mean.new_zeros((0, row.head_channels, height, width))
        return self.codec.features_of(torch.stack(list(latents16)))[:, :, :height, :width]


def grid_of(height: int, width: int) -> LatentGrid:
    """Return the positions of the latents of frames of that size in pixels."""
    return LatentGrid(-(-height // LATENT_STRIDE), -(-width // LATENT_STRIDE))


def _pad_to_multiple(x_nchw: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples."""
    bottom, right = (-x_nchw.shape[2] % multiple, -x_nchw.shape[3] % multiple)
    return functional.pad(x_nchw, (0, right, 0, bottom), mode="replicate") if bottom or right else x_nchw
