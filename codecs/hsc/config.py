"""What a checkpoint says of its domain and its networks' sizes."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HscConfig:
    """One domain's sizes: stored in the checkpoint, needed to build the networks."""

    resolution: int = 128
    """Pixels of a picture's side, a power of two."""
    split: int = 16
    """Side of the feature f, which takes the place of the generator's own after the block of that resolution."""
    style: int = 256
    """D, width of a style."""
    channels: tuple[int, ...] = (256, 256, 192, 96, 48, 32)
    """The generator's channels at 4, 8, 16, ... `resolution`."""
    body: tuple[int, ...] = (32, 64, 128, 192, 256)
    """The inversion encoder's channels, from half the resolution down by twos; the third is at `split`."""
    core: int = 48
    """K, core symbols y_s: all that the styles are made of."""
    style_hidden: int = 512
    """Hidden width between styles and core symbols."""
    wide: int = 128
    """V, channels of the feature networks at `split`."""
    deep: int = 160
    """U, their channels at half of `split`."""
    slices: tuple[int, ...] = (8, 8, 8, 8, 8, 8, 8, 8)
    """Channels of each slice of y, most important first."""
    context: int = 64
    """Hidden channels of each slice's network."""
    skip_below: int = 1
    """Latents whose scale index is smaller are not coded: the decoder takes their mean."""

    def __post_init__(self) -> None:
        """Check that the sizes fit together."""
        levels = self.resolution.bit_length() - 2
        if self.resolution != 2 ** (levels + 1) or len(self.channels) != levels:
            raise ValueError(
                f"channels must have one entry a resolution from 4 to {self.resolution}, a power of two, "
                f"got {self.channels}"
            )
        if not 8 <= self.split < self.resolution or self.split & (self.split - 1):
            raise ValueError(f"split must be a power of two from 8 to below {self.resolution}, got {self.split}")
        if not self.slices or min(self.slices) < 1:
            raise ValueError(f"slices must be positive, got {self.slices}")

    @property
    def num_styles(self) -> int:
        """L, styles of a picture: two a resolution, less the first's one."""
        return 2 * len(self.channels)

    @property
    def latent(self) -> int:
        """M, channels of y."""
        return sum(self.slices)

    @property
    def grid(self) -> int:
        """Positions of y's side."""
        return self.split // 2

    @property
    def split_channels(self) -> int:
        """C, channels of the feature f."""
        return self.channels[self.split.bit_length() - 3]

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "HscConfig":
        """Read what `dataclasses.asdict` wrote into a checkpoint.

        Raises:
            TypeError: A value is of another type, missing, or unknown.
        """
        lists = ("channels", "body", "slices")
        return cls(
            **{name: _whole_numbers(name, value) for name, value in values.items() if name in lists},
            **{name: _whole(name, value) for name, value in values.items() if name not in lists},
        )


def _whole_numbers(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} must be a list of whole numbers, got {value!r}")
    return tuple(_whole(name, item) for item in value)


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    return value
