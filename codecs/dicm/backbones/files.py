"""From a name or a path to weights: found, fetched, checked, and read without unpickling code.

A file is looked for where the user says, in torch's hub cache (`torch.hub.get_dir()/checkpoints`), in a Python package
that brings it along, and last on the publisher's server.
"""

import hashlib
import importlib.util
import pickle
import shutil
import urllib.request
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from framevault.codecs.dicm.backbones.checkpoints import KnownFile, download_url, known_file
from framevault.codecs.dicm.backbones.layouts import name_some
from framevault.codecs.errors import CheckpointError

TIMEOUT_S = 30.0
"""A server that is silent for so long is taken as unreachable."""

READ_ERRORS = (
    OSError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError,
    ValueError, LookupError, TypeError, AttributeError, AssertionError,
)  # fmt: skip
"""What reading a damaged file can raise; those of the last line come from torch's own unpickler."""

STATE_KEYS = ("state_dict", "model")
"""Where training scripts put the weights among other things: MoCo's, and torchvision's own."""


def find_weights(name: str, *, path: str | Path | None = None) -> Path | None:
    """Return where a known file is on this machine, its checksum checked; None if it is nowhere.

    Args:
        name: A key of `KNOWN_FILES`.
        path: Takes this file instead. It may hold weights of one's own: it is checked against the known checksum only
            if it bears the known file's name.

    Raises:
        CheckpointError: No file is known by that name, there is none at `path`, or one is damaged; names it.
    """
    file = known_file(name)
    if path is not None:
        return _check_given(Path(path), name, file)
    for place in (hub_path(file), _package_path(file)):
        if place is not None and place.is_file():
            check_digest(place, file)
            return place
    return None


def obtain_weights(name: str, *, path: str | Path | None = None) -> Path:
    """Return where a known file is on this machine; downloads it into the hub cache if it is nowhere.

    Raises:
        CheckpointError: As `find_weights`; or it can't be downloaded, which the message says with what to do.
    """
    found = find_weights(name, path=path)
    return fetch_weights(name) if found is None else found


def fetch_weights(name: str) -> Path:
    """Download a known file into torch's hub cache; its checksum is checked before it gets its name.

    Raises:
        CheckpointError: There is no address, no network, or something else came; says what to do.
    """
    file = known_file(name)
    target = hub_path(file)
    by_hand = f"put {file.file_name} ({file.origin}) into {target.parent}, or name its path"
    url = download_url(file)
    if url is None or file.sha256_prefix is None:
        raise CheckpointError(f"weights {name!r} can't be downloaded, since no SHA-256 of them is published: {by_hand}")
    try:
        digest = _download(url, target, sha256_prefix=file.sha256_prefix)
    except OSError as error:
        raise CheckpointError(
            f"weights {name!r} are not on this machine and could not be downloaded from {url}: {error}; {by_hand}"
        ) from error
    if not digest.startswith(file.sha256_prefix):
        raise CheckpointError(
            f"{url} must give bytes whose SHA-256 begins with {file.sha256_prefix}, gave {digest}; {by_hand}"
        )
    return target


def _download(url: str, target: Path, *, sha256_prefix: str) -> str:
    """Download a file and return its SHA-256; it gets its name only if that begins as it should.

    Not `torch.hub.download_url_to_file`: without a timeout, that one waits for ever where a firewall drops packets.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, partial.open("wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
        with partial.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest.startswith(sha256_prefix):
            partial.replace(target)
        return digest
    finally:
        partial.unlink(missing_ok=True)


def hub_path(file: KnownFile) -> Path:
    """Return where torch's hub cache keeps a file, whether or not it is there."""
    return Path(torch.hub.get_dir()) / "checkpoints" / file.file_name


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex; computed once for each state of the file.

    Raises:
        CheckpointError: It can't be read.
    """
    try:
        status = path.stat()
        return _digest(path, "sha256", status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise CheckpointError(f"weights {path} can't be read: {error.strerror}") from error


def check_digest(path: Path, file: KnownFile) -> None:
    """Check a file against the checksum that its publisher gives.

    Raises:
        CheckpointError: It has another; names both.
    """
    algorithm, prefix = ("sha256", file.sha256_prefix) if file.sha256_prefix else ("md5", file.md5_prefix)
    if prefix is None:
        return
    status = path.stat()
    digest = _digest(path, algorithm, status.st_mtime_ns, status.st_size)
    if not digest.startswith(prefix):
        raise CheckpointError(
            f"weights {path} must have a {algorithm.upper()} that begins with {prefix}, theirs is {digest}: "
            "the file is damaged or another; remove it and fetch it again"
        )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file onto the CPU: torch's format, without code in it, or safetensors.

    Raises:
        CheckpointError: It is no such file, holds something else than tensors, or numbers that are none; names them.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except READ_ERRORS as error:
        raise CheckpointError(f"weights {path} can't be read: {error!r}") from error
    for key in STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"weights {path} must hold tensors by name, hold {type(content).__name__}")
    if strangers := [str(key) for key, value in content.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(f"weights {path} must hold tensors only, these are none: {name_some(strangers)}")
    tensors = {str(key): value for key, value in content.items()}
    if faulty := [key for key, value in tensors.items() if not bool(torch.isfinite(value).all())]:
        raise CheckpointError(f"weights {path} hold values that are no finite numbers, in {name_some(faulty)}")
    return tensors


def _load_torch(path: Path) -> object:
    content: object = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _check_given(path: Path, name: str, file: KnownFile) -> Path:
    if not path.is_file():
        raise CheckpointError(f"weights {name!r}: there is no file {path}")
    if path.name == file.file_name:
        check_digest(path, file)
    return path


def _package_path(file: KnownFile) -> Path | None:
    """Return the file's place in the package that brings it along; None if that is not installed."""
    if file.package is None:
        return None
    package, _, below = file.package.partition(":")
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent / below if spec is not None and spec.origin is not None else None


@cache
def _digest(path: Path, algorithm: str, mtime_ns: int, size_bytes: int) -> str:
    """Hash a file; its time and size are there to key the cache."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
