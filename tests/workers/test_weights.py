"""A pack's checkpoint is found by fingerprint, and a strange backbone is noticed."""

from pathlib import Path

import pytest

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.errors import CheckpointError, CodecError
from framevault.codecs.spec import CodecSpec, codec_fingerprint
from framevault.workers.weights import backbone_of, find_spec, has_head, read_head

SHIPPED = CodecSpec(name="dicm").checkpoint_path or Path()


def make_checkpoint(path: Path, *, tensor: str) -> Path:
    """Write the shipped checkpoint with one tensor changed."""
    tensors, config = load_checkpoint(SHIPPED, codec="dicm")
    save_checkpoint(path, {**tensors, tensor: tensors[tensor] * 1.01}, codec="dicm", config=config)
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the shipped backbone."""
    return make_checkpoint(tmp_path_factory.mktemp("own") / "own.safetensors", tensor="networks.log_gain")


def find(fingerprint: str, *, quality: int, weights: tuple[str, ...]) -> CodecSpec:
    version = CodecSpec(name="dicm").bitstream_version
    return find_spec("dicm", fingerprint, quality=quality, bitstream_version=version, weights=weights)


def test_a_fingerprint_finds_the_shipped_checkpoint_and_ones_own(own: Path) -> None:
    mine = CodecSpec(name="dicm", quality=3, weights=str(own))
    shipped = CodecSpec(name="dicm", quality=3)

    assert find(codec_fingerprint(mine), quality=3, weights=(str(own),)) == mine
    assert find(codec_fingerprint(shipped), quality=3, weights=(str(own),)) == shipped


def test_another_quality_is_another_codec(own: Path) -> None:
    fingerprint = codec_fingerprint(CodecSpec(name="dicm", quality=3, weights=str(own)))

    with pytest.raises(CodecError, match=f"{fingerprint[:16]} expected.* and the 1 files given as weights have others"):
        find(fingerprint, quality=4, weights=(str(own),))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors"):
        find("0" * 64, quality=3, weights=("nowhere.safetensors",))


def test_only_a_changed_head_is_another_backbone(own: Path, tmp_path: Path) -> None:
    changed = make_checkpoint(tmp_path / "changed.safetensors", tensor="networks.head.0.0.weight")

    shipped = read_head(CodecSpec(name="dicm"))
    assert has_head(CodecSpec(name="dicm", weights=str(own)), shipped)
    assert not has_head(CodecSpec(name="dicm", weights=str(changed)), shipped)


def test_whose_features_a_codec_has_stands_in_its_checkpoint(own: Path, tmp_path: Path) -> None:
    tensors, config = load_checkpoint(own, codec="dicm")
    for name in ("resnet50", "vgg16"):
        save_checkpoint(tmp_path / name, tensors, codec="dicm", config={**config, "backbone": name})

    assert backbone_of(CodecSpec(name="raw")) is None
    assert backbone_of(CodecSpec(name="dicm")) == "mobilenet_v2"
    assert backbone_of(CodecSpec(name="dicm", weights=str(tmp_path / "resnet50"))) == "resnet50"
    with pytest.raises(CheckpointError, match="backbone must be one of mobilenet_v2, resnet50, got 'vgg16'"):
        backbone_of(CodecSpec(name="dicm", weights=str(tmp_path / "vgg16")))
