"""A pack's checkpoint is found by fingerprint, and a strange backbone is noticed."""

from dataclasses import replace
from pathlib import Path

import pytest

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.errors import CheckpointError, CodecError
from framevault.codecs.spec import CodecSpec, codec_fingerprint, thinned, thinned_faces, weights_digest
from framevault.workers.weights import backbone_of, find_pack_spec, find_spec, has_head, pack_settings, read_head
from tests.storage.samples import pack_header

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


@pytest.fixture(scope="module")
def faces_own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is not the shipped checkpoint of faces; who looks for a spec reads no tensor."""
    path = tmp_path_factory.mktemp("faces") / "faces.safetensors"
    path.write_bytes(b"faces")
    return path


def find_faces(spec: CodecSpec, *weights: Path) -> CodecSpec:
    return find_spec(
        spec.name,
        codec_fingerprint(spec),
        quality=spec.quality,
        bitstream_version=spec.bitstream_version,
        slices=spec.slices,
        face_slices=None if spec.faces is None else spec.faces.slices,
        weights=[str(path) for path in weights],
    )


def test_what_coded_frames_and_what_coded_faces_are_found_among_all_weights(own: Path, faces_own: Path) -> None:
    """In any order, at any quality of faces, thinned or not."""
    faces = CodecSpec(name="hsc", quality=7, weights=str(faces_own))
    shipped = CodecSpec(name="dicm+hsc", quality=3)
    mine = replace(shipped, weights=str(own), faces=faces)
    mixed = replace(shipped, faces=faces)

    few = thinned_faces(mine, slices=3)
    for spec in (shipped, mine, mixed, thinned(mine, slices=2), few, thinned(few, slices=2)):
        assert find_faces(spec, own, faces_own) == spec
        assert find_faces(spec, faces_own, own) == spec
    assert find_faces(replace(shipped, faces=CodecSpec(name="hsc", quality=1))).faces == CodecSpec(
        name="hsc", quality=1
    )


def test_faces_of_weights_that_are_not_here_are_refused_in_words(own: Path, faces_own: Path) -> None:
    spec = CodecSpec(name="dicm+hsc", faces=CodecSpec(name="hsc", weights=str(faces_own)))

    with pytest.raises(CodecError, match=r"others at every quality of faces and the 1 files .*name both checkpoints"):
        find_faces(spec, own)


def test_a_packs_settings_say_what_coded_its_faces(faces_own: Path) -> None:
    faces = CodecSpec(name="hsc", quality=7, weights=str(faces_own))
    spec = thinned(CodecSpec(name="dicm+hsc", quality=3, faces=faces), slices=2)

    settings = pack_settings(spec)

    said = {"weights": weights_digest(faces), "quality": 7, "version": 1}
    assert settings == {"slices": 2, "faces": said}
    header = replace(
        pack_header(),
        codec=spec.name,
        codec_fingerprint=codec_fingerprint(spec),
        bitstream_version=14,
        quality=3,
        settings=settings,
    )
    assert find_pack_spec(header, weights=[str(faces_own)], device="cuda:1") == replace(spec, device="cuda:1")


def test_a_packs_settings_say_to_what_its_faces_were_thinned(faces_own: Path) -> None:
    faces = CodecSpec(name="hsc", quality=7, weights=str(faces_own))
    spec = thinned_faces(CodecSpec(name="dicm+hsc", quality=3, faces=faces), slices=0)

    settings = pack_settings(spec)

    assert settings == {"faces": {"weights": weights_digest(faces), "quality": 7, "version": 2, "slices": 0}}
    header = replace(
        pack_header(),
        codec=spec.name,
        codec_fingerprint=codec_fingerprint(spec),
        bitstream_version=15,
        quality=3,
        settings=settings,
    )
    assert find_pack_spec(header, weights=[str(faces_own)]) == spec
    wrong = replace(header, settings={"faces": {"slices": "0"}})
    with pytest.raises(CodecError, match="slices in faces in the settings must be a whole number, got '0'"):
        find_pack_spec(wrong, weights=[str(faces_own)])


def test_features_beside_faces_are_those_of_the_frames_codec() -> None:
    assert backbone_of(CodecSpec(name="dicm+hsc")) == "mobilenet_v2"
    assert has_head(CodecSpec(name="dicm+hsc"), read_head(CodecSpec(name="dicm")))
