"""What made a stream is found with a checkpoint of the vault's own: fetched when needed, checked, once a machine."""

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from framevault.codecs.errors import CodecError
from framevault.codecs.spec import CodecSpec, codec_fingerprint, thinned, weights_digest
from framevault.storage.checkpoints import checkpoint_key, keep_checkpoint
from framevault.storage.errors import ChecksumError
from framevault.storage.index import VideoManifest
from framevault.storage.packs import PackHeader
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.workers.stored_specs import StoredSpecs, WeightsSources
from tests.face_vaults import faces_header, store_streams

STREAM = b"no stream"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_vault(str(tmp_path / "vault"), create=True)


@pytest.fixture
def sources(store: Store, tmp_path: Path) -> WeightsSources:
    return WeightsSources(vault_url=store.url, cache=str(tmp_path / "cache"))


def own(path: Path, payload: bytes = b"a codec's") -> Path:
    """Write a file that is no checkpoint; who looks for a spec reads no tensor."""
    path.write_bytes(payload)
    return path


def cached(sources: WeightsSources, path: Path) -> str:
    return f"{sources.cache}/{hashlib.sha256(path.read_bytes()).hexdigest()}.safetensors"


def header_of(spec: CodecSpec) -> PackHeader:
    return faces_header(spec, height=64, width=64)


def lose(path: Path, store: Store) -> None:
    """Move a checkpoint into the vault."""
    keep_checkpoint(store, path.read_bytes())
    path.unlink()


@pytest.mark.parametrize("slices", [None, 2])
def test_a_checkpoint_that_only_the_vault_has_is_fetched(
    store: Store, sources: WeightsSources, tmp_path: Path, slices: int | None
) -> None:
    path = own(tmp_path / "own.safetensors")
    whole = CodecSpec(name="dicm", quality=3, weights=str(path))
    spec = whole if slices is None else thinned(whole, slices=slices)
    header, manifest = (
        header_of(spec),
        replace(store_streams(store, spec, [STREAM], height=64, width=64), slices=slices),
    )
    expected = replace(spec, weights=cached(sources, path))
    lose(path, store)

    assert StoredSpecs(sources).of_pack(header) == expected
    assert StoredSpecs(sources).of_video(manifest) == expected
    assert StoredSpecs(pickle.loads(pickle.dumps(sources)), device="cuda").of_pack(header).device == "cuda"


def test_of_two_only_the_one_that_is_needed_is_fetched(store: Store, sources: WeightsSources, tmp_path: Path) -> None:
    """The frames' is shipped, the faces' is not; a third one lies there for nothing."""
    path = own(tmp_path / "faces.safetensors")
    faces = CodecSpec(name="hsc", quality=7, weights=str(path))
    manifest = store_streams(store, CodecSpec(name="dicm+hsc", faces=faces), [STREAM], height=64, width=64)
    place = cached(sources, path)
    lose(path, store)
    keep_checkpoint(store, b"another")

    found = StoredSpecs(sources).of_video(manifest)

    assert found == CodecSpec(name="dicm+hsc", faces=replace(faces, weights=place))
    assert [str(each) for each in (tmp_path / "cache").iterdir()] == [place]


def test_shipped_and_given_ones_come_first(store: Store, sources: WeightsSources, tmp_path: Path) -> None:
    path = own(tmp_path / "own.safetensors")
    shipped, given = CodecSpec(name="dicm"), CodecSpec(name="dicm", weights=str(path))
    keep_checkpoint(store, path.read_bytes())
    specs = StoredSpecs(replace(sources, given=(str(path),)))

    assert [specs.of_pack(header_of(spec)) for spec in (shipped, given)] == [shipped, given]
    assert not (tmp_path / "cache").exists()


def test_codecs_without_weights_need_none(sources: WeightsSources) -> None:
    assert StoredSpecs(sources).of_pack(header_of(CodecSpec(name="raw"))) == CodecSpec(name="raw")


