"""From a checkpoint file to the tensors of its generator, without unpickling code.

| what lies in the file | where it comes from |
| --- | --- |
| `{"g_ema": tensors, "latent_avg": [D], ...}` | rosinality: converted, or with optimisers and `args` from training |
| `{"state_dict": tensors, "latent_avg": [L, D], "opts": ...}` | pSp, e4e |
| tensors by name | any of them, from `state_dict()` and `torch.save` or safetensors |
"""

import argparse
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from framevault.codecs.errors import CheckpointError

GENERATOR_KEYS = ("g_ema", "G_ema", "state_dict")
"""Below which of a file's entries the generator's tensors lie, if not at the top."""

MEAN_KEY = "latent_avg"
"""The mean style beside them."""

MOST_NAMES = 8
"""So many names stand in a message; the rest is counted."""

PICKLE_START = b"\x80"
"""First byte of a pickle that isn't in a zip file, as torch's are today."""

_READ_ERRORS = (
    OSError, EOFError, RuntimeError, SafetensorError, ValueError, LookupError, TypeError, AttributeError,
    AssertionError,
)  # fmt: skip
"""What reading a damaged file can raise, beside pickle's own error."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileContent:
    """What a file holds."""

    tensors: dict[str, Tensor]
    """By name, on the CPU; those below the generator's entry if there is one."""
    mean: Tensor | None
    """The mean style, if it stands beside them."""
    others: tuple[str, ...]
    """Names of the file's other entries, which are not read."""


def read_content(path: Path) -> FileContent:
    """Read a checkpoint: torch's format, without code in it, or safetensors.

    Raises:
        CheckpointError: It is missing, damaged, pickled with code, or holds no tensors, or numbers that are none.
    """
    content = _load(path)
    key = next((key for key in GENERATOR_KEYS if isinstance(content.get(key), Mapping)), None)
    inner = content if key is None else content[key]
    assert isinstance(inner, Mapping)
    tensors = {str(name): value for name, value in inner.items() if name != MEAN_KEY}
    plain = {name: value for name, value in tensors.items() if isinstance(value, Tensor) and _is_plain(value)}
    if strangers := [name for name in tensors if name not in plain]:
        raise CheckpointError(f"{path} must hold dense tensors only, these are none: {name_some(strangers)}")
    if not plain:
        raise CheckpointError(f"{path} must hold a generator's tensors, holds none")
    mean = content.get(MEAN_KEY, inner.get(MEAN_KEY))
    if mean is not None and not (isinstance(mean, Tensor) and _is_plain(mean)):
        raise CheckpointError(f"{path}: {MEAN_KEY} must be a dense tensor, is {type(mean).__name__}")
    return FileContent(
        tensors=plain,
        mean=mean,
        others=() if key is None else tuple(str(name) for name in content if name not in (key, MEAN_KEY)),
    )


def name_some(names: list[str]) -> str:
    """Return the first few of many names, for messages."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_complex()


def _load(path: Path) -> Mapping[object, object]:
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except pickle.UnpicklingError as error:
        raise _pickle_error(path, error) from error
    except _READ_ERRORS as error:
        raise CheckpointError(f"{path} can't be read as a checkpoint: {error!r}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} must hold tensors by name, holds {type(content).__name__}")
    return content


def _load_torch(path: Path) -> object:
    # Training scripts store their arguments: a Namespace only holds values.
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
        # Of pickles that torch didn't write, and of sparse tensors: what is raised says it better.
        warnings.filterwarnings("ignore", "Detected pickle protocol|Validating sparse tensor", UserWarning)
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _pickle_error(path: Path, error: Exception) -> CheckpointError:
    with path.open("rb") as file:
        is_pickle = file.read(1) == PICKLE_START or zipfile.is_zipfile(path)
    if not is_pickle:
        return CheckpointError(f"{path} can't be read as a checkpoint: {_reason(error)}")
    return CheckpointError(
        f"{path} is a pickle that holds more than tensors ({_reason(error)}): reading it would run code, which "
        "framevault never does. Load it where it was made, if you trust it, save the generator's tensors alone, "
        "torch.save(G_ema.state_dict(), 'generator.pt'), and import that file (README: Generators from elsewhere)"
    )


def _reason(error: Exception) -> str:
    """Return torch's own reason without its advice to load the file unsafely."""
    lines = [line.strip() for line in str(error).splitlines() if "WeightsUnpickler error" in line]
    return lines[0].removeprefix("WeightsUnpickler error:").strip() if lines else "it can't be read without"
