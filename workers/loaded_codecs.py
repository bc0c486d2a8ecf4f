"""Codecs of a worker: each is loaded when the first pack of its comes, and kept."""

import threading

from framevault.codecs.base import Codec
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec
from framevault.storage.packs import PackHeader
from framevault.workers.stored_specs import StoredSpecs, WeightsSources


class LoadedCodecs:
    """Finds and keeps the codecs of packs; thread-safe."""

    def __init__(self, *, device: str, weights: WeightsSources) -> None:
        """Load nothing yet.

        Args:
            device: Where codecs run.
            weights: Where their checkpoints are looked for, besides the shipped ones.
        """
        self._specs = StoredSpecs(weights, device=device)
        self._codecs: dict[CodecSpec, Codec] = {}
        self._loading = threading.Lock()

    def of(self, header: PackHeader) -> Codec:
        """Return the codec that made a pack.

        Raises:
            CodecError: Its weights are not here; names the segment.
            StoreError: Those that the vault has are damaged, or can't be read.
        """
        return self.load(self.spec_of(header))

    def spec_of(self, header: PackHeader) -> CodecSpec:
        """Return the spec of the codec that made a pack; loads nothing. Errors as of `of`."""
        return self._specs.of_pack(header)

    def load(self, spec: CodecSpec) -> Codec:
        """Return a codec, loaded once.

        Raises:
            CheckpointError: Its weights are missing or damaged.
        """
        with self._loading:
            codec = self._codecs.get(spec)
            if codec is None:
                codec = self._codecs[spec] = load_codec(spec)
            return codec
