"""Streams of codec `dicm` of all bitstream versions, from FORMAT.md: latents of integers, in numpy's int64.

Letters in shapes: C channels, M those of the latent, h and w positions of the latent grid, P coded positions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.storage.independent.checkpoints import Checkpoint
from tests.storage.independent.documents import require
from tests.storage.independent.entropy import Integers, StreamReader, Tables
from tests.storage.independent.motion import Background, carry, read_field

PREDICTED, INTRA, MOVED = 0, 1, 2
"""Kinds of frames."""

KINDS = Tables([[0, 65279, 65535, 65536]], [0])
"""How likely the first two are in versions 2 and 4."""

MOTION_KINDS = Tables([[0, 45000, 45256, 65535, 65536]], [0])
"""How likely they are in versions 9, 10, 13 and 14."""

WITH_MOTION, WITH_BACKGROUND = {9, 10, 13, 14}, {13, 14}
"""Versions."""


@dataclass(frozen=True)
class DicmReader:
    """Reads streams that were made with one checkpoint."""

    checkpoint: Checkpoint

    def decode(self, stream: bytes, *, coded_height: int, coded_width: int) -> Integers:
        """Return a frame's latent in sixteenths, [M, h, w]."""
        latent_chw, _ = self.decode_grid(stream, height=-(-coded_height // 16), width=-(-coded_width // 16))
        return latent_chw

    def decode_grid(
        self, stream: bytes, *, height: int, width: int, slices: int | None = None
    ) -> tuple[Integers, Integers]:
        """Return the latent [M, h, w] and the hyper-latent z [Z, ceil(h/4), ceil(w/4)]; slices are for version 3."""
        reader = StreamReader(stream)
        latent_chw, z_chw = self.read_intra(reader, height=height, width=width, slices=slices)
        reader.finish()
        return latent_chw, z_chw

    def read_intra(
        self, reader: StreamReader, *, height: int, width: int, slices: int | None
    ) -> tuple[Integers, Integers]:
        """Return what `decode_grid` does; the stream may go on."""
        config = self.checkpoint.config
        small = (-(-height // 4), -(-width // 4))
        numbers = np.repeat(np.arange(config["hyper"]), small[0] * small[1])
        z_chw = self._symbols(reader, "hyper", numbers).reshape(config["hyper"], *small)
        phi_chw = self._expand(z_chw)[:, :height, :width]
        latents: list[Integers] = []
        contexts: list[Integers] = []
        for number in range(len(config["slices"])):
            hidden_chw = self._layer(f"contexts.{number}", np.concatenate([phi_chw, *contexts]), 0, 255)
            both_chw = np.concatenate([phi_chw, hidden_chw])
            index_chw = self._layer(f"scales.{number}", both_chw, 0, 63)
            mean_chw = self._layer(f"means.{number}", both_chw, -32768, 32768)
            is_coded = slices is None or number < slices
            skip_below = config["skip_below"] if is_coded else 64
            residual_chw = self._symbols(reader, "latent", index_chw, skip_below=skip_below)
            latents.append(16 * residual_chw.reshape(index_chw.shape) + mean_chw)
            contexts.append(context_of(latents[-1]))
        return np.concatenate(latents), z_chw

    def decode_segment(
        self, streams: list[bytes], *, height: int, width: int, slices: int | None = None, version: int = 2
    ) -> list[Integers]:
        """Return the latents of a segment's first frames, each [M, h, w]; slices are for versions 4, 10 and 14."""
        latents: list[Integers] = []
        unset_hw = [[False] * width for _ in range(height)]
        flags_hw = moved_hw = unset_hw
        background: Background | None = None
        for stream in streams:
            reader = StreamReader(stream)
            (kind,) = reader.symbols([0], MOTION_KINDS if version in WITH_MOTION else KINDS)
            known = {INTRA, *([PREDICTED] if latents else [])}
            if version in WITH_MOTION and latents and self.checkpoint.config.get("motion", 0):
                known.add(MOVED)
            require(kind in known, f"kind {kind}, after {len(latents)} frames")
            if kind == INTRA:
                latents.append(self.read_intra(reader, height=height, width=width, slices=slices)[0])
                flags_hw = moved_hw = unset_hw
                if version in WITH_BACKGROUND:
                    background = Background.of(latents[-1])
            else:
                before_chw = latents[-1]
                if kind == MOVED:
                    most_vectors = 16 if version in WITH_BACKGROUND else 8
                    field = read_field(reader, self.checkpoint, moved_hw, most_vectors=most_vectors)
                    before_chw = carry(self.checkpoint, before_chw, field, background)
                moved_hw = field.moved_hw if kind == MOVED else unset_hw
                flags_hw = reader.flags(flags_hw, self.checkpoint.tensors["tables.flags"].tolist())
                pull = 3 if version in WITH_BACKGROUND else 0
                latents.append(self._read_predicted(reader, before_chw, np.array(flags_hw), slices=slices, pull=pull))
                if background is not None:
                    background.go_on(latents[-1], flags_hw, moved_hw)
            reader.finish()
        return latents

    def check_golden(self) -> None:
        """Decode the checkpoint's golden vectors."""
        tensors = self.checkpoint.tensors
        stream = tensors["golden.stream"].astype(np.uint8).tobytes()
        latent_chw, z_chw = self.decode_grid(stream, height=7, width=5)
        require(
            np.array_equal(latent_chw, tensors["golden.latent16"][0]), "the golden vector decodes to another latent"
        )
        require(np.array_equal(z_chw, tensors["golden.z"][0]), "the golden vector decodes to another hyper-latent")
        if self.checkpoint.config.get("temporal", 0):
            self._check_golden_segment("golden.video", version=2)
        if self.checkpoint.config.get("motion", 0):
            self._check_golden_segment("golden.motion", version=9)

    def _check_golden_segment(self, name: str, *, version: int) -> None:
        tensors = self.checkpoint.tensors
        joined = tensors[f"{name}.streams"].astype(np.uint8).tobytes()
        lengths = tensors[f"{name}.lengths"].tolist()
        require(sum(lengths) == len(joined), f"{name}.lengths")
        ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
        streams = [joined[end - length : end] for length, end in zip(lengths, ends, strict=True)]
        latents = self.decode_segment(streams, height=7, width=5, version=version)
        require(np.array_equal(latents, tensors[f"{name}.latent16"]), f"{name} decodes to others")

    def _read_predicted(
        self,
        reader: StreamReader,
        previous_chw: Integers,
        flags_hw: NDArray[np.bool_],
        *,
        slices: int | None,
        pull: int,
    ) -> Integers:
        latent_chw = previous_chw.copy()
        if not flags_hw.any():
            return latent_chw
        rows, columns = np.nonzero(flags_hw)
        planes_chw = np.concatenate([context_of(previous_chw), 127 * flags_hw[None].astype(np.int64)])
        padded_chw = np.pad(planes_chw, ((0, 0), (1, 1), (1, 1)))
        squares = [padded_chw[:, rows + dy, columns + dx] for dy in range(3) for dx in range(3)]
        inputs_cp = np.stack(squares, axis=1).reshape(9 * len(planes_chw), len(rows))
        phi_c1p = self._layer("temporal", inputs_cp[:, None], 0, 255, network="temporal")
        changes: list[Integers] = []
        start = 0
        for number, channels in enumerate(self.checkpoint.config["slices"][:slices]):
            before_c1p = previous_chw[start : start + channels, rows, columns][:, None]
            hidden_c1p = self._layer(
                f"contexts.{number}", np.concatenate([phi_c1p, *changes]), 0, 255, network="temporal"
            )
            both_c1p = np.concatenate([phi_c1p, hidden_c1p])
            index_c1p = self._layer(f"scales.{number}", both_c1p, 0, 63, network="temporal")
            mean_c1p = before_c1p + self._layer(f"means.{number}", both_c1p, -32768, 32768, network="temporal")
            symbols_c1p = self._symbols(reader, "latent", index_c1p).reshape(index_c1p.shape)
            now_c1p = np.clip(16 * symbols_c1p + mean_c1p - pull * np.sign(symbols_c1p), -(2**19), 2**19)
            changes += [context_of(now_c1p), context_of(now_c1p - before_c1p)]
            latent_chw[start : start + channels, rows, columns] = now_c1p[:, 0]
            start += channels
        return latent_chw

    def _expand(self, z_chw: Integers) -> Integers:
        first_chw = shuffle(self._layer("expand_1", np.clip(z_chw, -127, 127), 0, 255))
        return shuffle(self._layer("expand_2", first_chw, 0, 255))

    def _symbols(self, reader: StreamReader, kind: str, numbers: Integers, *, skip_below: int = 0) -> Integers:
        tensors = self.checkpoint.tensors
        names = (f"tables.{kind}.{part}" for part in ("cumulative", "lengths", "offsets"))
        tables = Tables.parse(*(tensors[name] for name in names))
        symbols = reader.symbols(numbers.reshape(-1).tolist(), tables, skip_below=skip_below)
        return np.clip(np.array(symbols, np.int64), -(2**19), 2**19)

    def _layer(self, name: str, x_chw: Integers, low: int, high: int, *, network: str = "entropy") -> Integers:
        return apply_layer(self.checkpoint, f"{network}.{name}", x_chw, low=low, high=high)


def apply_layer(checkpoint: Checkpoint, name: str, x_chw: Integers, *, low: int, high: int) -> Integers:
    """Apply an integer layer."""
    weight_oikk, bias_o, shift_o = (checkpoint.tensors[f"{name}.{part}"] for part in ("weight", "bias", "shift"))
    kernel = weight_oikk.shape[2]
    require(weight_oikk.shape[1] == len(x_chw), f"{name} takes {weight_oikk.shape[1]} channels, gets {len(x_chw)}")
    _, height, width = x_chw.shape
    padded_chw = np.pad(x_chw, ((0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2))
    sum_ohw = np.zeros((len(weight_oikk), height, width), np.int64)
    for dy in range(kernel):
        for dx in range(kernel):
            window_chw = padded_chw[:, dy : dy + height, dx : dx + width]
            sum_ohw += np.tensordot(weight_oikk[:, :, dy, dx], window_chw, axes=1)
    shift_o11 = shift_o[:, None, None]
    rounded_ohw = (sum_ohw + bias_o[:, None, None] + (1 << shift_o11 - 1)) >> shift_o11
    clipped_ohw: Integers = np.clip(rounded_ohw, low, high)
    return clipped_ohw


def context_of(latent: Integers) -> Integers:
    """Return what networks see of latents in sixteenths."""
    return np.clip((latent + 4) >> 3, -127, 127)


def shuffle(in_chw: Integers) -> Integers:
    """Turn [4C, h, w] into [C, 2h, 2w]."""
    channels, height, width = in_chw.shape
    out_chw = np.zeros((channels // 4, 2 * height, 2 * width), np.int64)
    for a in range(2):
        for b in range(2):
            out_chw[:, a::2, b::2] = in_chw[2 * a + b :: 4]
    return out_chw
