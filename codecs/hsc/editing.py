"""Edits in the compressed domain: the styles are moved, and the feature by as much as the generator's own moves.

::

    S' = S^ + a n;  f' = f^ + F(S') - F(S^)

Li et al., HSC, arXiv 2502.16799, IEEE TIP 2025, section on editing; no picture is encoded again. Letters in shapes: N
pictures, L styles of D values, C channels of a feature of s x s positions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framevault.codecs.base import Semantics
from framevault.codecs.errors import CodecError
from framevault.codecs.hsc.directions import Directions


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One step along a named direction. Checked once, here.

    Raises:
        CodecError: The amount is no finite number.
    """

    name: str
    """Of the direction."""
    amount: float
    """How far: 1 is one standard deviation of faces along the direction; negative goes the other way."""

    def __post_init__(self) -> None:
        """Check the amount."""
        if not math.isfinite(self.amount):
            raise CodecError(f"edit {self.name!r} must have a finite amount, got {self.amount}")


def parse_edit(text: str) -> Edit:
    """Read `NAME=AMOUNT`.

    Raises:
        CodecError: It is something else.
    """
    name, separator, amount = text.partition("=")
    try:
        if not (separator and name.strip()):
            raise ValueError("no name and amount")
        return Edit(name=name.strip(), amount=float(amount))
    except ValueError as error:
        raise CodecError(f"an edit must be like smile=+1.5, got {text!r}") from error


def total_shift(edits: Sequence[Edit], directions: Directions) -> Tensor:
    """Return what all edits together add to the styles, float32 [L, D]; the order does not matter.

    Raises:
        CodecError: A direction is unknown; lists those that there are.
    """
    shift_ld = torch.zeros(directions.shape)
    for edit in edits:
        shift_ld += edit.amount * directions.find(edit.name).shift_ld
    return shift_ld


def move(latents: Semantics, shift_ld: Tensor, own_feature: Callable[[Tensor], Tensor]) -> Semantics:
    """Return edited latents; a shift of zeros gives the same picture to the bit.

    Args:
        latents: Of some pictures.
        shift_ld: What is added to their styles.
        own_feature: F: the generator's own feature [N, C, s, s] of styles [N, L, D].
    """
    styles_nld = latents.styles_nld + shift_ld.to(latents.styles_nld.device)
    difference_nchw = own_feature(styles_nld) - own_feature(latents.styles_nld)
    return latents._replace(styles_nld=styles_nld, feature_nchw=latents.feature_nchw + difference_nchw)
