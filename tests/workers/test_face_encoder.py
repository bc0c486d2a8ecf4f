"""Frames with faces: toy networks, and a detector that sees what a test wants."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from framevault.codecs.faces.codec import FacesCodec, load_faces
from framevault.codecs.faces.framing import FaceRegion, SplitStream, split_stream
from framevault.codecs.faces.geometry import cut_faces
from framevault.codecs.hsc.distortion import DomainLimits
from framevault.codecs.spec import CodecSpec
from framevault.workers.face_encoder import FACES_AT_ONCE, FaceEncoder
from framevault.workers.face_finder import MOST_FACES_CODED, FaceFinder, square_of
from tests.codecs.dicm.toy import save_toy as save_toy_dicm
from tests.codecs.hsc.toy import TOY_CONFIG
from tests.codecs.hsc.toy import save_toy as save_toy_hsc
from tests.workers.detectors.fixed_maps import detector_that_sees

HEIGHT, WIDTH = 40, 80
SIZE = {"height": HEIGHT, "width": WIDTH}
SIDE = TOY_CONFIG.resolution
"""Not the shipped one's."""

TWO_FACES = ((0, 4, 6, 0.8), (0, 5, 19, 0.6))
"""Of 4 x 4 positions; the second one at the frame's right border."""


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> FacesCodec:
    folder = tmp_path_factory.mktemp("weights")
    return load_toys(folder, limits=DomainLimits(psnr_db=(0.0,) * 8, ssim=(-1.0,) * 8))


def load_toys(folder: Path, *, limits: DomainLimits) -> FacesCodec:
    faces = save_toy_hsc(folder / "hsc.safetensors", limits=limits)
    spec = CodecSpec(
        name="dicm+hsc",
        weights=str(save_toy_dicm(folder / "dicm.safetensors")),
        bitstream_version=1,
        faces=CodecSpec(name="hsc", quality=3, weights=str(faces)),
    )
    return load_faces(spec)


def draw_frames(num_frames: int, *, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    random = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (num_frames, 3, height, width), generator=random, dtype=torch.uint8)


def make_encoder(codec: FacesCodec, *peaks: tuple[int, int, int, float], is_searched: tuple[bool, ...]) -> FaceEncoder:
    finder = FaceFinder(detector_that_sees(*peaks, labels=("face",)), 0.4)
    return FaceEncoder(codec, finder, **SIZE, is_searched=is_searched)


def encode(codec: FacesCodec, frames_nchw: Tensor, *peaks: tuple[int, int, int, float]) -> list[SplitStream]:
    encoder = make_encoder(codec, *peaks, is_searched=(True,) * len(frames_nchw))
    return [split_stream(stream) for stream in encoder.encode(frames_nchw)]


def test_frames_are_coded_as_the_frames_codec_does_and_faces_as_the_faces_codec_does(codec: FacesCodec) -> None:
    frames_nchw = draw_frames(3)
    square = square_of((18, 10, 34, 26), score=0.8)

    split = encode(codec, frames_nchw, *TWO_FACES)

    assert [each.frame for each in split] == codec.frames.encoder(**SIZE).encode(frames_nchw)
    assert all(len(each.faces) == 2 for each in split)
    faces_nchw = torch.cat([cut_faces(frame_chw, [square], side=SIDE) for frame_chw in frames_nchw])
    first = [each.faces[0] for each in split]
    assert {face.region for face in first} == {square}
    encoder = codec.faces.encoder(height=SIDE, width=SIDE)
    assert [face.stream for face in first] == encoder.encode(faces_nchw)


def test_where_nobody_is_there_is_the_frame_and_a_byte(codec: FacesCodec) -> None:
    frames_nchw = draw_frames(2)
    encoder = make_encoder(codec, is_searched=(True, True))

    streams = encoder.encode(frames_nchw)

    assert streams == [b"\0" + stream for stream in codec.frames.encoder(**SIZE).encode(frames_nchw)]
    assert encoder.counts.num_faces == 0


