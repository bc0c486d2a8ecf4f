"""Streams of codec `hsc`, from FORMAT.md: core symbols and latents of integers, in numpy's int64.

Letters in shapes: C channels, K core symbols, M channels of the latent, g the side of its grid.
"""

from dataclasses import dataclass

import numpy as np

from tests.storage.independent.checkpoints import Checkpoint
from tests.storage.independent.dicm import apply_layer, context_of
from tests.storage.independent.documents import require
from tests.storage.independent.entropy import Integers, StreamReader, Tables


@dataclass(frozen=True)
class HscReader:
    """Reads streams that were made with one checkpoint."""

    checkpoint: Checkpoint

    def decode(self, stream: bytes, *, quality: int, slices: int | None = None) -> tuple[Integers, Integers]:
        """Return core symbols [K] and the latent in sixteenths [M, g, g]; slices are for version 2."""
        config = self.checkpoint.config
        num_slices = len(config["slices"]) if slices is None else slices
        require(slices is None or 0 <= slices < len(config["slices"]), f"{slices} slices")
        reader = StreamReader(stream)
        tables = self._tables("core")
        require(config["core"] % len(tables.rows) == 0, "tables that do not divide the core symbols")
        require(min(row[1] for row in tables.rows) <= 4096, "tables that make empty streams")
        numbers = [symbol // (config["core"] // len(tables.rows)) for symbol in range(config["core"])]
        if stream:
            core_k = np.clip(np.array(reader.symbols(numbers, tables), np.int64), -(2**19), 2**19)
        else:
            core_k, num_slices = np.array([middle_symbol(tables, number) for number in numbers]), 0
        latent_mgg = self._read_slices(reader, core_k, quality=quality, num_slices=num_slices)
        reader.finish()
        return core_k, latent_mgg

    def check_golden(self) -> None:
        """Decode the checkpoint's golden vector."""
        tensors = self.checkpoint.tensors
        core_k, latent_mgg = self.decode(tensors["golden.stream"].astype(np.uint8).tobytes(), quality=8)
        require(np.array_equal(core_k, tensors["golden.core"][0]), "the golden vector decodes to other core symbols")
        require(np.array_equal(latent_mgg, tensors["golden.latent16"][0]), "it decodes to another latent")

    def _read_slices(self, reader: StreamReader, core_k: Integers, *, quality: int, num_slices: int) -> Integers:
        config = self.checkpoint.config
        side = config["split"] // 2
        quality_q = 127 * (np.arange(1, 9) == quality)
        primed_k = np.concatenate([np.clip(core_k, -127, 127), quality_q])
        spread_p11 = self._layer("spread", primed_k[:, None, None], 0, 255)
        phi_chw = self._layer("mix", spread_p11.reshape(16, side, side), 0, 255)
        latents: list[Integers] = []
        contexts: list[Integers] = []
        for number in range(len(config["slices"])):
            hidden_chw = self._layer(f"contexts.{number}", np.concatenate([phi_chw, *contexts]), 0, 255)
            both_chw = np.concatenate([phi_chw, hidden_chw])
            index_chw = self._layer(f"scales.{number}", both_chw, 0, 63)
            latent_chw = self._layer(f"means.{number}", both_chw, -32768, 32768)
            if number < num_slices:
                residuals = reader.symbols(
                    index_chw.reshape(-1).tolist(), self._tables("latent"), skip_below=config["skip_below"]
                )
                latent_chw = latent_chw + 16 * np.clip(residuals, -(2**19), 2**19).reshape(index_chw.shape)
            latents.append(latent_chw)
            contexts.append(context_of(latent_chw))
        return np.concatenate(latents)

    def _tables(self, kind: str) -> Tables:
        names = (f"tables.{kind}.{part}" for part in ("cumulative", "lengths", "offsets"))
        return Tables.parse(*(self.checkpoint.tensors[name] for name in names))

    def _layer(self, name: str, x_chw: Integers, low: int, high: int) -> Integers:
        return apply_layer(self.checkpoint, f"entropy.{name}", x_chw, low=low, high=high)


def middle_symbol(tables: Tables, number: int) -> int:
    """Return the symbol in the middle of a table."""
    row = tables.rows[number]
    holding = next(at for at in range(len(row) - 1) if row[at] <= 32768 < row[at + 1])
    return tables.offsets[number] + max(0, min(holding, len(row) - 3))
