"""A vault keeps the checkpoints that it was written with: who loses his own file still reads it with every command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.spec import CodecSpec, weights_digest
from framevault.storage.checkpoints import checkpoint_key
from framevault.storage.store import ObjectRef, Store
from tests.codecs.hsc.toy import save_toy
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import run_command
from tests.workers.classifier_weights import write_classifier

DETECT = ("detect", "--detector", "mobilenet_v2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, and vaults `dicm` and `hsc` of it whose checkpoints are in `weights`; don't change them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    clip = make_video(folder / "clip.mp4", VideoSpec(width=96, height=80, num_frames=6, gop=3))
    (folder / "weights").mkdir()
    save_own_dicm(folder / "weights" / "dicm.safetensors")
    save_toy(folder / "weights" / "hsc.safetensors")
    for codec in ("dicm", "hsc"):
        ended = run_command("compress", clip, folder / codec, *options(folder, codec))
        assert ended.code == 0, ended.stderr
    return folder


@pytest.fixture
def lost(folder: Path) -> Iterator[None]:
    """The files that were named with `--weights` are gone."""
    (folder / "weights").rename(folder / "elsewhere")
    yield
    (folder / "elsewhere").rename(folder / "weights")


def save_own_dicm(path: Path) -> Path:
    """Write a checkpoint that is not the shipped one, with the same head."""
    shipped = CodecSpec(name="dicm").checkpoint_path
    assert shipped is not None
    tensors, config = load_checkpoint(shipped, codec="dicm")
    name = "networks.log_gain"
    save_checkpoint(path, {**tensors, name: tensors[name] * 1.01}, codec="dicm", config=config)
    return path


def options(folder: Path, codec: str) -> tuple[str | Path, ...]:
    weights = folder / "weights" / f"{codec}.safetensors"
    return "--codec", codec, "--weights", weights, "--segment-frames", "3", "--workers", "1"


def key_of(path: Path, codec: str) -> str:
    return checkpoint_key(weights_digest(CodecSpec(name=codec, weights=str(path))))


def kept(vault: Path) -> set[str]:
    return {path.relative_to(vault).as_posix() for path in vault.glob("checkpoints/*")}


def copy_of(folder: Path, codec: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder / codec, tmp_path / "vault"))


@pytest.mark.parametrize("codec", ["dicm", "hsc"])
def test_the_checkpoint_is_kept_once_and_checked_by_verify(folder: Path, tmp_path: Path, codec: str) -> None:
    vault = copy_of(folder, codec, tmp_path)
    path = folder / "weights" / f"{codec}.safetensors"

    again = run_command("compress", folder / "clip.mp4", vault, *options(folder, codec), "--quality", "2")
    ended = run_command("verify", vault)

    assert again.code == 0, again.stderr
    assert kept(vault) == {key_of(path, codec)}
    assert (vault / key_of(path, codec)).read_bytes() == path.read_bytes()
    assert (ended.code, ended.stdout.count("\n")) == (0, 1), ended.stdout
    assert ", 1 checkpoints" in ended.stdout
    assert run_command("vacuum", vault, "--grace-days", "0").stdout.startswith("0 objects")
    assert run_command("info", vault).code == 0


@pytest.mark.parametrize(
    ("codec", "command"),
    [
        ("dicm", (*DETECT, "VAULT")),
        ("hsc", (*DETECT, "VAULT")),
        ("dicm", ("classify", "VAULT", "--classifier-weights", "own.pth")),
        ("dicm", ("similar", "VAULT", "--image", "grey.png", "--classifier-weights", "own.pth")),
        ("hsc", ("similar", "VAULT", "--face", "--image", "grey.png")),
        ("hsc", ("restore", "VAULT", "out")),
        ("dicm", ("thin", "VAULT", "--slices", "1")),
        ("hsc", ("thin", "VAULT", "--slices", "1")),
    ],
)
def test_every_command_reads_a_vault_whose_weights_are_lost(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: None, codec: str, command: tuple[str, ...]
) -> None:
    vault, cache = copy_of(folder, codec, tmp_path), tmp_path / "cache"
    write_classifier(tmp_path / "own.pth")
    Image.new("RGB", (64, 64), (90, 90, 90)).save(tmp_path / "grey.png")
    monkeypatch.chdir(tmp_path)

    ended = run_command(*(str(vault) if word == "VAULT" else word for word in command), "--checkpoint-cache", cache)

    assert ended.code == 0, ended.stderr
    assert {f"checkpoints/{path.name}" for path in cache.iterdir()} == kept(vault)
    assert run_command("verify", vault).code == 0


def test_what_is_found_is_what_ones_own_file_finds(folder: Path, tmp_path: Path) -> None:
    summaries = []
    for name, more in (("mine", ("--weights", str(folder / "weights" / "dicm.safetensors"))), ("vaults", ())):
        vault = copy_of(folder, "dicm", tmp_path / name)
        ended = run_command(*DETECT, vault, "--score", "0.05", "--json", *more)
        assert ended.code == 0, ended.stderr
        summaries.append((json.loads(ended.stdout.splitlines()[-1]), {path.name for path in vault.rglob("*.parquet")}))

    assert summaries[0] == summaries[1]


def test_a_damaged_one_ends_the_command_with_what_came(folder: Path, tmp_path: Path, lost: None) -> None:
    vault = copy_of(folder, "dicm", tmp_path)
    (key,) = kept(vault)
    data = bytearray((vault / key).read_bytes())
    data[-1] ^= 1
    (vault / key).write_bytes(data)

    ended = run_command(*DETECT, vault, "--checkpoint-cache", tmp_path / "cache")
    verified = run_command("verify", vault)

    assert ended.code == 1
    assert f"{key} must have SHA-256 {key[12:76]}, has " in ended.stderr
    assert verified.code == 1
    assert f"damaged: {vault}: {key} must have SHA-256" in verified.stdout


def test_a_vault_from_before_is_refused_reads_with_weights_and_gets_them_by_compressing(
    folder: Path, tmp_path: Path
) -> None:
    vault = copy_of(folder, "dicm", tmp_path)
    (key,) = kept(vault)
    shutil.rmtree(vault / "checkpoints")
    looking = (*DETECT, vault, "--checkpoint-cache", tmp_path / "cache")

    refused = run_command(*looking)
    taken = run_command(*looking, "--weights", folder / "weights" / "dicm.safetensors")

    assert refused.code == 2
    assert f"(--weights), or install the framevault version that wrote it; {vault} has no {key}" in refused.stderr
    assert taken.code == 0, taken.stderr
    assert run_command("verify", vault).code == 0
    assert kept(vault) == set()
    assert run_command("compress", folder / "clip.mp4", vault, *options(folder, "dicm")).code == 0
    assert kept(vault) == {key}


def test_thinning_keeps_what_the_thinned_streams_need(folder: Path, tmp_path: Path) -> None:
    vault = copy_of(folder, "dicm", tmp_path)
    before = kept(vault)
    shutil.rmtree(vault / "checkpoints")

    ended = run_command("thin", vault, "--slices", "1", "--weights", folder / "weights" / "dicm.safetensors")

    assert ended.code == 0, ended.stderr
    assert kept(vault) == before


def test_it_is_there_before_the_first_pack(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create, keys = Store.create, list[str]()

    def noting(store: Store, key: str, payload: bytes) -> ObjectRef:
        keys.append(key.partition("/")[0])
        return create(store, key, payload)

    monkeypatch.setattr(Store, "create", noting)

    assert run_command("compress", folder / "clip.mp4", tmp_path / "vault", *options(folder, "dicm")).code == 0
    assert keys[:2] == ["vault.json", "checkpoints"]
    assert keys.index("checkpoints") < keys.index("packs")
    assert keys.count("checkpoints") == 1


def test_of_two_codecs_both_are_kept_and_of_none_none(folder: Path, tmp_path: Path) -> None:
    faces = folder / "weights" / "hsc.safetensors"
    shipped = CodecSpec(name="dicm").checkpoint_path or Path()

    both = run_command(
        "compress", folder / "clip.mp4", tmp_path / "both", "--codec", "dicm+hsc", "--face-weights", faces
    )
    none = run_command("compress", folder / "clip.mp4", tmp_path / "none", "--codec", "raw")

    assert (both.code, none.code) == (0, 0), both.stderr
    assert kept(tmp_path / "both") == {key_of(faces, "hsc"), key_of(shipped, "dicm")}
    assert kept(tmp_path / "none") == set()


@pytest.mark.parametrize("content", [b"\x80\x04\x95 a pickle", b"", b"\x05\0\0\0\0\0\0\0[[[[["])
def test_what_is_no_checkpoint_of_the_codec_is_never_kept(folder: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own.safetensors").write_bytes(content)
    for weights in (tmp_path / "own.safetensors", folder / "weights" / "dicm.safetensors"):
        ended = run_command("compress", folder / "clip.mp4", tmp_path / "vault", "--codec", "hsc", "--weights", weights)

        assert ended.code == 2
        assert weights.name in ended.stderr
        assert kept(tmp_path / "vault") == set()


@pytest.mark.ray
@pytest.mark.slow
def test_workers_of_a_cluster_fetch_it_for_themselves(
    ray_cluster: None, folder: Path, tmp_path: Path, lost: None
) -> None:
    vault, cache = copy_of(folder, "hsc", tmp_path), tmp_path / "cache"

    ended = run_command(
        "restore", vault, tmp_path / "out", "--executor", "ray", "--device", "cpu", "--workers", "2",
        "--checkpoint-cache", cache,
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    assert len(list((tmp_path / "out").rglob("*.png"))) == 6
    assert {f"checkpoints/{path.name}" for path in cache.iterdir()} == kept(vault)
