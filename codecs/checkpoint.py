"""Checkpoints: safetensors files whose metadata says which codec they belong to. Nothing is ever unpickled."""

import json
from collections.abc import Mapping, Set
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from framevault.codecs.checkpoint_header import CODEC_KEY, CONFIG_KEY, LENGTH_BYTES, parse_config
from framevault.codecs.errors import CheckpointError


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], *, codec: str, config: Mapping[str, object]) -> None:
    """Write a checkpoint; the same tensors give the same bytes."""
    metadata = {CODEC_KEY: codec, CONFIG_KEY: json.dumps(dict(config), sort_keys=True)}
    data = save({name: tensor.contiguous() for name, tensor in sorted(tensors.items())}, metadata)
    # safetensors puts the metadata in an order that differs from call to call.
    end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
    header = json.loads(data[LENGTH_BYTES:end])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    path.write_bytes(len(text).to_bytes(LENGTH_BYTES, "little") + text + data[end:])


def load_checkpoint(path: Path, *, codec: str) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read a checkpoint's tensors, on the CPU, and its configuration.

    Raises:
        CheckpointError: The file is missing, no safetensors file, or another codec's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    return tensors, parse_config(path, metadata, codec=codec)


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} can't be read as a safetensors checkpoint: {error}")


def check_names(tensors: Mapping[str, Tensor], expected: Set[str]) -> None:
    """Check that a checkpoint has the tensors that its codec needs, and no others.

    Raises:
        ValueError: Some are missing or unknown; the message names the first ones.
    """
    if missing := sorted(expected - tensors.keys()):
        raise ValueError(f"tensors are missing: {', '.join(missing[:5])} ({len(missing)} in all)")
    if unknown := sorted(tensors.keys() - expected):
        raise ValueError(f"tensors are unknown: {', '.join(unknown[:5])} ({len(unknown)} in all)")


def check_shapes(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that some of a checkpoint's tensors, none of them missing, have the shapes that its codec needs.

    Raises:
        ValueError: Some have others; the message names the first ones, with what was expected and what came.
    """
    wrong = [name for name, shape in sorted(shapes.items()) if tuple(tensors[name].shape) != shape]
    if wrong:
        named = [f"{name} must be {list(shapes[name])}, got {list(tensors[name].shape)}" for name in wrong[:5]]
        raise ValueError(f"tensors have other shapes: {'; '.join(named)} ({len(wrong)} in all)")


def check_tensor(name: str, tensor: Tensor, *, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Check a tensor's type and shape.

    Raises:
        ValueError: It has others; the message names it.
    """
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must be {dtype} {list(shape)}, got {tensor.dtype} {list(tensor.shape)}")
