"""A segment's streams, bitstream version 2: frames coded against the frame before them, or by themselves.

A stream begins with its kind. An intra frame goes on as in version 1. A predicted frame goes on with a flag for each
position of the latent grid: whether it is coded. Where it is not, the latent stays what it was in the frame before;
where it is, the slices follow, each with channel, then position as order, and with no symbol left out: what changes is
rarely sure to be zero.

Version 4 is version 2 without its last slices: intra frames as in version 3, and in predicted frames the channels that
are not coded stay what they were.

What is decoded is what is compared with, so errors never add up. A position is left alone while its latent stays
within the noise that flips a rounding (`SkipRule`), so a still scene costs a few bytes a frame.

Letters in shapes: N frames, M latent channels, m those of one slice, h and w positions of the latent grid, P coded
positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.dicm.bitstream import BatchSymbols, Bitstream, check_numbers
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.temporal_model import TemporalNetworks, change_of, gather_neighbourhoods
from framevault.codecs.entropy.coder import SymbolDecoder, SymbolEncoder
from framevault.codecs.entropy.integer import check_exact_matmul
from framevault.codecs.entropy.latents import MEAN_STEPS, SYMBOL_LIMIT
from framevault.codecs.entropy.tables import BoolArray, FlagTable, FrequencyTables
from framevault.codecs.errors import BitstreamError

INTRA, PREDICTED = 1, 0
"""Kinds of frames, as streams have them."""

KIND_TABLE = FrequencyTables(
    cumulative=np.array([[0, 65279, 65535, 65536]], np.int32),
    lengths=np.array([4], np.int32),
    offsets=np.array([PREDICTED], np.int32),
)
"""A predicted frame's kind costs 0.006 bits, an intra frame's a byte."""

PREDICTION_LIMIT = 2**19
"""Predicted latents are kept within it, in sixteenths: far beyond any real one, and exact in float32."""


PositionCoder = Callable[[int, Tensor, Tensor], Tensor]
"""Gives a slice's residuals, whole numbers [1, m, 1, P], from its number, scale indices and means (in sixteenths)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipRule:
    """When the encoder leaves a position alone, and when a symbol at zero. The decoder needs to know nothing of it."""

    dead_zone: float = 0.5
    """Latents nearer to their prediction are coded as the prediction; 0.5 is plain rounding."""
    least_gain: float = 4.0
    """Squared error, in squared steps over all channels, that coding a position must save."""
    largest_change: float = 1.5
    """A latent that moved by more steps is coded in any case."""
    most_coded: float = 0.4
    """From this share of coded positions on, the frame is coded in both ways."""
    least_saving: float = 0.2
    """Then prediction, which rounds more coarsely, must save this share of the intra frame's bytes to be kept."""


