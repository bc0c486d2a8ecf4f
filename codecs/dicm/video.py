"""A segment's streams, bitstream versions 2, 9 and 13: frames coded against the frame before them, or by themselves.

A stream begins with its kind. An intra frame goes on as in version 1. A predicted frame goes on with a flag for each
position of the latent grid: whether it is coded. Where it is not, the latent stays what it was in the frame before;
where it is, the slices follow, each with channel, then position as order, and with no symbol left out: what changes is
rarely sure to be zero.

In version 9 there is a third kind, a moved frame: a motion field (`motion.py`) says where positions come from, the
frame before is carried along by it, and all goes on as in a predicted frame, against what was carried. In version 13
they may also come from the background (`background.py`), and symbols stand for latents a little nearer to their means
(`quantising.py`). `layouts.py` has what differs.

Versions 4, 10 and 14 are 2, 9 and 13 without their last slices: intra frames as in version 3, and in other frames the
channels that are not coded stay what they were, or were carried to.

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

from framevault.codecs.dicm.background import Background
from framevault.codecs.dicm.bitstream import BatchSymbols, Bitstream, check_numbers
from framevault.codecs.dicm.layouts import INTRA, MOVED, PREDICTED, VideoLayout
from framevault.codecs.dicm.motion import LATENT_LIMIT, Motion, MotionField
from framevault.codecs.dicm.motion_search import find_motion
from framevault.codecs.dicm.quantising import Quantiser
from framevault.codecs.dicm.skipping import SkipRule, find_changes
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.temporal_model import TemporalNetworks, change_of, gather_neighbourhoods
from framevault.codecs.entropy.coder import SymbolDecoder, SymbolEncoder
from framevault.codecs.entropy.integer import check_exact_matmul
from framevault.codecs.entropy.latents import MEAN_STEPS, SYMBOL_LIMIT
from framevault.codecs.entropy.tables import BoolArray, FlagTable
from framevault.codecs.errors import BitstreamError

PositionCoder = Callable[[int, Tensor, Tensor], Tensor]
"""Gives a slice's symbols, whole numbers [1, m, 1, P], from its number, scale indices and means (in sixteenths)."""


