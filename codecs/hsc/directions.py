"""Named directions among styles and features, in a file beside the checkpoint whose generator they belong to.

A safetensors file: one float16 tensor [L, D] a name, and `name.feature` [C, s, s] where the direction has a shift of
the feature of its own; the metadata says what each does, how it was found, and of which generator's styles it is.
Letters in shapes: L styles of D values, C channels of a feature of s x s positions.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.errors import CheckpointError, CodecError

DIRECTIONS_OF = "hsc directions"
"""What the file says in the place of a codec's name."""

DIRECTION_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
"""Names that the command line can take, as `smile` and `factor-3`."""

_FEATURE = ".feature"
_GENERATOR = "generator."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Direction:
    """One direction."""

    name: str
    """What it is called."""
    about: str
    """What a positive amount does, and how it was found."""
    shift_ld: Tensor
    """What an amount of 1 adds to the styles, float32 [L, D]."""
    shift_chw: Tensor | None = None
    """What it adds to the feature, float32 [C, s, s]; None: as much as the generator's own moves with the styles."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Directions:
    """All directions of one generator."""

    source: str
    """Where they come from, for messages."""
    generator: str
    """Its fingerprint."""
    items: tuple[Direction, ...]
    """At least one, of one shape; each name once."""

    @property
    def shape(self) -> torch.Size:
        """L and D."""
        return self.items[0].shift_ld.shape

    def find(self, name: str) -> Direction:
        """Return the direction of a name.

        Raises:
            CodecError: There is none; lists those that there are.
        """
        for item in self.items:
            if item.name == name:
                return item
        known = ", ".join(item.name for item in self.items)
        raise CodecError(f"edit {name!r} is unknown; {self.source} has {known}")


def directions_path(checkpoint: Path) -> Path:
    """Return where the directions of a checkpoint lie unless told otherwise: beside it."""
    return checkpoint.with_suffix(".directions.safetensors")


def save_directions(path: Path, items: Iterable[Direction], *, generator: str) -> None:
    """Write directions; the same ones give the same bytes.

    Raises:
        CodecError: A name stands twice, or can't be typed; or there is none.
    """
    by_name: dict[str, Direction] = {}
    for item in items:
        if not DIRECTION_NAME.fullmatch(item.name) or item.name in by_name:
            raise CodecError(f"a direction's name must be like smile or factor-3, and stand once, got {item.name!r}")
        by_name[item.name] = item
    if not by_name:
        raise CodecError("expected directions to write, got none")
    config = {"generator": generator, "about": {name: item.about for name, item in by_name.items()}}
    tensors = {name: item.shift_ld.to(torch.float16) for name, item in by_name.items()}
    for name, item in by_name.items():
        if item.shift_chw is not None:
            tensors[name + _FEATURE] = item.shift_chw.to(torch.float16)
    save_checkpoint(path, tensors, codec=DIRECTIONS_OF, config=config)


def load_directions(path: Path, *, generator: str) -> Directions:
    """Read directions.

    Args:
        path: The file.
        generator: Fingerprint of the generator whose styles shall be moved.

    Raises:
        CheckpointError: The file is missing or damaged, or belongs to another generator.
    """
    tensors, config = load_checkpoint(path, codec=DIRECTIONS_OF)
    if (found := config.get("generator")) != generator:
        raise CheckpointError(
            f"{path} has directions of generator {str(found)[:16]}, the checkpoint's is {generator[:16]}: "
            "find directions for it with framevault train directions"
        )
    about = config.get("about")
    names = sorted(name for name in tensors if not name.endswith(_FEATURE))
    features = {name.removesuffix(_FEATURE) for name in tensors if name.endswith(_FEATURE)}
    if not isinstance(about, Mapping) or not names or set(about) != set(names) or not features <= set(names):
        raise CheckpointError(
            f"{path} must say what each of its directions does, {sorted(tensors)}, got {about!r:.200}"
        )
    _check(path, "[L, D]", {name: tensors[name] for name in names}, num_axes=2)
    _check(path, "[C, s, s]", {name + _FEATURE: tensors[name + _FEATURE] for name in sorted(features)}, num_axes=3)
    items = tuple(
        Direction(
            name=name,
            about=str(about[name]),
            shift_ld=tensors[name].to(torch.float32),
            shift_chw=tensors[name + _FEATURE].to(torch.float32) if name in features else None,
        )
        for name in names
    )
    return Directions(source=str(path), generator=generator, items=items)


def _check(path: Path, shape: str, tensors: Mapping[str, Tensor], *, num_axes: int) -> None:
    """Check that shifts of one kind are of one shape, and finite."""
    first = next(iter(tensors.values()), None)
    for name, tensor in tensors.items():
        assert first is not None
        if tensor.dim() != num_axes or tensor.shape != first.shape:
            raise CheckpointError(f"{path}: {name} must be {shape} like the others, got {list(tensor.shape)}")
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} must be finite")


def generator_fingerprint(checkpoint: Path) -> str:
    """Return the hex SHA-256 over the values of a checkpoint's generator, whatever precision they are stored in.

    Raises:
        CheckpointError: The file can't be read, is another codec's, or has no generator.
    """
    tensors, _ = load_checkpoint(checkpoint, codec="hsc")
    parts = {name.partition(_GENERATOR)[2]: tensor for name, tensor in tensors.items() if _GENERATOR in name}
    if not parts:
        raise CheckpointError(f"{checkpoint} has no generator")
    digest = hashlib.sha256()
    for name, tensor in sorted(parts.items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.to(torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
