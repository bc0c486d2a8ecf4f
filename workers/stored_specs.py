"""What made stored streams, with checkpoints that only the vault itself has fetched from there.

A checkpoint is looked for among those that framevault ships, then those that a user names, then in the vault. Every
process does so for itself: on a cluster, each machine fetches what its segments need from the vault's own store, so
nothing has to lie under the same path everywhere.
"""

import contextlib
import threading
from dataclasses import dataclass

from framevault.codecs.errors import CodecError
from framevault.codecs.spec import CodecSpec
from framevault.storage.checkpoints import checkpoint_key
from framevault.storage.errors import DamagedError, NotFoundError, PackError
from framevault.storage.index import VideoManifest
from framevault.storage.pack_ranges import read_pack_table
from framevault.storage.packs import PackHeader
from framevault.storage.store import open_store
from framevault.workers.checkpoint_cache import fetch_checkpoint
from framevault.workers.weights import find_pack_spec, find_video_spec, lacking_checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSources:
    """Where checkpoints are looked for after the shipped ones; it pickles."""

    given: tuple[str, ...] = ()
    """Paths of those that a user names, the same on every machine."""
    vault_url: str | None = None
    """The vault whose own come last; None takes none from there."""
    cache: str | None = None
    """Folder for those fetched, on each machine; None for the usual one."""


ONLY_SHIPPED = WeightsSources()
"""Looks no further."""


class StoredSpecs:
    """Finds the specs of packs and videos; thread-safe. A checkpoint is fetched when something needs it, once."""

    def __init__(self, sources: WeightsSources, *, device: str = "cpu") -> None:
        """Look at nothing yet.

        Args:
            sources: Where checkpoints are looked for.
            device: Where the codecs shall run.
        """
        self._store = None if sources.vault_url is None else open_store(sources.vault_url)
        self._cache = sources.cache
        self._weights = sources.given
        self._device = device
        self._fetching = threading.Lock()

    def of_pack(self, header: PackHeader) -> CodecSpec:
        """Return the spec that a pack's header describes.

        Raises:
            CodecError: Its checkpoint is nowhere, or a file can't be read or written; names the segment.
            DamagedError: The vault's checkpoint is not what its key says.
            StoreUnavailableError: The vault can't be read.
        """
        hint = self._fetch_for(header)
        return find_pack_spec(header, weights=self._weights, device=self._device, hint=hint)

    def of_video(self, manifest: VideoManifest) -> CodecSpec:
        """Return the spec that a video's manifest describes; errors as of `of_pack`, but for the segment.

        Which checkpoint it is, a manifest does not say: if none that is here fits, the header of one of its packs is
        read, which does.
        """
        try:
            return find_video_spec(manifest, weights=self._weights, device=self._device)
        except CodecError:
            header = self._header_of(manifest)
            if header is None:
                raise
        hint = self._fetch_for(header)
        return find_video_spec(manifest, weights=self._weights, device=self._device, hint=hint)

    def _header_of(self, manifest: VideoManifest) -> PackHeader | None:
        """Return the header of a video's first pack that has a sound one: which those are is not decided here."""
        if self._store is None:
            return None
        for record in manifest.segments:
            with contextlib.suppress(PackError, DamagedError, NotFoundError):
                return read_pack_table(self._store, record.pack.key, size_bytes=record.pack.size_bytes).header
        return None

    def _fetch_for(self, header: PackHeader) -> str:
        """Fetch what a pack needs and is not here; return what is to be said of what the vault lacks."""
        if self._store is None:
            return ""
        absent: list[str] = []
        with self._fetching:
            for digest in lacking_checkpoints(header, weights=self._weights):
                try:
                    path = fetch_checkpoint(self._store, digest, folder=self._cache)
                except NotFoundError:
                    absent.append(checkpoint_key(digest))
                else:
                    self._weights += (str(path),)
        return f"; {self._store.url} has no {' and no '.join(absent)}" if absent else ""