@dataclass(slots=True)
class SegmentState:
    """What the next frame is coded against; the same in encoder and decoder."""

    latent16_mhw: Tensor | None = None
    """The last frame's decoded latent in sixteenths, whole numbers in float32 [M, h, w]; None before the first."""
    coded_hw: BoolArray = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    """Its flags, bool [h, w]; all False after an intra frame."""
    moved_hw: BoolArray = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    """What moved in it, bool [h, w]; all False but after a moved frame."""
    background: Background | None = None
    """What was seen behind what is there now; None before the first frame, and in layouts without it."""
    brightness_yx: Tensor | None = None
    """Its pixels' brightness at half of the resolution, where the encoder looks for motion; a decoder has none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedFrame:
    """All that a frame's stream holds."""

    latent16_mhw: Tensor
    """Its latent in sixteenths, whole numbers in float32 [M, h, w]."""
    z_nchw: Tensor | None = None
    """An intra frame's hyper-latent, whole numbers in float32 [1, Z, ceil(h/4), ceil(w/4)]; others have none."""
    motion: MotionField | None = None
    """What moved, in a moved frame."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoBitstream:
    """Integer networks and tables of both kinds of frames; thread-safe, as long as each segment has its own state."""

    intra: Bitstream
    """Codes a frame by itself."""
    networks: TemporalNetworks
    """Code a frame against the one before it; of `IntConv2d`, on the codec's device."""
    flag_table: FlagTable
    """How likely a position is coded."""
    layout: VideoLayout
    """What is particular to the bitstream version."""
    motion: Motion | None = None
    """Carries latents along, on the codec's device; None if the checkpoint has nothing for it: no frame is moved."""
    quantiser: Quantiser = field(init=False)
    """Of the layout and the latents' tables."""

    def __post_init__(self) -> None:
        """Weigh the tables' bits."""
        quantiser = Quantiser.for_tables(self.intra.latent_tables, pull16=self.layout.pull16)
        object.__setattr__(self, "quantiser", quantiser)

    @property
    def has_moved_frames(self) -> bool:
        """Whether frames may be moved."""
        return self.motion is not None and self.layout.most_vectors > 0

    def is_intra(self, stream: bytes) -> bool:
        """Say whether a stream is an intra frame's.

        Raises:
            BitstreamError: It is no such stream.
        """
        return _pull_kind(SymbolDecoder(stream), self.layout) == INTRA

    @torch.inference_mode()
    def encode(
        self,
        state: SegmentState,
        y_nchw: Tensor,
        z_nchw: Tensor,
        *,
        rule: SkipRule,
        brightness_nyx: Tensor | None = None,
    ) -> list[bytes]:
        """Code a segment's next frames.

        Args:
            state: The segment's; updated.
            y_nchw: Latents, float32 [N, M, h, w].
            z_nchw: Hyper-latents, whole numbers in float32 [N, Z, ceil(h/4), ceil(w/4)].
            rule: What is left alone.
            brightness_nyx: Of their pixels, as `motion_search.half_brightness` has it; without it no frame is moved.

        Raises:
            CodecError: A value is no number.
        """
        check_exact_matmul(y_nchw.device)
        check_numbers(y_nchw, z_nchw)
        streams = []
        for n in range(len(y_nchw)):
            brightness_yx = None if brightness_nyx is None else brightness_nyx[n]
            streams.append(
                self._encode_frame(state, y_nchw[n : n + 1], z_nchw[n : n + 1], rule=rule, brightness_yx=brightness_yx)
            )
            state.brightness_yx = brightness_yx
        return streams

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
    def decode_all(self, state: SegmentState, stream: bytes, grid: LatentGrid, *, device: str) -> DecodedFrame:
        """Decode a segment's next frame to all that its stream holds.

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
                latent16_mhw = self._decode_frame(state, stream, grid, device=device).latent16_mhw
            except BitstreamError as error:
                state.latent16_mhw = None
                raise BitstreamError(f"stream {position} of the call: {error}") from error
            if latent16_mhw is not before:
                distinct.append(latent16_mhw)
            rows.append(len(distinct) - 1)
        return distinct, rows

    def _encode_frame(
        self, state: SegmentState, y_nchw: Tensor, z_nchw: Tensor, *, rule: SkipRule, brightness_yx: Tensor | None
    ) -> bytes:
        if state.latent16_mhw is None:
            return self._encode_anew(state, y_nchw, z_nchw)
        motion = self._find_motion(state, y_nchw[0], rule=rule, brightness_yx=brightness_yx)
        payload, latent16_mhw, coded_hw = self._encode_predicted(state, y_nchw[0], motion, rule=rule)
        if float(coded_hw.float().mean()) >= rule.most_coded:
            symbols = self.intra.find_symbols(y_nchw, z_nchw)
            alone = self._encode_intra(symbols)
            if len(payload) > (1 - rule.least_saving) * len(alone):
                self._begin(state, symbols.latent16_nmhw[0])
                return alone
        _go_on(state, latent16_mhw, coded_hw.cpu().numpy(), motion)
        return payload

    def _find_motion(
        self, state: SegmentState, y_mhw: Tensor, *, rule: SkipRule, brightness_yx: Tensor | None
    ) -> MotionField | None:
        """Return what moved since the last frame, if streams can say it and it is worth its bits."""
        assert state.latent16_mhw is not None
        if not self.has_moved_frames or brightness_yx is None or state.brightness_yx is None:
            return None
        assert self.motion is not None
        y_kept_mhw = y_mhw[: self._num_coded_channels]
        return find_motion(
            y_kept_mhw,
            state.latent16_mhw,
            find_changes(y_kept_mhw, state.latent16_mhw[: len(y_kept_mhw)], rule=rule),
            motion=self.motion,
            brightness_yx=brightness_yx,
            previous_yx=state.brightness_yx,
            rule=rule,
            most_vectors=self.layout.most_vectors,
            background16_mhw=_background16(state),
        )

    @torch.inference_mode()
    def encode_again(self, state: SegmentState, frame: DecodedFrame, *, rule: SkipRule) -> bytes:
        """Code a segment's next frame from what was decoded of it, as the kind that it was.

        Args:
            state: The segment's; updated.
            frame: What was decoded.
            rule: What is left alone in frames that lean on the one before.
        """
        y_mhw = frame.latent16_mhw * (1 / MEAN_STEPS)
        if frame.z_nchw is not None:
            return self._encode_anew(state, y_mhw[None], frame.z_nchw)
        # Without a slice, nothing is coded that motion could save.
        motion = frame.motion if self._num_coded_channels else None
        payload, latent16_mhw, coded_hw = self._encode_predicted(state, y_mhw, motion, rule=rule)
        _go_on(state, latent16_mhw, coded_hw.cpu().numpy(), motion)
        return payload

    def _encode_predicted(
        self, state: SegmentState, y_mhw: Tensor, motion: MotionField | None, *, rule: SkipRule
    ) -> tuple[bytes, Tensor, Tensor]:
        """Return a predicted or moved frame's stream, latent in sixteenths, and flags, bool [h, w]; the state stays."""
        assert state.latent16_mhw is not None
        encoder = SymbolEncoder()
        self._push_kind(encoder, PREDICTED if motion is None else MOVED)
        previous16_mhw = state.latent16_mhw
        if motion is not None:
            assert self.motion is not None
            self.motion.push(encoder, motion, state.moved_hw, most_vectors=self.layout.most_vectors)
            previous16_mhw = self.motion.carry(previous16_mhw, motion, background16_mhw=_background16(state))
        num_kept = self._num_coded_channels
        displaced_hw = None if motion is None else torch.from_numpy(motion.displaced_hw).to(y_mhw.device)
        coded_hw = find_changes(y_mhw[:num_kept], previous16_mhw[:num_kept], rule=rule, moved_hw=displaced_hw)
        encoder.push_flags(coded_hw.cpu().numpy(), state.coded_hw, self.flag_table)
        latent16_mhw = self._push_slices(encoder, previous16_mhw, y_mhw, coded_hw)
        return encoder.finish(), latent16_mhw, coded_hw

    def _encode_anew(self, state: SegmentState, y_nchw: Tensor, z_nchw: Tensor) -> bytes:
        """Return an intra frame's stream, and begin the state with it."""
        symbols = self.intra.find_symbols(y_nchw, z_nchw)
        self._begin(state, symbols.latent16_nmhw[0])
        return self._encode_intra(symbols)

    def _encode_intra(self, symbols: BatchSymbols) -> bytes:
        encoder = SymbolEncoder()
        self._push_kind(encoder, INTRA)
        self.intra.push(encoder, symbols, frame=0)
        return encoder.finish()

    def _push_slices(self, encoder: SymbolEncoder, previous16_mhw: Tensor, y_mhw: Tensor, coded_hw: Tensor) -> Tensor:
        """Code the slices of coded positions; return the frame's latent in sixteenths, [M, h, w]."""
        y_parts = torch.split(y_mhw, list(self.networks.slices))
        positions = torch.nonzero(coded_hw.flatten())[:, 0]

        def code(number: int, index: Tensor, mean16: Tensor) -> Tensor:
            y = y_parts[number].flatten(1)[:, positions].reshape(mean16.shape)
            symbols = self.quantiser.symbols(y - mean16 * (1 / MEAN_STEPS), index)
            encoder.push(_flat(symbols.int()), _flat(index.byte()), self.intra.latent_tables)
            return symbols

        return self._code_slices(previous16_mhw, coded_hw, positions, code=code)

    def _decode_frame(self, state: SegmentState, stream: bytes, grid: LatentGrid, *, device: str) -> DecodedFrame:
        decoder = SymbolDecoder(stream)
        kind = _pull_kind(decoder, self.layout)
        coded: BoolArray | None = None
        if kind == INTRA:
            z_nchw, latent16_nmhw = self.intra.pull_both([decoder], grid, device=device)
            frame = DecodedFrame(latent16_mhw=latent16_nmhw[0], z_nchw=z_nchw)
        elif state.latent16_mhw is None:
            raise BitstreamError("it is coded against the frame before it, which was not decoded")
        else:
            previous16_mhw, motion = state.latent16_mhw, None
            if kind == MOVED:
                if self.motion is None:
                    raise BitstreamError("its latents are moved, for which the checkpoint has no maps")
                motion = self.motion.pull(decoder, state.moved_hw, most_vectors=self.layout.most_vectors)
                previous16_mhw = self.motion.carry(previous16_mhw, motion, background16_mhw=_background16(state))
            coded = decoder.pull_flags(state.coded_hw, self.flag_table)
            latent16_mhw = self._pull_predicted(decoder, previous16_mhw, torch.from_numpy(coded).to(device))
            frame = DecodedFrame(latent16_mhw=latent16_mhw, motion=motion)
        decoder.finish()
        if coded is None:
            self._begin(state, frame.latent16_mhw)
        else:
            _go_on(state, frame.latent16_mhw, coded, frame.motion)
        return frame

    def _begin(self, state: SegmentState, latent16_mhw: Tensor) -> None:
        """Note what an intra frame leaves behind."""
        state.latent16_mhw = latent16_mhw
        state.coded_hw = state.moved_hw = np.zeros(latent16_mhw.shape[1:], np.bool_)
        state.background = Background.of_intra(latent16_mhw) if self.layout.has_background else None

    def _pull_predicted(self, decoder: SymbolDecoder, previous16_mhw: Tensor, coded_hw: Tensor) -> Tensor:
        def code(number: int, index: Tensor, mean16: Tensor) -> Tensor:
            symbols = decoder.pull(_flat(index.byte()), self.intra.latent_tables)
            return torch.from_numpy(symbols).to(mean16.device).float().reshape(mean16.shape)

        positions = torch.nonzero(coded_hw.flatten())[:, 0]
        return self._code_slices(previous16_mhw, coded_hw, positions, code=code)

    def _push_kind(self, encoder: SymbolEncoder, kind: int) -> None:
        encoder.push(np.array([kind], np.int32), np.zeros(1, np.uint8), self.layout.kind_table)

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
            symbols = code(number, index, mean16).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
            latent16 = self.quantiser.latents16(symbols, mean16).clamp(-LATENT_LIMIT, LATENT_LIMIT)
            earlier.append(change_of(latent16, previous16))
            decoded.append(latent16[0, :, 0])
        latent16_mn = previous16_mhw.flatten(1).clone()
        latent16_mn[:num_coded, positions] = torch.cat(decoded)
        return latent16_mn.reshape(previous16_mhw.shape)


def _pull_kind(decoder: SymbolDecoder, layout: VideoLayout) -> int:
    kind = int(decoder.pull(np.zeros(1, np.uint8), layout.kind_table)[0])
    if kind not in layout.kinds:
        raise BitstreamError(f"a frame's kind must be one of {', '.join(map(str, layout.kinds))}, got {kind}")
    return kind


def _go_on(state: SegmentState, latent16_mhw: Tensor, coded_hw: BoolArray, motion: MotionField | None) -> None:
    """Note what a frame leaves behind that leans on the one before."""
    state.latent16_mhw, state.coded_hw = latent16_mhw, coded_hw
    state.moved_hw = np.zeros(coded_hw.shape, np.bool_) if motion is None else motion.moved_hw
    if state.background is not None:
        state.background = state.background.after(latent16_mhw, coded_hw | state.moved_hw)


def _background16(state: SegmentState) -> Tensor | None:
    """Return the latent that positions may be taken from, in sixteenths [M, h, w]."""
    return None if state.background is None else state.background.latent16_mhw


def _flat(values: Tensor) -> Any:  # noqa: ANN401  # numpy's type depends on the tensor's
    return values.cpu().numpy().ravel()