def test_a_face_at_the_border_is_cut_beyond_it_and_decodes(codec: FacesCodec) -> None:
    (split,) = encode(codec, draw_frames(1), *TWO_FACES)

    assert split.faces[1].region.x_max > WIDTH
    decoded_nchw = codec.faces.decoder(height=SIDE, width=SIDE).decode([face.stream for face in split.faces])
    assert tuple(decoded_nchw.shape) == (2, 3, SIDE, SIDE)


@pytest.mark.parametrize(("height", "width"), [(40, 80), (1, 1), (16, 16)])
def test_grey_and_tiny_frames_are_coded_too(codec: FacesCodec, height: int, width: int) -> None:
    rows, columns = -(-height // 4), -(-width // 4)
    detector = detector_that_sees((0, 0, 0, 0.9), rows=rows, columns=columns, labels=("face",))
    encoder = FaceEncoder(codec, FaceFinder(detector, 0.4), height=height, width=width, is_searched=[True])

    (stream,) = encoder.encode(torch.full((1, 3, height, width), 77, dtype=torch.uint8))

    (face,) = split_stream(stream).faces
    assert 0 < face.region.side <= 16
    assert len(codec.faces.decoder(height=SIDE, width=SIDE).decode([face.stream])) == 1


def test_of_350_faces_300_are_coded_and_50_are_counted(codec: FacesCodec) -> None:
    places = [(row, column) for row in range(0, 42, 3) for column in range(0, 75, 3)]
    detector = detector_that_sees(
        *((0, row, column, 0.8) for row, column in places), size=1.0, rows=42, columns=75, labels=("face",)
    )
    encoder = FaceEncoder(codec, FaceFinder(detector, 0.4), height=168, width=300, is_searched=[True])

    (stream,) = encoder.encode(draw_frames(1, height=168, width=300))

    assert len(places) == 350
    assert len(split_stream(stream).faces) == MOST_FACES_CODED == 300
    assert (encoder.counts.num_faces, encoder.counts.num_left_out) == (300, 50)
    assert FACES_AT_ONCE["cpu"] < MOST_FACES_CODED


def test_faces_outside_the_domain_are_flagged_and_counted(tmp_path: Path) -> None:
    strict = load_toys(tmp_path, limits=DomainLimits(psnr_db=(99.0,) * 8, ssim=(-1.0,) * 8))
    encoder = make_encoder(strict, *TWO_FACES, is_searched=(True, True))

    split = [split_stream(stream) for stream in encoder.encode(draw_frames(2))]

    assert all(face.region.is_outside for each in split for face in each.faces)
    assert (encoder.counts.num_faces, encoder.counts.num_outside) == (4, 4)


def test_faces_are_looked_for_in_the_chosen_frames_alone(codec: FacesCodec) -> None:
    frames_nchw = draw_frames(5)
    encoder = make_encoder(codec, *TWO_FACES, is_searched=(True, False, False, True, False))

    streams = encoder.encode(frames_nchw[:2]) + encoder.encode(frames_nchw[2:])

    assert [len(split_stream(stream).faces) for stream in streams] == [2, 0, 0, 2, 0]
    assert encoder.encode(frames_nchw[:0]) == []


def test_frames_that_equal_the_one_before_have_its_faces_across_calls() -> None:
    codec = load_faces(CodecSpec(name="dicm+hsc"))
    frame_nchw = torch.full((1, 3, HEIGHT, WIDTH), 90, dtype=torch.uint8)
    frame_nchw[:, :, 8:30, 16:40] = 200
    encoder = make_encoder(codec, *TWO_FACES, is_searched=(False, True, False, True, True))

    streams = [stream for count in (1, 1, 2, 1) for stream in encoder.encode(frame_nchw.repeat(count, 1, 1, 1))]
    split = [split_stream(stream) for stream in streams]

    assert not codec.frames.is_independent(split[-1].frame)
    assert [len(each.faces) for each in split] == [0, 2, 0, 2, 2]
    assert regions(split[1]) == regions(split[3]) == regions(split[4])


def regions(split: SplitStream) -> list[FaceRegion]:
    return [replace(face.region, is_outside=False) for face in split.faces]
