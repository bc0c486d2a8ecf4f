"""From latents to symbols and back, in frames that lean on the one before.

What is coded there is mostly near its mean, so a symbol of 1 stands for latents that are nearer to 0.5 than to 1.5: the
decoder takes them as `pull16` sixteenths nearer to the mean, whatever the table. The encoder weighs squared error
against bits (entropy-constrained scalar quantisation: Sullivan, "Efficient scalar quantization of exponential and
Laplacian random variables", IEEE Trans. Information Theory 1996): it takes 0 for 1 where what that costs in error is
less than what it saves in bits.

With thresholds chosen so, the mean of the latents behind a symbol lies 2 to 5 sixteenths inwards of it for nearly every
table, which is why one number does for all. What counts is the error of the features that come of the latents: there,
taking 0 for 1 does more harm than the latents' own error says (`BIT_PRICE`).

Where nothing is pulled, latents are rounded to the nearest: streams of versions before 13 are thinned to the same bytes
as ever.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.entropy.latents import MEAN_STEPS, SYMBOL_LIMIT
from framevault.codecs.entropy.tables import FrequencyTables, Int32Array

BIT_PRICE = 0.03
"""Of a bit, in squared steps. By the latents' error 0.1 would be best; but at equal error of the features, where
something moves in two clips, 0.03 saves 3 to 8 % of the bytes against version 9, 0.05 1 to 6 %, 0 nothing to 7 %, and
0.1 costs up to 10 % more."""

INWARDS = 0.1
"""Of a step, by which larger symbols are rounded towards 0, where latents are pulled."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantiser:
    """Of one checkpoint's tables and one layout; thread-safe."""

    pull16: int
    """As the layout says."""
    inwards: float
    """Of a step, by which larger symbols are rounded towards 0. The decoder has no use for it, nor for the next."""
    least_one_k: Tensor
    """Of each table, steps from the mean from which on a latent's symbol is not 0; float32 [K]."""

    @classmethod
    def for_tables(cls, tables: FrequencyTables, *, pull16: int) -> "Quantiser":
        """Weigh error against bits for each table, if latents are pulled."""
        if pull16 == 0:
            return cls(pull16=0, inwards=0.0, least_one_k=torch.full((tables.num_tables,), 0.5))
        one = 1 - pull16 / MEAN_STEPS
        saved_bits_k = torch.from_numpy(np.log2(_frequencies(tables, 0) / _frequencies(tables, 1))).float()
        # x^2 = (x - one)^2 + price * bits. Below `one`, as 16 bits is the most: a symbol of 1 stays one when thinned.
        least_one_k = one / 2 + BIT_PRICE * saved_bits_k.clamp_min(0) / (2 * one)
        return cls(pull16=pull16, inwards=INWARDS, least_one_k=least_one_k)

    def symbols(self, change: Tensor, index: Tensor) -> Tensor:
        """Return the symbols of latents that are so many steps from their means, by tables of these numbers."""
        magnitude = torch.floor(change.abs() + (0.5 - self.inwards + self.pull16 / MEAN_STEPS)).clamp_min(1)
        is_zero = change.abs() < self.least_one_k.to(change.device)[index.long()]
        return torch.where(is_zero, 0, torch.sign(change) * magnitude).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)

    def latents16(self, symbols: Tensor, mean16: Tensor) -> Tensor:
        """Return the latents in sixteenths that symbols stand for, whole numbers; the same on every device."""
        return symbols * MEAN_STEPS + mean16 - torch.sign(symbols) * self.pull16


def _frequencies(tables: FrequencyTables, symbol: int) -> Int32Array:
    """Return how often each table expects a symbol, of 65536: the escape's frequency where it has none of its own."""
    rows = np.arange(tables.num_tables)
    last = tables.lengths - 2
    interval = symbol - tables.offsets
    interval = np.where((interval < 0) | (interval > last), last, interval)
    frequencies: Int32Array = tables.cumulative[rows, interval + 1] - tables.cumulative[rows, interval]
    return frequencies
