"""Files of directions: what is written is read, and what does not fit is refused."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.errors import CheckpointError, CodecError
from framevault.codecs.hsc.directions import (
    DIRECTIONS_OF,
    Direction,
    directions_path,
    generator_fingerprint,
    load_directions,
    save_directions,
)
from tests.codecs.hsc.toy import save_toy, toy_tensors

GENERATOR = "ab" * 32


def direction(name: str = "smile", *, values: float = 0.25) -> Direction:
    return Direction(name=name, about=f"more of {name}", shift_ld=torch.full((3, 4), values))


def test_directions_are_read_as_they_were_written(tmp_path: Path) -> None:
    save_directions(
        tmp_path / "d.safetensors", [direction("smile"), direction("age", values=-0.5)], generator=GENERATOR
    )

    found = load_directions(tmp_path / "d.safetensors", generator=GENERATOR)

    assert [(item.name, item.about) for item in found.items] == [("age", "more of age"), ("smile", "more of smile")]
    assert found.shape == (3, 4)
    assert torch.equal(found.find("age").shift_ld, torch.full((3, 4), -0.5))
    assert found.find("age").shift_ld.dtype == torch.float32


def test_a_shift_of_the_feature_is_kept_where_there_is_one(tmp_path: Path) -> None:
    feature_chw = torch.arange(8.0).reshape(2, 2, 2)
    glasses = Direction(name="glasses", about="", shift_ld=torch.zeros(3, 4), shift_chw=feature_chw)
    save_directions(tmp_path / "d.safetensors", [direction("age"), glasses], generator=GENERATOR)

    found = load_directions(tmp_path / "d.safetensors", generator=GENERATOR)

    assert [item.name for item in found.items] == ["age", "glasses"]
    assert found.find("age").shift_chw is None
    kept_chw = found.find("glasses").shift_chw
    assert kept_chw is not None
    assert torch.equal(kept_chw, feature_chw)
    assert kept_chw.dtype == torch.float32


def test_the_same_directions_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_directions(tmp_path / name, [direction("x"), direction("y")], generator=GENERATOR)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_another_generator_s_directions_are_refused(tmp_path: Path) -> None:
    save_directions(tmp_path / "d.safetensors", [direction()], generator=GENERATOR)

    with pytest.raises(CheckpointError, match="has directions of generator abababababababab, the checkpoint's is cdcd"):
        load_directions(tmp_path / "d.safetensors", generator="cd" * 32)


@pytest.mark.parametrize("name", ["", "Smile", "a=b", "ümlaut", "x" * 41])
def test_a_name_that_can_not_be_typed_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CodecError, match="a direction's name must be like smile or factor-3"):
        save_directions(tmp_path / "d.safetensors", [direction(name)], generator=GENERATOR)


def test_a_name_stands_once_and_there_is_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="and stand once, got 'smile'"):
        save_directions(tmp_path / "d.safetensors", [direction(), direction()], generator=GENERATOR)
    with pytest.raises(CodecError, match="expected directions to write, got none"):
        save_directions(tmp_path / "d.safetensors", [], generator=GENERATOR)


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    toy = save_toy(tmp_path / "toy.safetensors")
    about = {"generator": GENERATOR, "about": {"smile": "smiles"}}
    for name, tensors in (
        ("names", {"frown": torch.zeros(3, 4)}),
        ("flat", {"smile": torch.zeros(12)}),
        ("infinite", {"smile": torch.full((3, 4), float("inf"))}),
        ("feature", {"smile": torch.zeros(3, 4), "smile.feature": torch.zeros(3, 4)}),
        ("spread", {"smile": torch.zeros(3, 4), "smile.feature": torch.full((1, 2, 2), float("nan"))}),
        ("alone", {"smile": torch.zeros(3, 4), "frown.feature": torch.zeros(1, 2, 2)}),
    ):
        save_checkpoint(tmp_path / name, tensors, codec=DIRECTIONS_OF, config=about)

    for name, message in (
        (toy.name, "must be a checkpoint of codec 'hsc directions', got 'hsc'"),
        ("names", r"must say what each of its directions does, \['frown'\]"),
        ("flat", r"smile must be \[L, D\] like the others, got \[12\]"),
        ("infinite", "smile must be finite"),
        ("feature", r"smile.feature must be \[C, s, s\] like the others, got \[3, 4\]"),
        ("spread", "smile.feature must be finite"),
        ("alone", r"must say what each of its directions does, \['frown.feature', 'smile'\]"),
        ("nowhere", "can't be read"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_directions(tmp_path / name, generator=GENERATOR)


def test_the_fingerprint_is_the_generator_s_and_no_other_network_s(tmp_path: Path) -> None:
    tensors, config = toy_tensors()
    of_other_encoder = {n: t + 1 if n.startswith("networks.inversion.content") else t for n, t in tensors.items()}
    of_other_generator = {n: t + 1 if n == "networks.generator.constant" else t for n, t in tensors.items()}
    in_other_precision = {n: t.double() if n == "networks.generator.constant" else t for n, t in tensors.items()}
    found = []

    for version in (tensors, of_other_encoder, of_other_generator, in_other_precision):
        save_checkpoint(tmp_path / "x.safetensors", version, codec="hsc", config=config)
        found.append(generator_fingerprint(tmp_path / "x.safetensors"))

    assert found[0] == found[1] == found[3] != found[2]


def test_the_fingerprint_is_a_plain_digest_of_names_shapes_and_values(tmp_path: Path) -> None:
    path = save_toy(tmp_path / "toy.safetensors")
    digest = hashlib.sha256()

    tensors = load_file(path)
    for name in sorted(name for name in tensors if name.startswith("networks.generator.")):
        digest.update(f"{name.removeprefix('networks.generator.')} {list(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].float().numpy().astype("<f4").tobytes())

    assert generator_fingerprint(path) == digest.hexdigest()


def test_directions_lie_beside_their_checkpoint() -> None:
    assert directions_path(Path("a/face128.safetensors")) == Path("a/face128.directions.safetensors")