@dataclass(slots=True)
class SegmentState:
    """What the next frame is coded against; the same in encoder and decoder."""

    latent16_mhw: Tensor | None = None
    """The last frame's decoded latent in sixteenths, whole numbers in float32 [M, h, w]; None before the first."""
    coded_hw: BoolArray = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    """Its flags, bool [h, w]; all False after an intra frame."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoBitstream:
    """Integer networks and tables of both kinds of frames; thread-safe, as long as each segment has its own state."""

    intra: Bitstream
    """Codes a frame by itself."""
    networks: TemporalNetworks
    """Code a frame against the one before it; of `IntConv2d`, on the codec's device."""
    flag_table: FlagTable
    """How likely a position is coded."""

    @torch.inference_mode()
    def encode(self, state: SegmentState, y_nchw: Tensor, z_nchw: Tensor, *, rule: SkipRule) -> list[bytes]:
        """Code a segment's next frames.

        Args:
            state: The segment's; updated.
            y_nchw: Latents, float32 [N, M, h, w].
            z_nchw: Hyper-latents, whole numbers in float32 [N, Z, ceil(h/4), ceil(w/4)].
            rule: What is left alone.

        Raises:
            CodecError: A value is no number.
        """
        check_exact_matmul(y_nchw.device)
        check_numbers(y_nchw, z_nchw)
        return [self._encode_frame(state, y_nchw[n : n + 1], z_nchw[n : n + 1], rule=rule) for n in range(len(y_nchw))]

    @torch.inference_mode()
    def decode(self, state: SegmentState, streams: Sequence[bytes], grid: LatentGrid, *, device: str) -> Tensor:
        """Decode a segment's next frames.

        Returns:
            Latents in sixteenths, whole numbers in float32 [N, M, h, w], on the device.

        Raises:
            BitstreamError: A stream is damaged, or needs a frame before it that was not decoded; says which.
        """
        before = state.latent16_mhw
        distinct, rows = self.decode_changes(state, streams, grid, device=device)
        latents = [before if row < 0 else distinct[row] for row in rows]
        return torch.stack([latent for latent in latents if latent is not None])

    @torch.inference_mode()
    def decode_both(
        self, state: SegmentState, stream: bytes, grid: LatentGrid, *, device: str
    ) -> tuple[Tensor, Tensor | None]:
        """Decode a segment's next frame to all that its stream holds.

        Returns:
            The latent as `decode` does, [M, h, w], and an intra frame's hyper-latent, whole numbers in float32
            [1, Z, ceil(h/4), ceil(w/4)]; None for a predicted frame.

        Raises:
            BitstreamError: The stream is damaged, or needs a frame before it that was not decoded.
        """
        return self._decode_frame(state, stream, grid, device=device)

    @torch.inference_mode()
    def decode_changes(
        self, state: SegmentState, streams: Sequence[bytes], grid: LatentGrid, *, device: str
    ) -> tuple[list[Tensor], list[int]]:
        """Decode a segment's next frames, but give those only once in which nothing is coded.

        Returns:
            Latents as `decode` does, each [M, h, w], and for each frame which of them it is; -1 for the last frame of
            the call before.

        Raises:
            BitstreamError: As `decode`.
        """
        check_exact_matmul(torch.device(device))
        distinct: list[Tensor] = []
        rows: list[int] = []
        for position, stream in enumerate(streams):
            before = state.latent16_mhw
            try:
                latent16_mhw, _ = self._decode_frame(state, stream, grid, device=device)
            except BitstreamError as error:
                state.latent16_mhw = None
                raise BitstreamError(f"stream {position} of the call: {error}") from error
            if latent16_mhw is not before:
                distinct.append(latent16_mhw)
            rows.append(len(distinct) - 1)
        return distinct, rows

    def _encode_frame(self, state: SegmentState, y_nchw: Tensor, z_nchw: Tensor, *, rule: SkipRule) -> bytes:
        if state.latent16_mhw is None:
            return self._encode_intra(state, self.intra.find_symbols(y_nchw, z_nchw))
        payload, latent16_mhw, coded_hw = self._encode_predicted(state, y_nchw[0], rule=rule)
        if float(coded_hw.float().mean()) >= rule.most_coded:
            alone_state = SegmentState()
            alone = self._encode_intra(alone_state, self.intra.find_symbols(y_nchw, z_nchw))
            if len(payload) > (1 - rule.least_saving) * len(alone):
                state.latent16_mhw, state.coded_hw = alone_state.latent16_mhw, alone_state.coded_hw
                return alone
        state.latent16_mhw, state.coded_hw = latent16_mhw, coded_hw.cpu().numpy()
        return payload

    @torch.inference_mode()
    def encode_again(
        self, state: SegmentState, latent16_mhw: Tensor, z_nchw: Tensor | None, *, rule: SkipRule
    ) -> bytes:
        """Code a segment's next frame from what was decoded of it, as the kind that it was.

        Args:
            state: The segment's; updated.
            latent16_mhw: The frame's latent in sixteenths, whole numbers in float32 [M, h, w].
            z_nchw: An intra frame's hyper-latent, whole numbers in float32 [1, Z, ceil(h/4), ceil(w/4)]; None for a
                predicted frame, which has none.
            rule: What is left alone in predicted frames.
        """
        y_mhw = latent16_mhw * (1 / MEAN_STEPS)
        if z_nchw is not None:
            return self._encode_intra(state, self.intra.find_symbols(y_mhw[None], z_nchw))
        payload, state.latent16_mhw, coded_hw = self._encode_predicted(state, y_mhw, rule=rule)
        state.coded_hw = coded_hw.cpu().numpy()
        return payload

    def _encode_predicted(self, state: SegmentState, y_mhw: Tensor, *, rule: SkipRule) -> tuple[bytes, Tensor, Tensor]:
        """Return a predicted frame's stream, latent in sixteenths, and flags, bool [h, w]; the state stays."""
        assert state.latent16_mhw is not None
        num_kept = self._num_coded_channels
        coded_hw = find_changes(y_mhw[:num_kept], state.latent16_mhw[:num_kept], rule=rule)
        encoder, latent16_mhw = self._push_predicted(state, y_mhw, coded_hw, rule=rule)
        return encoder.finish(), latent16_mhw, coded_hw

    def _encode_intra(self, state: SegmentState, symbols: BatchSymbols) -> bytes:
        encoder = SymbolEncoder()
        _push_kind(encoder, INTRA)
        self.intra.push(encoder, symbols, frame=0)
        state.latent16_mhw = symbols.latent16_nmhw[0]
        state.coded_hw = np.zeros(state.latent16_mhw.shape[1:], np.bool_)
        return encoder.finish()

    def _push_predicted(
        self, state: SegmentState, y_mhw: Tensor, coded_hw: Tensor, *, rule: SkipRule
    ) -> tuple[SymbolEncoder, Tensor]:
        """Code a frame against the last one; return its latent too."""
        assert state.latent16_mhw is not None
        encoder = SymbolEncoder()
        _push_kind(encoder, PREDICTED)
        encoder.push_flags(coded_hw.cpu().numpy(), state.coded_hw, self.flag_table)
        y_parts = torch.split(y_mhw, list(self.networks.slices))
        positions = torch.nonzero(coded_hw.flatten())[:, 0]

        def code(number: int, index: Tensor, mean16: Tensor) -> Tensor:
            y = y_parts[number].flatten(1)[:, positions].reshape(mean16.shape)
            residual = round_to_zero(y - mean16 * (1 / MEAN_STEPS), dead_zone=rule.dead_zone)
            residual = residual.clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
            encoder.push(_flat(residual.int()), _flat(index.byte()), self.intra.latent_tables)
            return residual

        return encoder, self._code_slices(state.latent16_mhw, coded_hw, positions, code=code)

    def _decode_frame(
        self, state: SegmentState, stream: bytes, grid: LatentGrid, *, device: str
    ) -> tuple[Tensor, Tensor | None]:
        decoder = SymbolDecoder(stream)
        kind = _pull_kind(decoder)
        z_nchw: Tensor | None = None
        if kind == INTRA:
            z_nchw, latent16_nmhw = self.intra.pull_both([decoder], grid, device=device)
            latent16_mhw = latent16_nmhw[0]
            coded = np.zeros((grid.height, grid.width), np.bool_)
        elif state.latent16_mhw is None:
            raise BitstreamError("it is coded against the frame before it, which was not decoded")
        else:
            coded = decoder.pull_flags(state.coded_hw, self.flag_table)
            latent16_mhw = self._pull_predicted(decoder, state.latent16_mhw, torch.from_numpy(coded).to(device))
        decoder.finish()
        state.latent16_mhw, state.coded_hw = latent16_mhw, coded
        return latent16_mhw, z_nchw

    def _pull_predicted(self, decoder: SymbolDecoder, previous16_mhw: Tensor, coded_hw: Tensor) -> Tensor:
        def code(number: int, index: Tensor, mean16: Tensor) -> Tensor:
            residual = decoder.pull(_flat(index.byte()), self.intra.latent_tables)
            return torch.from_numpy(residual).to(mean16.device).float().reshape(mean16.shape)

        positions = torch.nonzero(coded_hw.flatten())[:, 0]
        return self._code_slices(previous16_mhw, coded_hw, positions, code=code)

    @property
    def _coded_slices(self) -> list[int]:
        """Channels of each slice that streams hold."""
        return list(self.networks.slices[: self.intra.num_coded])

    @property
    def _num_coded_channels(self) -> int:
        """Latent channels that predicted frames hold; the others stay what they were in the frame before."""
        return sum(self._coded_slices)

    def _code_slices(
        self, previous16_mhw: Tensor, coded_hw: Tensor, positions: Tensor, *, code: PositionCoder
    ) -> Tensor:
        """Go through the slices in order; return the frame's latent in sixteenths, [M, h, w]."""
        num_coded = self._num_coded_channels
        if len(positions) == 0 or num_coded == 0:
            return previous16_mhw
        phi = self.networks.phi(gather_neighbourhoods(previous16_mhw, coded_hw, positions))
        previous16_mp = previous16_mhw[:num_coded].flatten(1)[:, positions]
        earlier: list[Tensor] = []
        decoded: list[Tensor] = []
        for number, previous16 in enumerate(torch.split(previous16_mp, self._coded_slices)):
            previous16 = previous16[None, :, None]
            index, change16 = self.networks.parameters_of(number, phi, earlier)
            mean16 = previous16 + change16
            residual = code(number, index, mean16).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
            latent16 = (residual * MEAN_STEPS + mean16).clamp(-PREDICTION_LIMIT, PREDICTION_LIMIT)
            earlier.append(change_of(latent16, previous16))
            decoded.append(latent16[0, :, 0])
        latent16_mn = previous16_mhw.flatten(1).clone()
        latent16_mn[:num_coded, positions] = torch.cat(decoded)
        return latent16_mn.reshape(previous16_mhw.shape)


