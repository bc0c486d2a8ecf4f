"""compressai's rANS coder, without the rest of compressai.

Its compiled module is loaded by itself: importing the package runs all of it, torch_geometric included, which takes
seconds in every worker and warns.
"""

import importlib.util
import sys
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

_MODULE = "compressai.ans"


class RansEncoder(Protocol):
    """Collects symbols; the last pushed is the first in the stream's arithmetic, but decoding gives them in order."""

    def encode_with_indexes(
        self, symbols: list[int], indexes: list[int], cdfs: list[list[int]], cdf_sizes: list[int], offsets: list[int]
    ) -> None:
        """Push symbols, each with the number of its density."""

    def flush(self) -> bytes:
        """Return the stream: 32-bit words."""


class RansDecoder(Protocol):
    """Takes symbols out of one stream. It does not know where its input ends."""

    def set_stream(self, stream: bytes) -> None:
        """Start at a stream's beginning."""

    def decode_stream(
        self, indexes: list[int], cdfs: list[list[int]], cdf_sizes: list[int], offsets: list[int]
    ) -> list[int]:
        """Take the next symbols, each with the number of its density."""


def make_encoder() -> RansEncoder:
    """Return a new encoder."""
    return cast(RansEncoder, _load().BufferedRansEncoder())


def make_decoder() -> RansDecoder:
    """Return a new decoder."""
    return cast(RansDecoder, _load().RansDecoder())


@cache
def _load() -> ModuleType:
    """Load the compiled module, or take it if somebody imported it before: it can't be loaded twice.

    Raises:
        ImportError: compressai is not installed, or without its compiled module.
    """
    if _MODULE in sys.modules:
        return sys.modules[_MODULE]
    package = importlib.util.find_spec("compressai")
    folders = [] if package is None else package.submodule_search_locations or []
    for path in (Path(folder) / f"ans{suffix}" for folder in folders for suffix in EXTENSION_SUFFIXES):
        spec = importlib.util.spec_from_file_location(_MODULE, path) if path.is_file() else None
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.modules[_MODULE] = module
            return module
    raise ImportError("the package compressai, with its compiled module compressai.ans, must be installed")
