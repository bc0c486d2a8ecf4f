"""The state of a training in a file: safetensors for the tensors, JSON for the rest. Nothing is ever unpickled.

A state is written beside the one before and then takes its name, while the one before gets another: a kill at any
moment leaves a whole one.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from framevault.pipeline.jobs.train.errors import TrainingError

FORMAT_KEY = "framevault_training_state"
"""Metadata entry with the tree of everything but tensors."""

_TENSOR, _PAIRS = "__tensor__", "__pairs__"


def save_state(path: Path, state: Mapping[str, object]) -> None:
    """Write a state; the one that lay there before becomes `previous_of(path)`.

    Args:
        path: Where to.
        state: Nested mappings (keys: strings or whole numbers) and lists of tensors, numbers, strings, None.
    """
    tensors: dict[str, Tensor] = {}
    tree = _flatten(state, tensors)
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary, {FORMAT_KEY: json.dumps(tree)})
    put_in_place(temporary, path, keep=previous_of(path))


def load_state(path: Path) -> dict[str, object] | None:
    """Read a state; None if there is none.

    Raises:
        TrainingError: The file is damaged; says what to do.
    """
    if not path.exists():
        # A kill between the two renames of `put_in_place` leaves the state before as the only one.
        path = previous_of(path)
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads((file.metadata() or {})[FORMAT_KEY])
            state = _restore(tree, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(
            f"{path} is damaged ({error}): put {previous_of(path).name} in its place to go on from the state before, "
            "or remove both to start anew"
        ) from error
    assert isinstance(state, dict)
    return state


def previous_of(path: Path) -> Path:
    """Return where the state before is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def put_in_place(temporary: Path, path: Path, *, keep: Path | None = None) -> None:
    """Give a finished file its name, at once and for good; what had the name before gets the name `keep`."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    if keep is not None and path.exists():
        os.replace(path, keep)
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _flatten(value: object, tensors: dict[str, Tensor]) -> object:
    """Return a tree for JSON; tensors go into `tensors`, under names that stand in the tree."""
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        # A copy: safetensors refuses tensors that share memory, and those in channels-last order.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: _flatten(item, tensors) for key, item in value.items()}
        return {_PAIRS: [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_flatten(item, tensors) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a state holds tensors, numbers, strings, lists and mappings, got {type(value).__name__}")


def _restore(tree: object, tensors: Mapping[str, Tensor]) -> object:
    if isinstance(tree, list):
        return [_restore(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if _TENSOR in tree:
        return tensors[tree[_TENSOR]]
    if _PAIRS in tree:
        return {key: _restore(item, tensors) for key, item in tree[_PAIRS]}
    return {key: _restore(item, tensors) for key, item in tree.items()}
