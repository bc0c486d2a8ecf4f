"""Finding, fetching, checking and reading weight files."""

import dataclasses
import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from framevault.codecs.dicm.backbones import files
from framevault.codecs.dicm.backbones.checkpoints import KNOWN_FILES
from framevault.codecs.dicm.backbones.files import fetch_weights, find_weights, hub_path, obtain_weights, read_tensors
from framevault.codecs.errors import CheckpointError

CONTENT = b"weights"


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A known file with our own content, an empty hub cache, and a server that is a folder: no network."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    row = dataclasses.replace(
        KNOWN_FILES["resnet50_v1"], file_name=f"toy-{sha256[:8]}.pth", sha256_prefix=sha256[:8], package=None
    )
    monkeypatch.setitem(KNOWN_FILES, "toy", row)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(files, "download_url", lambda file: (tmp_path / "server" / file.file_name).as_uri())
    (tmp_path / "server").mkdir()
    return "toy"


def serve(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "server" / KNOWN_FILES["toy"].file_name).write_bytes(content)


def test_a_file_in_the_hub_cache_is_found(name: str) -> None:
    place = hub_path(KNOWN_FILES[name])
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)

    assert find_weights(name) == place
    assert obtain_weights(name) == place


def test_a_file_that_is_nowhere_is_none(name: str) -> None:
    assert find_weights(name) is None


def test_a_damaged_file_in_the_hub_cache_is_refused(name: str) -> None:
    place = hub_path(KNOWN_FILES[name])
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT[:-1])

    with pytest.raises(CheckpointError, match=r"toy-\w+\.pth must have a SHA256 that begins with \w{8}, theirs is"):
        obtain_weights(name)


def test_a_fetched_file_lies_in_the_hub_cache(name: str, tmp_path: Path) -> None:
    serve(tmp_path, CONTENT)

    place = obtain_weights(name)

    assert place == hub_path(KNOWN_FILES[name])
    assert place.read_bytes() == CONTENT
    assert list(place.parent.iterdir()) == [place]


def test_a_download_with_another_checksum_is_not_kept(name: str, tmp_path: Path) -> None:
    serve(tmp_path, b"an error page")

    with pytest.raises(CheckpointError, match=r"must give bytes whose SHA-256 begins with \w{8}, gave"):
        fetch_weights(name)

    assert list(hub_path(KNOWN_FILES[name]).parent.iterdir()) == []


def test_without_a_network_the_message_says_what_to_do(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"not be downloaded from file://.*; put toy-\w+\.pth .* into .*hub"):
        obtain_weights(name)


def test_what_has_no_address_is_to_be_fetched_by_hand() -> None:
    with pytest.raises(CheckpointError, match=r"'moco_v2' can't be downloaded.*put moco_v2_800ep_pretrain"):
        fetch_weights("moco_v2")


def test_mocos_file_is_checked_against_its_md5(tmp_path: Path) -> None:
    path = tmp_path / KNOWN_FILES["moco_v2"].file_name
    path.write_bytes(b"something else")

    with pytest.raises(CheckpointError, match="must have a MD5 that begins with a04e12f8"):
        find_weights("moco_v2", path=path)


def test_a_file_of_ones_own_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    own = tmp_path / "fine_tuned.pth"
    own.write_bytes(b"anything")

    assert find_weights(name, path=own) == own


def test_a_file_that_bears_the_known_name_must_be_it(name: str, tmp_path: Path) -> None:
    own = tmp_path / KNOWN_FILES[name].file_name
    own.write_bytes(b"anything")

    with pytest.raises(CheckpointError, match="must have a SHA256"):
        find_weights(name, path=own)


def test_a_path_without_a_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no file .*nowhere\.pth"):
        find_weights(name, path=tmp_path / "nowhere.pth")


def test_a_package_that_brings_the_file_is_found(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "packages" / "brings_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "toy.pth").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setitem(KNOWN_FILES, name, dataclasses.replace(KNOWN_FILES[name], package="brings_weights:toy.pth"))

    assert find_weights(name) == package / "toy.pth"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_tensors_are_read_from_either_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.long)}
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)

    read = read_tensors(path)

    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_tensors_are_read_from_where_training_scripts_put_them(tmp_path: Path, key: str) -> None:
    torch.save({"epoch": 3, key: {"a": torch.zeros(1)}}, tmp_path / "weights.pth")

    assert list(read_tensors(tmp_path / "weights.pth")) == ["a"]


class Evil:
    """What a pickle can do: run anything."""

    def __reduce__(self) -> tuple[object, ...]:
        return (eval, ("1/0",))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": Evil()}, tmp_path / "evil.pth")

    with pytest.raises(CheckpointError, match=r"evil\.pth can't be read"):
        read_tensors(tmp_path / "evil.pth")


@pytest.mark.parametrize(
    "content", [b"", b"no weights", pickle.dumps({"a": 1}, protocol=2)[:-3], b"\x80\x02s.", b"\x80\x02h\x07."]
)
def test_a_file_that_holds_no_weights_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"x\.pth can't be read"):
        read_tensors(tmp_path / "x.pth")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:-500])

    with pytest.raises(CheckpointError, match=r"x\.pth can't be read"):
        read_tensors(tmp_path / "x.pth")


def test_other_things_than_tensors_are_named(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1), "note": "hello"}, tmp_path / "x.pth")

    with pytest.raises(CheckpointError, match="must hold tensors only, these are none: note"):
        read_tensors(tmp_path / "x.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_named(tmp_path: Path, value: float) -> None:
    torch.save({"good": torch.zeros(1), "bad": torch.tensor([0, value])}, tmp_path / "x.pth")

    with pytest.raises(CheckpointError, match=r"x\.pth hold values that are no finite numbers, in bad$"):
        read_tensors(tmp_path / "x.pth")
