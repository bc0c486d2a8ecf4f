"""The codecs that faces go through: real sizes, and pictures back."""

from dataclasses import replace

import pytest
import torch
from PIL import features

from framevault.codecs.errors import CodecError
from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.coders import X265IntraCoder
from framevault.pipeline.jobs.bench.face_coders import (
    FaceCoder,
    FrameCoder,
    MeanFaceCoder,
    PictureFileCoder,
    PictureFormat,
    hsc_coders,
    require_format,
)
from framevault.pipeline.x265 import X265Settings
from tests.codecs.hsc.toy import save_toy
from tests.pipeline.jobs.bench.toy_faces import toy_faces


@pytest.fixture(scope="module")
def hsc(tmp_path_factory: pytest.TempPathFactory) -> HscCodec:
    path = save_toy(tmp_path_factory.mktemp("toy") / "toy.safetensors")
    return load_hsc(CodecSpec(name="hsc", weights=str(path), quality=8))


def mean_bytes(coder: FaceCoder) -> float:
    sizes = [size for coded in coder.code(toy_faces(5)) for size in coded.file_bytes]
    return sum(sizes) / len(sizes)


def test_hsc_goes_from_nothing_over_the_core_and_slices_to_whole_streams(hsc: HscCodec) -> None:
    coders = list(hsc_coders(hsc, qualities=(3, 8), slices=(2, 0)))

    assert [(coder.codec, coder.setting) for coder in coders] == [
        ("hsc thinned", "nothing"),
        ("hsc thinned", "quality 8, core alone"),
        ("hsc thinned", "quality 8, slices 2"),
        ("hsc", "quality 3"),
        ("hsc", "quality 8"),
    ]
    nothing, core, thinned, _, whole = map(mean_bytes, coders)
    assert 0 == nothing < core < thinned < whole


def test_streams_are_the_codecs_own_to_the_byte(hsc: HscCodec) -> None:
    faces_nchw = toy_faces(2)
    coder = list(hsc_coders(hsc, qualities=(8,), slices=()))[-1]

    (coded,) = coder.code(faces_nchw)

    streams = hsc.encoder(height=64, width=64).encode(faces_nchw)
    assert coded.file_bytes == coded.payload_bytes == tuple(map(len, streams))
    assert torch.equal(coded.decoded_nchw, hsc.decoder(height=64, width=64).decode(streams))


def test_nothing_is_the_same_face_for_everybody(hsc: HscCodec) -> None:
    (coded,) = MeanFaceCoder(hsc=hsc).code(toy_faces(3))

    assert coded.file_bytes == (0, 0, 0)
    assert coded.decoded_nchw.shape == (3, 3, 64, 64)
    assert torch.equal(coded.decoded_nchw[0], coded.decoded_nchw[2])


def test_slices_that_a_checkpoint_has_not_are_refused(hsc: HscCodec) -> None:
    with pytest.raises(CodecError, match="slices must be 0 to 2"):
        list(hsc_coders(hsc, qualities=(8,), slices=(3,)))


@pytest.mark.parametrize("name", ["avif", "webp"])
def test_picture_files_are_counted_whole_and_without_their_container(name: PictureFormat) -> None:
    if not features.check(name):
        pytest.skip(f"this Pillow has no {name}")
    faces_nchw = toy_faces(2)

    coarse, fine = (list(PictureFileCoder(codec=name, quality=quality).code(faces_nchw)) for quality in (5, 90))

    assert len(coarse) == len(fine) == 2
    for few, many, face_chw in zip(coarse, fine, faces_nchw, strict=True):
        assert 0 < few.payload_bytes[0] < few.file_bytes[0] < many.file_bytes[0]
        error = (many.decoded_nchw[0].float() - face_chw.float()).abs().mean()
        assert error < (few.decoded_nchw[0].float() - face_chw.float()).abs().mean()
        assert error < 4


def test_x265_pictures_come_back_in_order() -> None:
    faces_nchw = toy_faces(5)
    coder = FrameCoder(coder=X265IntraCoder(settings=X265Settings(qp=20, is_intra=True, preset="ultrafast")))

    coded = list(coder.code(faces_nchw))

    decoded_nchw = torch.cat([each.decoded_nchw for each in coded])
    errors = (decoded_nchw.float()[:, None] - faces_nchw.float()[None]).abs().mean(dim=(2, 3, 4))
    assert errors.argmin(dim=1).tolist() == [0, 1, 2, 3, 4]
    assert (coder.codec, coder.setting) == ("x265-intra ultrafast", "qp 20")
    assert all(each.file_bytes == each.payload_bytes for each in coded)


def test_a_pillow_without_a_format_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: name != "avif")

    require_format("webp")
    with pytest.raises(PreflightError, match="writes no avif"):
        require_format("avif")


def test_the_best_quality_is_what_is_thinned(hsc: HscCodec) -> None:
    low = replace(hsc, spec=replace(hsc.spec, quality=1))

    coder = list(hsc_coders(low, qualities=(2, 5), slices=(1,)))[1]

    assert coder.setting == "quality 5, slices 1"
