"""What a checkpoint says of its networks' sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from framevault.codecs.sizes import MOST_PARTS, check_size

BlockKind = Literal["gated", "hornet"]
"""Which residual blocks g_a and g_s are made of; `architectures.py` has a row for each."""

BackboneName = Literal["mobilenet_v2", "resnet50"]
"""Whose features the codec carries: the keys of `BACKBONES` in `backbones/registry.py`."""

NameT = TypeVar("NameT", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class WidthsRow:
    """Channels of the codec's networks for one backbone; `DicmConfig` says what each is."""

    wide: int
    """V."""
    deep: int
    """U."""
    latent: int
    """M."""
    hyper: int
    """Z."""
    slices: tuple[int, ...]
    """Of y."""


WIDTHS_ROWS: dict[BackboneName, WidthsRow] = {
    "mobilenet_v2": WidthsRow(wide=96, deep=160, latent=128, hyper=64, slices=(16, 24, 40, 48)),
    "resnet50": WidthsRow(wide=192, deep=256, latent=192, hyper=192, slices=(24, 36, 60, 72)),
}
"""The paper's M and Z for resnet50; V, U and slices are ours. mobilenet_v2's are those of the shipped codec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DicmConfig:
    """Backbone and widths of the networks: stored in the checkpoint, needed to build them."""

    backbone: BackboneName = "mobilenet_v2"
    """Gives head and features. Checkpoints that don't say have mobilenet_v2."""
    wide: int
    """V, channels at stride 8."""
    deep: int
    """U, channels at stride 16."""
    latent: int
    """M, channels of y."""
    hyper: int
    """Z, channels of z."""
    slices: tuple[int, ...]
    """Channels of each slice of y, most important first; they sum up to `latent`."""
    context: int = 64
    """Hidden channels of each slice's network."""
    temporal: int = 0
    """T, channels of what a predicted frame's positions see of the frame before; 0 without video mode."""
    motion: int = 0
    """C, channels that are carried along by motion, the first ones; 0 without moved frames."""
    skip_below: int = 1
    """Latents whose scale index is smaller are not coded: the decoder takes their mean."""
    blocks: BlockKind = "gated"
    """Of g_a and g_s. Checkpoints that don't say have gated ones."""

    def __post_init__(self) -> None:
        """Check that the sizes can be built, and that the slices are the latent's."""
        for name in ("wide", "deep", "latent", "hyper", "context"):
            check_size(name, getattr(self, name))
        for name in ("temporal", "motion", "skip_below"):
            check_size(name, getattr(self, name), least=0)
        if self.motion > self.latent or (self.motion and not self.temporal):
            raise ValueError(
                f"motion must be channels of the latent's {self.latent}, and goes with temporal, got {self.motion}"
            )
        check_size("the number of slices", len(self.slices), most=MOST_PARTS)
        if not self.slices or min(self.slices) < 1 or sum(self.slices) != self.latent:
            raise ValueError(f"slices must be positive and sum up to the latent's {self.latent}, got {self.slices}")

    @classmethod
    def usual(cls, backbone: BackboneName, *, blocks: BlockKind) -> "DicmConfig":
        """Return the configuration that a codec of a backbone has unless told otherwise, without video mode."""
        row = WIDTHS_ROWS[backbone]
        return cls(
            backbone=backbone,
            wide=row.wide,
            deep=row.deep,
            latent=row.latent,
            hyper=row.hyper,
            slices=row.slices,
            blocks=blocks,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "DicmConfig":
        """Read what `dataclasses.asdict` wrote into a checkpoint.

        Raises:
            TypeError: A value is of another type, missing, or unknown.
            ValueError: There are no such blocks or backbone, a size is out of bounds, or the slices are not the
                latent's.
        """
        fields = dict(values)
        slices = fields.pop("slices", None)
        if not isinstance(slices, list | tuple):
            raise TypeError(f"slices must be a list of whole numbers, got {slices!r:.200}")
        return cls(
            slices=tuple(_whole("slices", value) for value in slices),
            blocks=_one_of("blocks", fields.pop("blocks", "gated"), known=get_args(BlockKind)),
            backbone=_one_of("backbone", fields.pop("backbone", "mobilenet_v2"), known=get_args(BackboneName)),
            **{name: _whole(name, value) for name, value in fields.items()},
        )


def _one_of(name: str, value: object, *, known: tuple[NameT, ...]) -> NameT:
    for each in known:
        if value == each:
            return each
    raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r:.200}")


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r:.200}")
    return value
