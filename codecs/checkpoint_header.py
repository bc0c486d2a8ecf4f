"""What a checkpoint says of itself, read without torch: the codec it belongs to, and its configuration.

A safetensors file begins with the length of a JSON object, 8 bytes, and the object; `__metadata__` in it maps strings
to strings.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from framevault.codecs.errors import CheckpointError
from framevault.codecs.spec import CodecSpec, frames_spec

CODEC_KEY = "framevault_codec"
"""Metadata entry with the codec's name."""

CONFIG_KEY = "framevault_config"
"""Metadata entry with the codec's configuration as JSON."""

LENGTH_BYTES = 8
"""Of the JSON object's length, at the start of the file."""

LONGEST_HEADER = 100_000_000
"""Bytes of a header that safetensors itself accepts."""


def read_config(path: Path, *, codec: str) -> dict[str, object]:
    """Read a checkpoint's configuration; its tensors stay on the disk.

    Raises:
        CheckpointError: The file is missing, no safetensors file, or another codec's.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            header = json.loads(file.read(length)) if length <= LONGEST_HEADER else None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} can't be read as a safetensors checkpoint: {error}") from error
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path} can't be read as a safetensors checkpoint: it has no header")
    return parse_config(path, metadata, codec=codec)


def parse_config(path: Path, metadata: Mapping[str, str], *, codec: str) -> dict[str, object]:
    """Return the configuration that a file's metadata hold.

    Raises:
        CheckpointError: They are another codec's, or no configuration.
    """
    if metadata.get(CODEC_KEY) != codec:
        raise CheckpointError(f"{path} must be a checkpoint of codec {codec!r}, got {metadata.get(CODEC_KEY)!r}")
    try:
        config = json.loads(metadata.get(CONFIG_KEY, "{}"))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {CONFIG_KEY} must be JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: {CONFIG_KEY} must be a JSON object, got {type(config).__name__}")
    return config


def count_slices(spec: CodecSpec) -> int:
    """Return how many slices a spec's streams have; for a codec with slices.

    Raises:
        CheckpointError: The checkpoint can't be read, or says nothing of slices.
    """
    if spec.slices is not None:
        return spec.slices
    path = spec.checkpoint_path
    assert path is not None
    slices = read_config(path, codec=frames_spec(spec).name).get("slices")
    if not isinstance(slices, list):
        raise CheckpointError(f"{path}: slices must be a list, got {slices!r}")
    return len(slices)
