"""Checkpoints, from FORMAT.md: safetensors files."""

import json
import struct
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.storage.independent.documents import require

DTYPES = {"U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4"}
"""Those that bitstreams use."""


@dataclass(frozen=True)
class Checkpoint:
    """The integer tensors of a checkpoint, and its configuration."""

    codec: str
    config: dict[str, Any]
    tensors: dict[str, NDArray[np.int64]]


def parse_checkpoint(data: bytes) -> Checkpoint:
    """Read a safetensors file; tensors of other types are left out."""
    (length,) = struct.unpack("<Q", data[:8])
    require(8 + length <= len(data), "a header that does not fit")
    members = json.loads(data[8 : 8 + length].decode("utf-8"))
    buffer = data[8 + length :]
    metadata = members.pop("__metadata__")
    tensors = {}
    for name, member in members.items():
        begin, end = member["data_offsets"]
        require(0 <= begin <= end <= len(buffer), f"{name} lies outside of the file")
        if (dtype := DTYPES.get(member["dtype"])) is not None:
            flat = np.frombuffer(buffer[begin:end], dtype)
            require(len(flat) == prod(member["shape"]), f"{name} has another shape")
            tensors[name] = flat.reshape(member["shape"]).astype(np.int64)
    return Checkpoint(metadata["framevault_codec"], json.loads(metadata["framevault_config"]), tensors)