def is_intra(stream: bytes) -> bool:
    """Say whether a stream of version 2 is an intra frame's.

    Raises:
        BitstreamError: It is no such stream.
    """
    return _pull_kind(SymbolDecoder(stream)) == INTRA


def find_changes(y_mhw: Tensor, previous16_mhw: Tensor, *, rule: SkipRule) -> Tensor:
    """Return which positions are worth coding for the given channels, bool [h, w]; without channels none is."""
    if len(y_mhw) == 0:
        return torch.zeros(y_mhw.shape[1:], dtype=torch.bool, device=y_mhw.device)
    change_mhw = y_mhw - previous16_mhw * (1 / MEAN_STEPS)
    left_mhw = change_mhw - round_to_zero(change_mhw, dead_zone=rule.dead_zone)
    gain_hw = (change_mhw.square() - left_mhw.square()).sum(dim=0)
    return (gain_hw > rule.least_gain) | (change_mhw.abs().amax(dim=0) > rule.largest_change)


def round_to_zero(x: Tensor, *, dead_zone: float) -> Tensor:
    """Round, but up in magnitude only from `dead_zone` past a whole number."""
    return torch.sign(x) * torch.floor(x.abs() + (1 - dead_zone))


def _push_kind(encoder: SymbolEncoder, kind: int) -> None:
    encoder.push(np.array([kind], np.int32), np.zeros(1, np.uint8), KIND_TABLE)


def _pull_kind(decoder: SymbolDecoder) -> int:
    kind = int(decoder.pull(np.zeros(1, np.uint8), KIND_TABLE)[0])
    if kind not in (INTRA, PREDICTED):
        raise BitstreamError(f"a frame's kind must be {PREDICTED} or {INTRA}, got {kind}")
    return kind


def _flat(values: Tensor) -> Any:  # noqa: ANN401  # numpy's type depends on the tensor's
    return values.cpu().numpy().ravel()
