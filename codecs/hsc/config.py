"""What a checkpoint says of its domain and its networks' sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from framevault.codecs.sizes import MOST_PARTS, check_size

StyleCodecKind = Literal["dense", "convolutions"]
"""How styles become core symbols: by dense layers, or as the paper does, shaped into an image."""

IMAGE_SIDE, CORE_SIDE = 32, 2
"""Of the image that styles are shaped into, and of the core symbols that four strides make of it."""

LARGEST_RESOLUTION = 4096
"""Pixels of a picture's side, at most: four times that of any generator known."""

LARGEST_SPLIT = 64
"""Of the feature, at most: to read a checkpoint, its integer networks run at each position of half that side."""


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
    """The inversion encoder's channels, from half the side of its input down by twos; f comes from the third."""
    depths: tuple[int, ...] = (1, 2, 2, 2, 2)
    """Residual units of each of them."""
    shrink: int = 1
    """The inversion encoder sees a picture of `resolution` over this."""
    style_rank: int = 256
    """Width of the trunk that the inversion encoder reads all styles from."""
    style_codec: StyleCodecKind = "dense"
    """How styles become core symbols."""
    core: int = 48
    """K, core symbols y_s: all that the styles are made of."""
    style_hidden: int = 512
    """Hidden width between styles and core symbols: values of dense layers, channels of convolutions."""
    wide: int = 128
    """V, channels of the feature networks at `split`."""
    deep: int = 160
    """U, their channels at half of `split`."""
    slices: tuple[int, ...] = (1, 1, 2, 4, 8, 16, 16, 16)
    """Channels of each slice of y, most important first."""
    context: int = 64
    """Hidden channels of each slice's network."""
    skip_below: int = 1
    """Latents whose scale index is smaller are not coded: the decoder takes their mean."""

    def __post_init__(self) -> None:
        """Check that the sizes can be built, and fit together."""
        self._check_bounds()
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
        self._check_encoder()
        self._check_style_codec()

    def _check_bounds(self) -> None:
        check_size("resolution", self.resolution, most=LARGEST_RESOLUTION)
        check_size("split", self.split, most=LARGEST_SPLIT)
        check_size("skip_below", self.skip_below, least=0)
        for name in ("channels", "body", "depths", "slices"):
            check_size(f"the number of {name}", len(getattr(self, name)), most=MOST_PARTS)
        for width in self.channels + self.body:
            check_size("each of channels and body", width)
        check_size("the sum of depths", sum(self.depths), most=MOST_PARTS)
        for name in ("style", "style_rank", "core", "style_hidden", "wide", "deep", "context", "latent"):
            check_size(name, getattr(self, name))

    def _check_encoder(self) -> None:
        if len(self.body) != len(self.depths) or len(self.body) < 3 or min(self.body + self.depths) < 1:
            raise ValueError(
                "body and depths must have as many entries, three or more, none below 1, "
                f"got {self.body}, {self.depths}"
            )
        if self.shrink < 1 or self.resolution // self.shrink not in (8 * self.split, 16 * self.split):
            raise ValueError(
                f"resolution over shrink must be 8 or 16 times the split, {8 * self.split} or {16 * self.split}, "
                f"got {self.resolution} over {self.shrink}"
            )

    def _check_style_codec(self) -> None:
        if self.style_codec not in get_args(StyleCodecKind):
            raise ValueError(f"style_codec must be one of {get_args(StyleCodecKind)}, got {self.style_codec!r}")
        if self.style_codec == "convolutions" and (2 * self.style != IMAGE_SIDE**2 or self.core % CORE_SIDE**2):
            raise ValueError(
                f"with style_codec 'convolutions', style must be {IMAGE_SIDE**2 // 2} and core a multiple of "
                f"{CORE_SIDE**2}, got {self.style} and {self.core}"
            )

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

    @property
    def content_stride(self) -> int:
        """Positions of the inversion encoder's third level for one of f, along each side."""
        return self.resolution // self.shrink // 8 // self.split

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "HscConfig":
        """Read what `dataclasses.asdict` wrote into a checkpoint.

        Raises:
            TypeError: A value is of another type, missing, or unknown.
            ValueError: Sizes are out of bounds, or don't fit together.
        """
        fields = {name: getattr(cls(), name) for name in ("channels", "body", "depths", "slices", "style_codec")}
        fields |= values
        return cls(
            channels=_whole_numbers("channels", fields.pop("channels")),
            body=_whole_numbers("body", fields.pop("body")),
            depths=_whole_numbers("depths", fields.pop("depths")),
            slices=_whole_numbers("slices", fields.pop("slices")),
            style_codec=_one_of("style_codec", fields.pop("style_codec"), known=get_args(StyleCodecKind)),
            **{name: _whole(name, value) for name, value in fields.items()},
        )


def _one_of(name: str, value: object, *, known: tuple[StyleCodecKind, ...]) -> StyleCodecKind:
    for each in known:
        if value == each:
            return each
    raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r:.200}")


def _whole_numbers(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} must be a list of whole numbers, got {value!r:.200}")
    return tuple(_whole(name, item) for item in value)


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r:.200}")
    return value