@pytest.mark.parametrize("look", ["pack", "video"])
def test_a_damaged_one_is_named_and_never_cached(
    store: Store, sources: WeightsSources, tmp_path: Path, look: str
) -> None:
    path = own(tmp_path / "own.safetensors")
    spec = CodecSpec(name="dicm", weights=str(path))
    manifest, key = store_streams(store, spec, [STREAM], height=64, width=64), checkpoint_key(weights_digest(spec))
    header = header_of(spec)
    path.unlink()
    store.create(key, b"something else")

    problem = f"{key} must have SHA-256 {key[12:76]}, has {hashlib.sha256(b'something else').hexdigest()}"
    with pytest.raises(ChecksumError, match=problem):
        _look(StoredSpecs(sources), look, header, manifest)()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("look", ["pack", "video"])
def test_one_that_is_nowhere_is_named(store: Store, sources: WeightsSources, tmp_path: Path, look: str) -> None:
    """As in vaults from before checkpoints were kept."""
    path = own(tmp_path / "own.safetensors")
    spec = CodecSpec(name="dicm", weights=str(path))
    header, manifest = header_of(spec), store_streams(store, spec, [STREAM], height=64, width=64)
    key = checkpoint_key(weights_digest(spec))
    path.unlink()

    with pytest.raises(CodecError, match=f"name the checkpoint .*--weights.*; {store.url} has no {key}"):
        _look(StoredSpecs(sources), look, header, manifest)()
    with pytest.raises(CodecError, match=r"wrote it$"):
        _look(StoredSpecs(WeightsSources()), look, header, manifest)()


def test_a_video_whose_packs_tell_nothing_is_refused_as_without_a_vault(
    store: Store, sources: WeightsSources, tmp_path: Path
) -> None:
    path = own(tmp_path / "own.safetensors")
    manifest = store_streams(store, CodecSpec(name="dicm", weights=str(path)), [STREAM], height=64, width=64)
    lose(path, store)
    (pack,) = (tmp_path / "vault").rglob("*.fvp")
    pack.write_bytes(b"junk")

    with pytest.raises(CodecError, match="name the checkpoint that it was encoded with"):
        StoredSpecs(sources).of_video(manifest)


@pytest.mark.parametrize("faces", [None, [], {}, {"weights": "../../x"}, {"weights": "0" * 63}])
def test_a_header_that_names_no_digest_is_refused(store: Store, sources: WeightsSources, faces: object) -> None:
    header = header_of(CodecSpec(name="dicm+hsc"))
    settings = {"faces": faces} if faces is not None else {}

    with pytest.raises(CodecError, match=f"segment {header.segment_id}: faces in the settings must name weights"):
        StoredSpecs(sources).of_pack(replace(header, settings=settings))  # type: ignore[arg-type]  # what is tested


def test_a_digest_of_another_codec_helps_nobody(store: Store, sources: WeightsSources, tmp_path: Path) -> None:
    """A hostile header: the checkpoint is there and whole, but not what the fingerprint was made with."""
    keep_checkpoint(store, b"another")
    header = replace(header_of(CodecSpec(name="dicm")), weights_digest=hashlib.sha256(b"another").hexdigest())
    header = replace(header, codec_fingerprint="0" * 64)

    with pytest.raises(CodecError, match="fingerprint 0000"):
        StoredSpecs(sources).of_pack(header)


def test_the_fingerprint_knows_nothing_of_where_a_checkpoint_lies(
    store: Store, sources: WeightsSources, tmp_path: Path
) -> None:
    path = own(tmp_path / "own.safetensors")
    spec = CodecSpec(name="dicm", weights=str(path))
    before, header = codec_fingerprint(spec), header_of(spec)
    lose(path, store)

    assert codec_fingerprint(StoredSpecs(sources).of_pack(header)) == before


def _look(specs: StoredSpecs, look: str, header: PackHeader, manifest: VideoManifest) -> Callable[[], CodecSpec]:
    return (lambda: specs.of_pack(header)) if look == "pack" else (lambda: specs.of_video(manifest))
