"""A vault keeps the directions that lay beside its checkpoint of faces: edits go on when the files are lost."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.hsc.directions import (
    DIRECTIONS_OF,
    Direction,
    directions_path,
    generator_fingerprint,
    save_directions,
)
from framevault.codecs.spec import CodecSpec
from tests.codecs.hsc.toy import TOY_CONFIG, save_toy
from tests.media import make_pictures
from tests.pipeline.command_line import Ended, run_command

SHAPE = (TOY_CONFIG.num_styles, TOY_CONFIG.style)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint, and directions beside it."""
    path = save_toy(tmp_path / "own.safetensors")
    write_directions(path, "smile")
    return path


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "stills", [(64, 64)] * 2)


def write_directions(checkpoint: Path, *names: str) -> None:
    random = torch.Generator().manual_seed(len(names))
    items = [Direction(name=n, about=n, shift_ld=9 * torch.randn(SHAPE, generator=random)) for n in names]
    save_directions(directions_path(checkpoint), items, generator=generator_fingerprint(checkpoint))


def compress(stills: Path, vault: Path, weights: Path, *options: str) -> Ended:
    ended = run_command("compress", stills, vault, "--codec", "hsc", "--weights", weights, *options)
    assert ended.code == 0, ended.stderr
    return ended


def kept(vault: Path) -> list[Path]:
    return sorted(vault.glob("directions/*/*"))


def lose(weights: Path) -> None:
    weights.unlink()
    directions_path(weights).unlink()


def restore(vault: Path, out: Path, edit: str, *options: str | Path) -> Ended:
    cache = ("--checkpoint-cache", vault.parent / "cache")
    return run_command("restore", vault, out, "--edit", edit, *cache, *options)


def pictures_in(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.rglob("*.png")}


def test_edits_go_on_when_checkpoint_and_directions_are_lost(stills: Path, weights: Path, tmp_path: Path) -> None:
    compress(stills, tmp_path / "vault", weights)
    payload = directions_path(weights).read_bytes()
    before = restore(tmp_path / "vault", tmp_path / "before", "smile=2", "--weights", weights)
    generator = generator_fingerprint(weights)
    lose(weights)

    after = restore(tmp_path / "vault", tmp_path / "after", "smile=2")
    plain = restore(tmp_path / "vault", tmp_path / "plain", "smile=0")
    verified = run_command("verify", tmp_path / "vault")

    assert (before.code, after.code, plain.code) == (0, 0, 0), after.stderr
    (path,) = kept(tmp_path / "vault")
    assert (path.parent.name, path.name[:5], path.read_bytes()) == (generator, "0000-", payload)
    assert pictures_in(tmp_path / "after") == pictures_in(tmp_path / "before") != pictures_in(tmp_path / "plain")
    assert (verified.code, ", 1 checkpoints, 1 sets of directions" in verified.stdout) == (0, True), verified.stdout
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".safetensors"}
    assert run_command("vacuum", tmp_path / "vault", "--grace-days", "0").stdout.startswith("0 objects")
    assert len(kept(tmp_path / "vault")) == 1


def test_the_shipped_ones_are_kept_with_the_shipped_checkpoint_of_faces(stills: Path, tmp_path: Path) -> None:
    shipped = CodecSpec(name="hsc").checkpoint_path
    assert shipped is not None
    for codec in ("hsc", "dicm+hsc", "dicm"):
        assert run_command("compress", stills, tmp_path / codec, "--codec", codec).code == 0

    for codec in ("hsc", "dicm+hsc"):
        assert [path.read_bytes() for path in kept(tmp_path / codec)] == [directions_path(shipped).read_bytes()]
    assert kept(tmp_path / "dicm") == []


def test_what_is_found_later_counts_from_then_on(stills: Path, weights: Path, tmp_path: Path) -> None:
    compress(stills, tmp_path / "vault", weights)
    write_directions(weights, "smile", "age")
    compress(stills, tmp_path / "vault", weights)
    compress(stills, tmp_path / "vault", weights, "--quality", "2")
    lose(weights)

    known = restore(tmp_path / "vault", tmp_path / "out", "age=1")
    unknown = restore(tmp_path / "vault", tmp_path / "out", "beard=1")

    assert [path.name[:5] for path in kept(tmp_path / "vault")] == ["0000-", "0001-"]
    assert known.code == 0, known.stderr
    assert unknown.code == 2
    assert "edit 'beard' is unknown" in unknown.stderr
    assert "has age, smile" in unknown.stderr


