"""Which codec, with which settings: the part of a codec that crosses processes. Imports no torch."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from framevault.codecs.errors import CheckpointError, CodecError

LOWEST_QUALITY = 1
"""Fewest bytes."""

HIGHEST_QUALITY = 8
"""Most bytes."""

DEFAULT_QUALITY = 5
"""Where the shipped detector loses little against the original pixels; the model card has the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecRow:
    """What is known of a codec without loading it."""

    number: int
    """Its number in stored formats; never reused."""
    decodes_to: Literal["frames", "features"]
    """What its decoder returns."""
    has_quality: bool
    """Whether `quality` changes anything."""
    checkpoint: str | None
    """Path of the shipped weights below this folder; None if it has none."""
    typical_bpp: tuple[float, ...]
    """Bits a pixel at each quality, the mean of nine real clips: for plans, not for promises."""
    typical_pixels_per_s: float
    """Pixels a second and core, compressed end to end: `framevault bench stages` at 640x272 on two AMD EPYC cores."""


CODECS: dict[str, CodecRow] = {
    "raw": CodecRow(
        number=0,
        decodes_to="frames",
        has_quality=False,
        checkpoint=None,
        typical_bpp=(7.2,) * HIGHEST_QUALITY,
        typical_pixels_per_s=15.6e6,
    ),
    "dicm": CodecRow(
        number=1,
        decodes_to="features",
        has_quality=True,
        checkpoint="dicm/checkpoints/mobilenet_v2.safetensors",
        typical_bpp=(0.029, 0.041, 0.057, 0.078, 0.106, 0.149, 0.213, 0.317),
        typical_pixels_per_s=4.9e6,
    ),
}
"""Every codec there is, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecSpec:
    """A codec and its settings. Checked once, here.

    Raises:
        CodecError: The codec is unknown, or the quality out of range.
    """

    name: str
    """A key of `CODECS`."""
    quality: int = DEFAULT_QUALITY
    """1 (fewest bytes) to 8; codecs without a quality ignore it."""
    weights: str | None = None
    """Path of a checkpoint; None for the shipped one."""
    device: str = "cpu"
    """A torch device, as `cpu` or `cuda:0`; not part of the fingerprint."""

    def __post_init__(self) -> None:
        """Check the name and the quality."""
        if self.name not in CODECS:
            raise CodecError(f"codec must be one of {', '.join(sorted(CODECS))}, got {self.name!r}")
        if not LOWEST_QUALITY <= self.quality <= HIGHEST_QUALITY:
            raise CodecError(f"quality must be {LOWEST_QUALITY} to {HIGHEST_QUALITY}, got {self.quality}")

    @property
    def row(self) -> CodecRow:
        """The codec's row of the table."""
        return CODECS[self.name]

    @property
    def checkpoint_path(self) -> Path | None:
        """The file its weights are read from; None for a codec without weights."""
        if self.weights is not None:
            return Path(self.weights)
        return None if self.row.checkpoint is None else Path(__file__).parent / self.row.checkpoint


def weights_digest(spec: CodecSpec) -> str:
    """Return the SHA-256 of the codec's checkpoint file in hex; of nothing for a codec without weights.

    Raises:
        CheckpointError: The file can't be read.
    """
    path = spec.checkpoint_path
    if path is None:
        return hashlib.sha256(b"").hexdigest()
    try:
        status = path.stat()
        return _file_digest(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise CheckpointError(f"weights of codec {spec.name!r} can't be read: {path}: {error.strerror}") from error


@cache
def _file_digest(path: Path, mtime_ns: int, size_bytes: int) -> str:
    """Hash a file; its time and size are there to key the cache."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def codec_fingerprint(spec: CodecSpec) -> str:
    """Return the hex SHA-256 over everything that makes streams of one spec decode with another."""
    facts = {
        "codec": spec.name,
        "number": spec.row.number,
        "quality": spec.quality if spec.row.has_quality else None,
        "weights": weights_digest(spec),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
