"""Faces in place on a plain canvas: where a face is, what hsc decodes, and plain grey elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from framevault.codecs.errors import BitstreamError
from framevault.codecs.faces.framing import CodedFace
from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.spec import CodecSpec
from framevault.storage.packs import Pack, read_pack
from framevault.workers.placed_faces import CANVAS_LEVEL, place_faces
from framevault.workers.restored import PictureReader, RestoreSettings
from framevault.workers.salvage import FrameFault
from framevault.workers.standalone import Decoded
from tests.face_vaults import encode_faces, face_at, face_pictures, faces_header, join_streams, pack_streams

HEIGHT, WIDTH, SIDE = 150, 310, 128
SOFT = 6
"""Pixels of a face's border that fade into the canvas: four hundredths of its side, and a pixel."""


@pytest.fixture(scope="module")
def codec() -> HscCodec:
    """The shipped one."""
    return load_hsc(CodecSpec(name="hsc"))


@pytest.fixture(scope="module")
def streams(codec: HscCodec) -> list[bytes]:
    return encode_faces(codec, face_pictures(3))


@pytest.fixture(scope="module")
def faces_nhwc(codec: HscCodec, streams: list[bytes]) -> NDArray[np.uint8]:
    """What they decode to."""
    decoded_nchw = codec.decoder(height=SIDE, width=SIDE).decode(streams)
    return np.asarray(decoded_nchw.permute(0, 2, 3, 1).numpy(), np.uint8)


def place(codec: HscCodec, *frames: list[CodedFace], batch_size: int = 2) -> NDArray[np.uint8]:
    decode = codec.decoder(height=SIDE, width=SIDE).decode
    return place_faces(join_streams(frames), decode, height=HEIGHT, width=WIDTH, batch_size=batch_size)


