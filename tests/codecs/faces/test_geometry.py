"""Faces out of frames and back into place."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from framevault.codecs.errors import CodecError
from framevault.codecs.faces.framing import FaceRegion
from framevault.codecs.faces.geometry import SOFT_EDGE, cut_faces, paste_face
from framevault.codecs.testing import smooth_frames

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def region(x_min: float, y_min: float, side: float, angle_degrees: float = 0.0) -> FaceRegion:
    return FaceRegion(x_min=x_min, y_min=y_min, side=side, angle_degrees=angle_degrees, score=1.0, is_outside=False)


def quarters(side: int) -> NDArray[np.uint8]:
    """Return a picture of four colours: red and green above, blue and white below."""
    picture_hwc = np.zeros((side, side, 3), np.uint8)
    half = side // 2
    picture_hwc[:half, :half], picture_hwc[:half, half:] = RED, GREEN
    picture_hwc[half:, :half], picture_hwc[half:, half:] = BLUE, WHITE
    return picture_hwc


def corners(picture_hwc: NDArray[np.uint8], x_min: int, y_min: int, side: int) -> list[tuple[int, ...]]:
    """Return the colours in the middles of a square's quarters: above left and right, below left and right."""
    near, far = side // 4, side - side // 4
    return [
        tuple(picture_hwc[y_min + y, x_min + x].tolist())
        for y, x in ((near, near), (near, far), (far, near), (far, far))
    ]


def test_a_square_of_whole_pixels_is_cut_to_the_bit() -> None:
    frame_chw = smooth_frames(1, 60, 90)[0]

    (face_chw,) = cut_faces(frame_chw, [region(21, 13, 32)], side=32)

    assert torch.equal(face_chw, frame_chw[:, 13:45, 21:53])


def test_a_square_is_made_as_large_as_it_shall_be() -> None:
    frame_chw = smooth_frames(1, 60, 90)[0]

    for side in (16, 32, 128):
        faces_nchw = cut_faces(frame_chw, [region(21, 13, 32.25), region(0, 0, 7.5)], side=side)
        assert (tuple(faces_nchw.shape), faces_nchw.dtype) == ((2, 3, side, side), torch.uint8)


def test_no_faces_are_none() -> None:
    assert cut_faces(smooth_frames(1, 8, 8)[0], [], side=16).shape == (0, 3, 16, 16)


def test_fine_stripes_of_a_large_square_become_grey() -> None:
    """Without a filter they would become black or white, or wide stripes."""
    frame_chw = torch.zeros((3, 512, 512), dtype=torch.uint8)
    frame_chw[:, :, ::2] = 255

    (face_chw,) = cut_faces(frame_chw, [region(0, 0, 512)], side=64)

    assert int((face_chw[:, 4:-4, 4:-4].int() - 128).abs().max()) <= 2


def test_beyond_the_frame_its_border_is_repeated() -> None:
    frame_chw = smooth_frames(1, 40, 50)[0]

    (face_chw,) = cut_faces(frame_chw, [region(-16, 24, 32)], side=32)

    assert torch.equal(face_chw[:, :16, 16:], frame_chw[:, 24:40, :16])
    assert torch.equal(face_chw[:, :16, :16], frame_chw[:, 24:40, :1].expand(-1, -1, 16))
    assert torch.equal(face_chw[:, 16:, 16:], frame_chw[:, 39:, :16].expand(-1, 16, -1))


def test_a_square_far_beyond_the_frame_is_of_its_corners_colour() -> None:
    frame_chw = smooth_frames(1, 40, 50)[0]

    (face_chw,) = cut_faces(frame_chw, [region(9000, 9000, 30)], side=8)

    assert torch.equal(face_chw, frame_chw[:, -1:, -1:].expand(-1, 8, 8))


@pytest.mark.parametrize(
    ("angle", "expected"),
    [
        (0, [RED, GREEN, BLUE, WHITE]),
        (90, [BLUE, RED, WHITE, GREEN]),
        (180, [WHITE, BLUE, GREEN, RED]),
        (270, [GREEN, WHITE, RED, BLUE]),
    ],
)
def test_a_face_that_is_turned_clockwise_lands_turned_clockwise(
    angle: float, expected: list[tuple[int, int, int]]
) -> None:
    canvas_hwc = np.full((80, 100, 3), 128, np.uint8)

    paste_face(canvas_hwc, quarters(64), region(30, 20, 40, angle))

    assert corners(canvas_hwc, 30, 20, 40) == expected


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_turned_face_is_cut_upright(angle: float) -> None:
    canvas_hwc = np.full((80, 100, 3), 128, np.uint8)
    paste_face(canvas_hwc, quarters(64), region(30, 20, 40, angle))

    (face_chw,) = cut_faces(torch.from_numpy(canvas_hwc).permute(2, 0, 1), [region(30, 20, 40, angle)], side=40)

    assert corners(face_chw.permute(1, 2, 0).numpy(), 0, 0, 40) == [RED, GREEN, BLUE, WHITE]


