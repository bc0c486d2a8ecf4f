"""What the dicm codec's encoding and decoding are made of, each part alone.

Frames that are coded by themselves go through the integer networks together and are then entropy-coded, each in its
turn; frames that lean on those before them go one by one through both, which are measured as one part. N frames; Z, M,
m, h, w as in `codecs/dicm/symbols.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from framevault.codecs.dicm.bitstream import BatchSymbols, channel_of
from framevault.codecs.dicm.codec import DicmCodec
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.symbols import LatentGrid, code_slices
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.entropy.coder import SymbolDecoder, decode_many

INTEGER_NETWORKS = "integer networks"
"""Between latents and symbols, with the transfers between device and main memory."""

ENTROPY_CODING = "entropy coding"
"""Between symbols and streams."""

PREDICTION = "prediction and entropy coding"
"""Between latents and streams, of frames that lean on those before them."""

SYNTHESIS = "synthesis"
"""Between latents and features."""

ENTROPY_PARTS = (INTEGER_NETWORKS, ENTROPY_CODING, PREDICTION)
"""What a codec without any entropy model would save."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodedBatch:
    """A batch of frames on its way through the codec."""

    rgb_nchw: Tensor
    """The frames, uint8 [N, 3, H, W]."""
    y_nchw: Tensor
    """Latents, float32 [N, M, h, w], on the device."""
    z_nchw: Tensor
    """Hyper-latents, whole numbers in float32 [N, Z, h/4, w/4], on the device."""
    symbols: BatchSymbols
    """What each frame is coded as by itself."""
    state: SegmentState
    """What the first frame leans on; not to be changed."""
    latent16_nchw: Tensor
    """Decoded latents in sixteenths, float32 [N, M, h, w], on the device."""
    streams: tuple[bytes, ...]
    """The frames' streams."""


Part = Callable[[CodedBatch], None]
"""Does its part of the work on a batch."""


class DicmParts:
    """Runs one part of the codec on batches of frames."""

    def __init__(self, codec: DicmCodec) -> None:
        """Take a loaded codec."""
        self._codec = codec
        self._bitstream = codec.bitstream
        self._is_video = codec.is_video

    def code(self, batches: Iterable[Tensor]) -> list[CodedBatch]:
        """Run a segment's batches through encoder and decoder, and keep what is between their parts."""
        state, coded = SegmentState(), []
        for rgb_nchw in batches:
            before = replace(state)
            y_nchw, z_nchw = self._codec.latents(rgb_nchw)
            symbols = self._bitstream.find_symbols(y_nchw, z_nchw)
            streams = tuple(self._encode(state, rgb_nchw, y_nchw, z_nchw))
            coded.append(
                CodedBatch(
                    rgb_nchw=rgb_nchw,
                    y_nchw=y_nchw,
                    z_nchw=z_nchw,
                    symbols=symbols,
                    state=before,
                    latent16_nchw=self._decode(replace(before), streams, LatentGrid(*y_nchw.shape[2:])),
                    streams=streams,
                )
            )
        return coded

    def _encode(self, state: SegmentState, rgb_nchw: Tensor, y_nchw: Tensor, z_nchw: Tensor) -> list[bytes]:
        if not self._is_video:
            return self._bitstream.encode(y_nchw, z_nchw)
        assert self._codec.video is not None
        brightness_nyx = self._codec.brightness(rgb_nchw)
        return self._codec.video.encode(state, y_nchw, z_nchw, rule=SkipRule(), brightness_nyx=brightness_nyx)

    def _decode(self, state: SegmentState, streams: Sequence[bytes], grid: LatentGrid) -> Tensor:
        device = self._codec.spec.device
        if not self._is_video:
            return self._bitstream.decode(streams, grid, device=device)
        assert self._codec.video is not None
        return self._codec.video.decode(state, streams, grid, device=device)

    @property
    def of_encoder(self) -> dict[str, Part]:
        """The encoder's parts, in order."""
        networks = {"head and g_a": self.analyse, "h_a": self.analyse_hyper}
        if self._is_video:
            return {**networks, PREDICTION: self.encode}
        return {**networks, INTEGER_NETWORKS: self.find_symbols, ENTROPY_CODING: self.write_symbols}

    @property
    def of_decoder(self) -> dict[str, Part]:
        """The decoder's parts."""
        if self._is_video:
            return {PREDICTION: self.decode, SYNTHESIS: self.synthesise}
        return {
            ENTROPY_CODING: self.read_symbols,
            INTEGER_NETWORKS: self.find_latents,
            SYNTHESIS: self.synthesise,
        }

    def encode(self, batch: CodedBatch) -> None:
        """Latents to streams; where frames are moved, what moved is looked for in the pixels."""
        self._encode(replace(batch.state), batch.rgb_nchw, batch.y_nchw, batch.z_nchw)

    def decode(self, batch: CodedBatch) -> None:
        """Streams to latents."""
        self._decode(replace(batch.state), batch.streams, LatentGrid(*batch.y_nchw.shape[2:]))

    def analyse(self, batch: CodedBatch) -> None:
        """Head and g_a: frames to latents."""
        self._codec.latent(batch.rgb_nchw)

    def analyse_hyper(self, batch: CodedBatch) -> None:
        """h_a: latents to hyper-latents."""
        self._codec.hyper_latent(batch.y_nchw)

    def find_symbols(self, batch: CodedBatch) -> None:
        """Integer networks of the encoder, with the transfers: latents to symbols and scale indices in main memory."""
        self._bitstream.find_symbols(batch.y_nchw, batch.z_nchw)

    def write_symbols(self, batch: CodedBatch) -> None:
        """Symbols to streams."""
        self._bitstream.write_symbols(batch.symbols)

    def read_symbols(self, batch: CodedBatch) -> None:
        """Streams to symbols, the scale indices given."""
        z_numbers = channel_of(batch.symbols.z_nchw.shape[1:])
        skip_below = self._bitstream.skip_below

        def read(frame: int) -> None:
            decoder = SymbolDecoder(batch.streams[frame])
            decoder.pull(z_numbers, self._bitstream.hyper_tables)
            for _, index in batch.symbols.slices:
                decoder.pull(index[frame].ravel(), self._bitstream.latent_tables, skip_below=skip_below)
            decoder.finish()

        decode_many(read, range(len(batch.streams)), num_threads=torch.get_num_threads())

    @torch.inference_mode()
    def find_latents(self, batch: CodedBatch) -> None:
        """Integer networks of the decoder, with the transfers: symbols to decoded latents, the symbols given."""
        device = self._codec.spec.device

        def give(number: int, index_nchw: Tensor, _: Tensor) -> Tensor:
            index_nchw.byte().cpu()
            if number >= len(batch.symbols.slices):
                return torch.zeros_like(index_nchw)
            return torch.from_numpy(batch.symbols.slices[number][0]).to(device).float()

        z_nchw = torch.from_numpy(batch.symbols.z_nchw).to(device).float()
        code_slices(self._bitstream.networks, z_nchw, grid=LatentGrid(*batch.y_nchw.shape[2:]), code=give)

    def synthesise(self, batch: CodedBatch) -> None:
        """g_s: decoded latents to features."""
        self._codec.features_of(batch.latent16_nchw)
