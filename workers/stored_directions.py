"""Directions of the faces in a vault: a named file's, those beside the checkpoint, or those that the vault keeps."""

from pathlib import Path

from framevault.codecs.errors import CheckpointError
from framevault.codecs.hsc.directions import Directions, directions_path, generator_fingerprint, load_directions
from framevault.storage.store import open_store
from framevault.workers.checkpoint_cache import fetch_directions
from framevault.workers.stored_specs import WeightsSources


def directions_of(checkpoint: Path, *, given: str | None, sources: WeightsSources) -> Directions:
    """Return the directions of a checkpoint's generator.

    Args:
        checkpoint: Of codec hsc.
        given: Path of their file; None looks beside the checkpoint, then in the vault.
        sources: Say which vault that is, and where what is fetched from there lies.

    Raises:
        CheckpointError: There are none, or they can't be read, or are another generator's.
        DamagedError: The vault's own are not what their key says.
        StoreUnavailableError: The vault can't be read.
    """
    generator = generator_fingerprint(checkpoint)
    beside = directions_path(checkpoint)
    if given is not None:
        return load_directions(Path(given), generator=generator)
    if beside.exists() or sources.vault_url is None:
        return load_directions(beside, generator=generator)
    store = open_store(sources.vault_url)
    fetched = fetch_directions(store, generator, folder=sources.cache)
    if fetched is None:
        raise CheckpointError(
            f"there are no directions for edits: {beside} is not there, and {store.url} keeps none of generator "
            f"{generator[:16]}: name a file with --directions, or find some with framevault train directions"
        )
    return load_directions(fetched, generator=generator)
