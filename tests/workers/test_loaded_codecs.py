"""A worker finds the codecs of packs by itself, with nothing but the vault: as on another machine of a cluster."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from framevault.codecs.spec import CodecSpec
from framevault.storage.checkpoints import keep_checkpoint, read_checkpoint
from framevault.storage.store import Store, open_store
from framevault.workers import checkpoint_cache
from framevault.workers.loaded_codecs import LoadedCodecs
from framevault.workers.stored_specs import WeightsSources
from tests.codecs.hsc.toy import save_toy
from tests.face_vaults import faces_header


def test_threads_of_a_worker_fetch_a_checkpoint_once_and_load_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_toy(tmp_path / "toy.safetensors")
    header = faces_header(CodecSpec(name="hsc", weights=str(path)), height=32, width=32)
    store = open_store(str(tmp_path / "vault"))
    keep_checkpoint(store, path.read_bytes())
    path.unlink()
    fetched: list[str] = []

    def read(store: Store, digest: str) -> bytes:
        fetched.append(digest)
        return read_checkpoint(store, digest)

    monkeypatch.setattr(checkpoint_cache, "read_checkpoint", read)
    sources = WeightsSources(vault_url=store.url, cache=str(tmp_path / "cache"))
    codecs = LoadedCodecs(device="cpu", weights=pickle.loads(pickle.dumps(sources)))

    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(codecs.of, [header] * 4))

    assert fetched == [header.weights_digest]
    assert all(codec is loaded[0] for codec in loaded)
    assert loaded[0].spec.weights == str(tmp_path / "cache" / f"{header.weights_digest}.safetensors")
