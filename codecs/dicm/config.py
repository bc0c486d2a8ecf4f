"""What a checkpoint says of its networks' sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

BlockKind = Literal["gated", "hornet"]
"""Which residual blocks g_a and g_s are made of; `architectures.py` has a row for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DicmConfig:
    """Widths of the networks: stored in the checkpoint, needed to build them."""

    wide: int = 96
    """Channels at stride 8."""
    deep: int = 160
    """Channels at stride 16."""
    latent: int = 128
    """M, channels of y."""
    hyper: int = 64
    """Z, channels of z."""
    slices: tuple[int, ...] = (16, 24, 40, 48)
    """Channels of each slice of y, most important first; they sum up to `latent`."""
    context: int = 64
    """Hidden channels of each slice's network."""
    temporal: int = 0
    """T, channels of what a predicted frame's positions see of the frame before; 0 without video mode."""
    skip_below: int = 1
    """Latents whose scale index is smaller are not coded: the decoder takes their mean."""
    blocks: BlockKind = "gated"
    """Of g_a and g_s. Checkpoints that don't say have gated ones."""

    def __post_init__(self) -> None:
        """Check that the slices are the latent's."""
        if not self.slices or min(self.slices) < 1 or sum(self.slices) != self.latent:
            raise ValueError(f"slices must be positive and sum up to the latent's {self.latent}, got {self.slices}")

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "DicmConfig":
        """Read what `dataclasses.asdict` wrote into a checkpoint.

        Raises:
            TypeError: A value is of another type, missing, or unknown.
        """
        fields = dict(values)
        slices = fields.pop("slices", None)
        if not isinstance(slices, list | tuple):
            raise TypeError(f"slices must be a list of whole numbers, got {slices!r}")
        return cls(
            slices=tuple(_whole("slices", value) for value in slices),
            blocks=_block_kind(fields.pop("blocks", "gated")),
            **{name: _whole(name, value) for name, value in fields.items()},
        )


def _block_kind(value: object) -> BlockKind:
    for kind in get_args(BlockKind):
        if value == kind:
            return kind  # type: ignore[no-any-return]  # get_args forgets the literals' type
    raise ValueError(f"blocks must be one of {', '.join(get_args(BlockKind))}, got {value!r}")


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    return value