def test_an_old_vault_gets_them_by_thinning_and_reads_without(stills: Path, weights: Path, tmp_path: Path) -> None:
    compress(stills, tmp_path / "vault", weights)
    shutil.rmtree(tmp_path / "vault" / "directions")
    plain = run_command("restore", tmp_path / "vault", tmp_path / "plain", "--weights", weights)

    ended = run_command("thin", tmp_path / "vault", "--slices", "1", "--weights", weights)
    lose(weights)

    assert (plain.code, ended.code) == (0, 0), ended.stderr
    assert len(kept(tmp_path / "vault")) == 1
    assert restore(tmp_path / "vault", tmp_path / "out", "smile=1").code == 0


def test_a_file_that_is_named_wins_over_the_vaults(stills: Path, weights: Path, tmp_path: Path) -> None:
    compress(stills, tmp_path / "vault", weights)
    own = tmp_path / "mine.safetensors"
    write_directions(weights, "smile", "beard")
    directions_path(weights).rename(own)

    ended = restore(tmp_path / "vault", tmp_path / "out", "beard=1", "--directions", own)

    assert ended.code == 0, ended.stderr
    assert restore(tmp_path / "vault", tmp_path / "other", "beard=1").code == 2


def test_damaged_ones_end_the_command_with_what_came(stills: Path, weights: Path, tmp_path: Path) -> None:
    compress(stills, tmp_path / "vault", weights)
    lose(weights)
    (path,) = kept(tmp_path / "vault")
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    ended = restore(tmp_path / "vault", tmp_path / "out", "smile=1")
    verified = run_command("verify", tmp_path / "vault")

    assert ended.code == 1
    assert f"{path.name} must have SHA-256 {path.name[5:69]}, has " in ended.stderr
    assert verified.code == 1
    assert f"{path.name} must have SHA-256" in verified.stdout


def test_sound_bytes_that_are_no_directions_are_refused_in_words(stills: Path, weights: Path, tmp_path: Path) -> None:
    """The vault comes from whoever wrote it."""
    compress(stills, tmp_path / "vault", weights)
    (path,) = kept(tmp_path / "vault")
    save_checkpoint(path, {"smile": torch.full(SHAPE, float("nan"))}, codec=DIRECTIONS_OF, config={})
    path.rename(path.with_name(f"0001-{sha256(path.read_bytes()).hexdigest()}.safetensors"))
    lose(weights)

    ended = restore(tmp_path / "vault", tmp_path / "out", "smile=1")

    assert ended.code == 2
    assert "has directions of generator None" in ended.stderr
    assert (
        run_command("restore", tmp_path / "vault", tmp_path / "plain", "--checkpoint-cache", tmp_path / "cache").code
        == 0
    )


@pytest.mark.parametrize("kind", ["pickle", "empty", "checkpoint", "nameless", "large"])
def test_what_is_no_file_of_directions_is_never_kept(
    stills: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    beside = directions_path(weights)
    match kind:
        case "pickle" | "empty":
            beside.write_bytes(b"\x80\x04\x95 a pickle" if kind == "pickle" else b"")
            message = "can't be read as a safetensors checkpoint"
        case "checkpoint":
            shutil.copy(weights, beside)
            message = "must be a checkpoint of codec 'hsc directions', got 'hsc'"
        case "nameless":
            save_checkpoint(beside, {"smile": torch.zeros(SHAPE)}, codec=DIRECTIONS_OF, config={"generator": "../x"})
            message = "must name its generator by 64 hex digits, got '../x'"
        case _:
            monkeypatch.setattr("framevault.pipeline.jobs.checkpoints.LARGEST_DIRECTIONS", 10)
            message = f"must have at most 10 bytes, has {beside.stat().st_size}"

    ended = run_command("compress", stills, tmp_path / "vault", "--codec", "hsc", "--weights", weights)

    assert ended.code == 2
    assert message in ended.stderr
    assert beside.name in ended.stderr
    assert kept(tmp_path / "vault") == list((tmp_path / "vault").glob("packs/*/*")) == []
