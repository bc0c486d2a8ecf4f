"""Checkpoints of a job's codecs: put into the vault before anything needs them, and looked for there afterwards."""

import os
from collections.abc import Iterable
from pathlib import Path

from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.spec import CodecSpec, frames_spec
from framevault.configs.run import StoredStreamsJob
from framevault.storage.checkpoints import keep_checkpoint
from framevault.storage.store import Store
from framevault.workers.stored_specs import WeightsSources


def keep_checkpoints(store: Store, specs: Iterable[CodecSpec]) -> None:
    """Put the checkpoints that some specs need into a vault, as far as they are not there.

    Raises:
        CheckpointError: One can't be read, is no safetensors file, or another codec's; it is not put there.
        VaultError: One is too large.
        DamagedError: What lies in a checkpoint's place has another size.
        StoreUnavailableError: The vault can't be read or written.
    """
    for codec, path in sorted({needed for spec in specs for needed in _needed_by(spec)}):
        load_checkpoint(path, codec=codec)
        keep_checkpoint(store, path.read_bytes())


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