def assert_near(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    """Compare pictures; floats may round the other way in another batch."""
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def inner(picture_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what is not near the border."""
    return picture_hwc[SOFT:-SOFT, SOFT:-SOFT]


def test_a_face_s_pixels_are_where_its_box_is_and_grey_is_elsewhere(
    codec: HscCodec, streams: list[bytes], faces_nhwc: NDArray[np.uint8]
) -> None:
    (canvas_hwc,) = place(codec, [face_at(20, 15, SIDE, streams[0]), face_at(170, 4, SIDE, streams[1])])

    assert canvas_hwc.shape == (HEIGHT, WIDTH, 3)
    assert_near(inner(canvas_hwc[15 : 15 + SIDE, 20 : 20 + SIDE]), inner(faces_nhwc[0]))
    assert_near(inner(canvas_hwc[4 : 4 + SIDE, 170 : 170 + SIDE]), inner(faces_nhwc[1]))
    canvas_hwc[15 : 15 + SIDE, 20 : 20 + SIDE] = CANVAS_LEVEL
    canvas_hwc[4 : 4 + SIDE, 170 : 170 + SIDE] = CANVAS_LEVEL
    assert (canvas_hwc == CANVAS_LEVEL).all()


def test_faces_of_several_frames_in_one_call_keep_their_frames(
    codec: HscCodec, streams: list[bytes], faces_nhwc: NDArray[np.uint8]
) -> None:
    found_nhwc = place(codec, [face_at(0, 0, SIDE, streams[2])], [], [face_at(100, 10, SIDE, streams[0])])

    assert_near(inner(found_nhwc[0][:SIDE, :SIDE]), inner(faces_nhwc[2]))
    assert (found_nhwc[1] == CANVAS_LEVEL).all()
    assert_near(inner(found_nhwc[2][10 : 10 + SIDE, 100 : 100 + SIDE]), inner(faces_nhwc[0]))


def test_a_turned_face_is_turned_clockwise(
    codec: HscCodec, streams: list[bytes], faces_nhwc: NDArray[np.uint8]
) -> None:
    upright = face_at(20, 10, SIDE, streams[0])
    turned = replace(upright, region=replace(upright.region, angle_degrees=90.0))

    (canvas_hwc,) = place(codec, [turned])

    expected_hwc = np.rot90(faces_nhwc[0], -1)
    assert_near(inner(canvas_hwc[10 : 10 + SIDE, 20 : 20 + SIDE]), inner(expected_hwc))


def test_a_face_at_the_border_is_cut_off_there(
    codec: HscCodec, streams: list[bytes], faces_nhwc: NDArray[np.uint8]
) -> None:
    (canvas_hwc,) = place(codec, [face_at(-64, 100, SIDE, streams[1])])

    expected_hwc = faces_nhwc[1][SOFT:50, 64:-SOFT]
    assert_near(canvas_hwc[100 + SOFT : HEIGHT, : 64 - SOFT], expected_hwc)
    assert (canvas_hwc[:100] == CANVAS_LEVEL).all()
    assert (canvas_hwc[:, 64:] == CANVAS_LEVEL).all()


def test_of_two_faces_in_one_place_the_surer_one_is_seen(
    codec: HscCodec, streams: list[bytes], faces_nhwc: NDArray[np.uint8]
) -> None:
    (canvas_hwc,) = place(
        codec, [face_at(50, 10, SIDE, streams[0], score=0.9), face_at(50, 10, SIDE, streams[1], score=0.5)]
    )

    assert_near(inner(canvas_hwc[10 : 10 + SIDE, 50 : 50 + SIDE]), inner(faces_nhwc[0]))


def test_a_face_that_is_larger_than_any_frame_costs_no_memory_and_one_far_away_is_not_seen(
    codec: HscCodec, streams: list[bytes]
) -> None:
    far = face_at(200_000, 0, 10, streams[0])
    vast = face_at(-100_000, -100_000, 250_000, streams[0])

    found_nhwc = place(codec, [far], [vast])

    assert (found_nhwc[0] == CANVAS_LEVEL).all()
    # A window of some hundred of its 250,000 pixels: one colour.
    assert found_nhwc[1].reshape(-1, 3).max(0).astype(int).tolist() == pytest.approx(
        found_nhwc[1].reshape(-1, 3).min(0).astype(int).tolist(), abs=3
    )


def test_a_damaged_face_is_named(codec: HscCodec, streams: list[bytes]) -> None:
    good, bad = face_at(0, 0, SIDE, streams[0]), face_at(0, 0, SIDE, streams[1][:20])

    with pytest.raises(BitstreamError, match=r"stream 1 of the call: face 2: .*the stream ends early"):
        place(codec, [good], [good, good, bad], batch_size=8)


def read(pack: Pack, numbers: list[int], settings: RestoreSettings) -> tuple[dict[int, Tensor], list[FrameFault]]:
    """Return the pictures of some frames, and what is wrong with the others."""
    pictures: dict[int, Tensor] = {}
    faults: list[FrameFault] = []
    for step in PictureReader(settings).read(pack, numbers):
        if isinstance(step, FrameFault):
            faults.append(step)
        else:
            assert isinstance(step, Decoded)
            pictures |= zip(step.frame_numbers, torch.from_numpy(step.result), strict=True)
    return pictures, faults


def test_a_damaged_face_or_frame_costs_its_own_frame_and_is_said(codec: HscCodec, streams: list[bytes]) -> None:
    good = face_at(20, 15, SIDE, streams[0])
    frames = join_streams([[good], [face_at(20, 15, SIDE, streams[0][:20])], [], [good]])
    frames.append(b"\x01")
    header = faces_header(CodecSpec(name="dicm+hsc"), height=HEIGHT, width=WIDTH)
    pack = read_pack(pack_streams(header, frames))

    pictures, faults = read(pack, [0, 1, 2, 3, 4], RestoreSettings(device="cpu", batch_size=8, num_slots=1))

    assert [fault.first_frame for fault in faults] == [1, 4]
    assert "frame 1: stream 0 of the call: face 0: stream 0 of the call: " in faults[0].reason
    assert "frame 4: stream 0 of the call: the left border of face 0 of 1" in faults[1].reason
    assert list(pictures) == [0, 2, 3]
    assert torch.equal(pictures[0], pictures[3])
    assert (pictures[2] == CANVAS_LEVEL).all()


@pytest.mark.parametrize("depth", ["nothing", 0, 3])
def test_fewer_slices_of_each_face_are_what_hsc_makes_of_them(
    codec: HscCodec, streams: list[bytes], depth: int | str
) -> None:
    decoder = codec.decoder(height=SIDE, width=SIDE)
    latents = decoder.mean_latents(1) if isinstance(depth, str) else decoder.decode_latents(streams[:1], slices=depth)
    expected_hwc = decoder.render(latents.styles_nld, latents.feature_nchw)[0].permute(1, 2, 0).numpy()
    header = faces_header(CodecSpec(name="dicm+hsc"), height=HEIGHT, width=WIDTH)
    pack = read_pack(pack_streams(header, join_streams([[face_at(20, 15, SIDE, streams[0])]])))

    settings = RestoreSettings(
        device="cpu", batch_size=8, num_slots=1, depth="nothing" if isinstance(depth, str) else depth
    )
    pictures, faults = read(pack, [0], settings)

    assert not faults
    assert_near(inner(pictures[0][15 : 15 + SIDE, 20 : 20 + SIDE].numpy()), inner(expected_hwc))
