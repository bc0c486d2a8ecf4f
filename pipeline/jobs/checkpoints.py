"""Checkpoints of a job's codecs: put into the vault before anything needs them, and looked for there afterwards.

With a checkpoint goes the file of directions for edits that lies beside it, if there is one.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.errors import CheckpointError
from framevault.codecs.hsc.directions import DIRECTIONS_OF, directions_path
from framevault.codecs.spec import CodecSpec, frames_spec
from framevault.configs.run import StoredStreamsJob
from framevault.storage.checkpoints import keep_checkpoint
from framevault.storage.directions import LARGEST_DIRECTIONS, keep_directions
from framevault.storage.store import Store
from framevault.workers.stored_specs import WeightsSources
from framevault.workers.weights import DIGEST


def keep_checkpoints(store: Store, specs: Iterable[CodecSpec]) -> None:
    """Put the checkpoints that some specs need into a vault, with their directions, as far as they are not there.

    Raises:
        CheckpointError: One can't be read, is no safetensors file, or another codec's; it is not put there.
        VaultError: One is too large.
        DamagedError: What lies in the place of one has another size.
        StoreUnavailableError: The vault can't be read or written.
    """
    for codec, path in sorted({needed for spec in specs for needed in _needed_by(spec)}):
        load_checkpoint(path, codec=codec)
        directions = directions_path(path) if codec == "hsc" else None
        generator = _generator_of(directions) if directions is not None and directions.exists() else None
        keep_checkpoint(store, path.read_bytes())
        if directions is not None and generator is not None:
            keep_directions(store, directions.read_bytes(), generator=generator)


def _generator_of(directions: Path) -> str:
    """Return the fingerprint of the generator that a file of directions says it belongs to.

    Whether it is the checkpoint's is for whoever edits: of another one, they are never found.

    Raises:
        CheckpointError: The file can't be read, is too large, no safetensors file, or no directions.
    """
    try:
        size_bytes = directions.stat().st_size
    except OSError as error:
        raise CheckpointError(f"directions can't be read: {directions}: {error.strerror}") from error
    if size_bytes > LARGEST_DIRECTIONS:
        raise CheckpointError(
            f"{directions} must have at most {LARGEST_DIRECTIONS} bytes, has {size_bytes}: no vault can keep it; "
            "move it away from the checkpoint"
        )
    _, config = load_checkpoint(directions, codec=DIRECTIONS_OF)
    generator = config.get("generator")
    if not isinstance(generator, str) or DIGEST.fullmatch(generator) is None:
        raise CheckpointError(f"{directions} must name its generator by 64 hex digits, got {generator!r:.80}")
    return generator


def _needed_by(spec: CodecSpec) -> list[tuple[str, Path]]:
    """Return the files of a spec's codecs, and whose they are; none for a codec without weights."""
    parts = [frames_spec(spec), *([] if spec.faces is None else [spec.faces])]
    return [(part.name, part.checkpoint_path) for part in parts if part.checkpoint_path is not None]


def weights_sources(job: StoredStreamsJob) -> WeightsSources:
    """Return where the checkpoints of a job's vault are looked for, whatever folder a worker runs in."""
    return WeightsSources(
        given=tuple(os.path.abspath(path) for path in job.weights),
        vault_url=job.vault,
        cache=None if job.checkpoint_cache is None else os.path.abspath(os.path.expanduser(job.checkpoint_cache)),
    )