def test_a_square_on_its_corner_reaches_as_far_as_its_diagonal() -> None:
    canvas_hwc = np.zeros((100, 100, 3), np.uint8)

    paste_face(canvas_hwc, np.full((32, 32, 3), 255, np.uint8), region(30, 30, 40, 45))

    rows, columns = np.nonzero(canvas_hwc[:, :, 0])
    assert 50 - 28.3 <= rows.min() < 50 - 24
    assert 50 + 24 < columns.max() + 1 <= 50 + 28.3
    assert canvas_hwc[33, 33, 0] == 0
    assert canvas_hwc[50, 50, 0] == 255


@pytest.mark.parametrize("angle", [0.0, 30.0, 199.6875])
@pytest.mark.parametrize("side", [40.0, 51.25])
def test_what_is_cut_and_pasted_gives_the_picture_back(angle: float, side: float) -> None:
    """Up to what interpolation, twice, takes from a smooth picture."""
    frame_hwc = smooth_frames(1, 120, 140)[0].permute(1, 2, 0).numpy()
    where = region(37.25, 31.5, side, angle)
    canvas_hwc = frame_hwc.copy()

    (face_chw,) = cut_faces(torch.from_numpy(frame_hwc).permute(2, 0, 1), [where], side=128)
    paste_face(canvas_hwc, face_chw.permute(1, 2, 0).numpy(), where)

    difference_hwc = np.abs(canvas_hwc.astype(int) - frame_hwc.astype(int))
    assert not np.array_equal(canvas_hwc, frame_hwc)
    assert difference_hwc.max() <= 5
    assert difference_hwc.mean() < 0.2


def test_a_faces_edge_fades_into_the_canvas() -> None:
    canvas_hwc = np.zeros((120, 120, 3), np.uint8)
    face_hwc = np.full((100, 100, 3), 200, np.uint8)

    paste_face(canvas_hwc, face_hwc, region(10, 10, 100))

    width = round(100 * SOFT_EDGE)
    edge = canvas_hwc[60, 10 : 10 + width, 0].tolist()
    assert edge == sorted(edge)
    assert 0 < edge[0] < 60
    assert edge[-1] > 140
    assert (canvas_hwc[60, 10 + width : 110 - width] == 200).all()
    assert (canvas_hwc[:10] == 0).all()
    assert (canvas_hwc[:, 110:] == 0).all()


@pytest.mark.parametrize(
    "where",
    [region(-500, 0, 30), region(70, 5, 20), region(5, 60.0, 20, 45), region(-0.5, -0.5, 0.25)],
    ids=["left", "right", "below", "a speck"],
)
def test_a_square_beyond_the_canvas_changes_nothing(where: FaceRegion) -> None:
    canvas_hwc = np.full((40, 60, 3), 128, np.uint8)

    paste_face(canvas_hwc, quarters(16), where)

    assert (canvas_hwc == 128).all()


def test_what_lies_beyond_the_canvas_is_cut_off() -> None:
    large_hwc, canvas_hwc = np.full((200, 200, 3), 128, np.uint8), np.full((40, 60, 3), 128, np.uint8)

    paste_face(large_hwc, quarters(64), region(80 - 20, 80 - 10, 96, 10))
    paste_face(canvas_hwc, quarters(64), region(-20, -10, 96, 10))

    assert np.array_equal(canvas_hwc, large_hwc[80:120, 80:140])


def test_a_large_canvas_is_drawn_in_parts_that_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    whole_hwc, canvas_hwc = (np.full((70, 70, 3), 128, np.uint8) for _ in range(2))
    paste_face(whole_hwc, quarters(64), region(5, 6, 60, 20))
    monkeypatch.setattr("framevault.codecs.faces.geometry.PIXELS_AT_ONCE", 150)

    paste_face(canvas_hwc, quarters(64), region(5, 6, 60, 20))

    assert np.array_equal(canvas_hwc, whole_hwc)


@pytest.mark.parametrize("side", [0.25, 1.0, 2.5])
def test_squares_of_a_pixel_are_cut_and_pasted(side: float) -> None:
    frame_chw = smooth_frames(1, 20, 20)[0]

    (face_chw,) = cut_faces(frame_chw, [region(7, 8, side)], side=16)
    canvas_hwc = frame_chw.permute(1, 2, 0).numpy().copy()
    paste_face(canvas_hwc, face_chw.permute(1, 2, 0).numpy(), region(7, 8, side))

    assert np.abs(canvas_hwc.astype(int) - frame_chw.permute(1, 2, 0).numpy().astype(int)).max() <= 8


def test_the_largest_square_that_can_be_stored_is_sampled_coarsely() -> None:
    """A hostile region costs no more memory than a large one."""
    frame_chw = smooth_frames(1, 20, 20)[0]

    assert cut_faces(frame_chw, [region(0, 0, 262144)], side=16).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("frame", [torch.zeros((3, 8, 8)), torch.zeros((1, 3, 8, 8), dtype=torch.uint8)])
def test_what_is_no_frame_is_refused(frame: torch.Tensor) -> None:
    with pytest.raises(CodecError, match=r"a frame must be uint8 \[3, H, W\], got"):
        cut_faces(frame, [], side=8)
