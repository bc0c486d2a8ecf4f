"""Edits in the compressed domain: the styles are moved, and the feature with them; no picture is encoded again.

::

    S' = S^ + a n;  f' = f^ + F(S') - F(S^)        the feature moves by as much as the generator's own
    S' = S^ + a n;  f' = f^ + a m                  the direction has a shift m of the feature itself

The first is that of Li et al., HSC, arXiv 2502.16799, IEEE TIP 2025, section on editing. It can change only what the
generator's lower layers know. Where the feature tells what styles don't (with `face128`, where mouth and eyes are),
the second is what changes it. Letters in shapes: N pictures, L styles of D values, C channels of a feature of s x s
positions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framevault.codecs.base import Semantics
from framevault.codecs.errors import CodecError
from framevault.codecs.hsc.directions import Direction, Directions


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One step along a named direction. Checked once, here.

    Raises:
        CodecError: The amount is no finite number.
    """

    name: str
    """Of the direction."""
    amount: float
    """How far, in the direction's own steps; negative goes the other way."""

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shift:
    """What edits add, all together."""

    led_ld: Tensor
    """To the styles, by directions which the feature follows as the generator's own does, float32 [L, D]."""
    free_ld: Tensor
    """To the styles, by directions with a shift of the feature of their own, float32 [L, D]."""
    feature_chw: Tensor | None
    """That shift, float32 [C, s, s]; None: there is no such direction."""


def shift_along(direction: Direction, amount: float) -> Shift:
    """Return what one edit adds."""
    shift_ld = amount * direction.shift_ld
    if direction.shift_chw is None:
        return Shift(led_ld=shift_ld, free_ld=torch.zeros_like(shift_ld), feature_chw=None)
    return Shift(led_ld=torch.zeros_like(shift_ld), free_ld=shift_ld, feature_chw=amount * direction.shift_chw)


def total_shift(edits: Sequence[Edit], directions: Directions) -> Shift:
    """Return what all edits together add; the order does not matter.

    Raises:
        CodecError: A direction is unknown; lists those that there are.
    """
    shifts = [shift_along(directions.find(edit.name), edit.amount) for edit in edits]
    nothing_ld = torch.zeros(directions.shape)
    features = [shift.feature_chw for shift in shifts if shift.feature_chw is not None]
    return Shift(
        led_ld=sum((shift.led_ld for shift in shifts), nothing_ld),
        free_ld=sum((shift.free_ld for shift in shifts), nothing_ld),
        feature_chw=torch.stack(features).sum(dim=0) if features else None,
    )


def move(latents: Semantics, shift: Shift, own_feature: Callable[[Tensor], Tensor]) -> Semantics:
    """Return edited latents; a shift of zeros gives the same picture to the bit.

    Args:
        latents: Of some pictures.
        shift: What is added.
        own_feature: F: the generator's own feature [N, C, s, s] of styles [N, L, D].
    """
    device = latents.styles_nld.device
    led_nld = latents.styles_nld + shift.led_ld.to(device)
    feature_nchw = latents.feature_nchw + (own_feature(led_nld) - own_feature(latents.styles_nld))
    if shift.feature_chw is not None:
        feature_nchw = feature_nchw + shift.feature_chw.to(device)
    return latents._replace(styles_nld=led_nld + shift.free_ld.to(device), feature_nchw=feature_nchw)
