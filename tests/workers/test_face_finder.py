"""Faces in features: the shipped detector on a real one, and what becomes of boxes."""

import math
from pathlib import Path

import pytest
import torch

from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.errors import CheckpointError
from framevault.codecs.faces.framing import quantise
from framevault.codecs.spec import CodecSpec
from framevault.workers.face_finder import (
    DOWN_OF_BOX,
    MOST_FACES_CODED,
    SIDE_OF_BOX,
    Box,
    FaceFinder,
    FoundFaces,
    complete,
    load_finder,
    square_of,
)
from tests.astronaut import FACE_HEIGHT, NOSE_X, NOSE_Y, astronaut_frames
from tests.codecs.dicm.toy import save_toy
from tests.workers.detectors.fixed_maps import detector_that_sees

SPEC = CodecSpec(name="dicm+hsc", bitstream_version=1)


@pytest.fixture(scope="module")
def codec() -> DicmCodec:
    return load_dicm(CodecSpec(name="dicm", bitstream_version=1))


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return load_finder(SPEC, score=0.4)


def find(codec: DicmCodec, finder: FaceFinder, frames_nchw: torch.Tensor) -> list[FoundFaces]:
    size = dict(zip(("height", "width"), frames_nchw.shape[2:], strict=True))
    features_nchw = codec.decoder(**size).decode(codec.encoder(**size).encode(frames_nchw))
    return finder(features_nchw, **size)


def test_a_real_face_is_found_where_it_is(codec: DicmCodec, finder: FaceFinder) -> None:
    (found,) = find(codec, finder, astronaut_frames(1))

    (region,) = found.regions
    assert found.num_left_out == 0
    assert region.score > 0.6
    assert (region.x_min + region.x_max) / 2 == pytest.approx(NOSE_X, abs=0.1 * FACE_HEIGHT)
    assert (region.y_min + region.y_max) / 2 == pytest.approx(NOSE_Y, abs=0.15 * FACE_HEIGHT)
    assert region.side == pytest.approx(1.05 * FACE_HEIGHT, rel=0.15)


def test_a_face_at_the_border_has_a_square_that_reaches_beyond(codec: DicmCodec, finder: FaceFinder) -> None:
    cut_nchw = astronaut_frames(1)[:, :, :, NOSE_X - 20 :].contiguous()

    (found,) = find(codec, finder, cut_nchw)

    (region,) = found.regions
    assert region.x_min < 0
    assert (region.x_min + region.x_max) / 2 == pytest.approx(20, abs=0.1 * FACE_HEIGHT)
    assert (region.y_min + region.y_max) / 2 == pytest.approx(NOSE_Y, abs=0.15 * FACE_HEIGHT)
    assert region.side == pytest.approx(FACE_HEIGHT, rel=0.15)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((30, 30, 50, 80), (30, 30, 50, 80)),
        ((0, 30, 30, 80), (-10, 30, 30, 80)),
        ((71, 30, 99.5, 80), (71, 30, 111, 80)),
        ((30, 0.5, 70, 30.5), (30, -19.5, 70, 30.5)),
        ((30, 60, 70, 100), (30, 60, 70, 110)),
        ((0, 0, 40, 50), (0, 0, 40, 50)),
        ((0, 30, 100, 80), (0, 30, 100, 80)),
    ],
)
def test_a_box_that_the_border_cuts_is_completed(box: Box, expected: Box) -> None:
    assert complete(box, height=100, width=100) == pytest.approx(expected)


@pytest.mark.parametrize(("height", "width"), [(120, 160), (16, 16), (1, 1)])
def test_in_frames_of_one_grey_nobody_is_found(codec: DicmCodec, finder: FaceFinder, height: int, width: int) -> None:
    frames_nchw = torch.full((2, 3, height, width), 119, dtype=torch.uint8)

    assert find(codec, finder, frames_nchw) == [FoundFaces((), 0)] * 2


def test_of_very_many_faces_the_best_are_taken_and_the_others_counted() -> None:
    places = [(row, column) for row in range(0, 60, 3) for column in range(0, 60, 3)]
    peaks = [(1, row, column, 0.9 - 0.001 * n) for n, (row, column) in enumerate(places)]
    persons = [(0, row, column, 0.95) for row, column in places]
    detector = detector_that_sees(*peaks, *persons, size=1.0, rows=60, columns=60, labels=("person", "face"))

    (found,) = FaceFinder(detector, 0.4)(torch.zeros(1, 24, 60, 60), height=240, width=240)

    assert (len(found.regions), found.num_left_out) == (MOST_FACES_CODED, len(places) - MOST_FACES_CODED)
    scores = [region.score for region in found.regions]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] == pytest.approx(0.9 - 0.001 * (MOST_FACES_CODED - 1), abs=1 / 255)


def test_faces_of_a_lower_score_are_left_out_without_a_word() -> None:
    detector = detector_that_sees((0, 2, 3, 0.5), (0, 8, 12, 0.39), labels=("face",))

    (found,) = FaceFinder(detector, 0.4)(torch.zeros(1, 24, 10, 20), height=40, width=80)

    assert [round(region.score, 1) for region in found.regions] == [0.5]
    assert found.num_left_out == 0


def test_small_faces_are_left_out_and_counted_apart() -> None:
    # Boxes have 16 pixels a side; at the right border, 9 are left of one.
    detector = detector_that_sees((0, 4, 6, 0.5), (0, 5, 19, 0.6), labels=("face",))
    features_nchw = torch.zeros(1, 24, 10, 20)
    found = {
        size: FaceFinder(detector, 0.4, size)(features_nchw, height=40, width=79)[0] for size in (0, 9, 10, 16, 17)
    }

    assert [(len(each.regions), each.num_small, each.num_left_out) for each in found.values()] == [
        (2, 0, 0),
        (2, 0, 0),
        (1, 1, 0),
        (1, 1, 0),
        (0, 2, 0),
    ]
    assert found[0] == found[9]
    assert [round(region.score, 1) for region in found[16].regions] == [0.5]


def test_small_faces_take_no_place_among_the_best() -> None:
    places = [(0, row, column, 0.9) for row in range(0, 60, 3) for column in range(0, 60, 3)]
    detector = detector_that_sees(*places, size=1.0, rows=60, columns=60, labels=("face",))

    # Each box has 8 pixels a side, but those that the frame's border cuts.
    (found,) = FaceFinder(detector, 0.4, 8)(torch.zeros(1, 24, 60, 60), height=240, width=240)

    assert found.num_small == 20 + 19
    assert len(found.regions) == MOST_FACES_CODED
    assert found.num_left_out == len(places) - 39 - MOST_FACES_CODED


def test_a_square_has_the_box_s_area_and_middle_but_for_the_two_constants() -> None:
    region = square_of((100, 50, 140, 140), score=0.7)

    assert region.side == pytest.approx(SIDE_OF_BOX * math.sqrt(40 * 90), abs=0.125)
    assert (region.x_min + region.x_max) / 2 == pytest.approx(120, abs=0.25)
    assert (region.y_min + region.y_max) / 2 == pytest.approx(95 + DOWN_OF_BOX * 60, abs=0.25)
    assert (region.angle_degrees, region.is_outside) == (0, False)
    assert quantise(region) == region


def test_features_of_another_head_are_refused_with_what_to_do(tmp_path: Path) -> None:
    weights = str(save_toy(tmp_path / "toy.safetensors"))
    spec = CodecSpec(name="dicm+hsc", weights=weights, bitstream_version=1)

    with pytest.raises(CheckpointError, match=r"toy\.safetensors has features of .*compress with --codec dicm"):
        load_finder(spec, score=0.4)
