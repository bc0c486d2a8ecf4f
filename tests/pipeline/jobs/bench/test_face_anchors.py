"""Tests of the codecs that faces are compared with."""

import torch

from framevault.pipeline.jobs.bench.face_anchors import CodedFace, anchor_coders, code_each, next_larger
from tests.pipeline.jobs.bench.toy_faces import SIDE, toy_faces


def coded(payload_bytes: int) -> CodedFace:
    rgb_chw = torch.zeros(3, 8, 8, dtype=torch.uint8)
    return CodedFace(codec="x", setting="", file_bytes=500, payload_bytes=payload_bytes, rgb_chw=rgb_chw)


def test_the_next_larger_is_never_smaller_unless_all_are() -> None:
    choices = [coded(size) for size in (300, 90, 120)]

    assert next_larger(choices, 90).payload_bytes == 90
    assert next_larger(choices, 91).payload_bytes == 120
    assert next_larger(choices, 1).payload_bytes == 90
    assert next_larger(choices, 301).payload_bytes == 300


def test_every_face_has_bytes_and_a_picture_of_its_own() -> None:
    faces_nchw = toy_faces(5)
    (coarse,) = anchor_coders("x265-intra", qps=(45,))
    (fine,) = anchor_coders("webp", webp_qualities=(80,))

    found = {coder.codec: code_each(coder, faces_nchw) for coder in (coarse, fine)}

    assert list(found) == ["x265-intra slow", "webp"]
    for faces in found.values():
        assert len(faces) == 5
        assert all(face.rgb_chw.shape == (3, SIDE, SIDE) for face in faces)
        for face, original_chw in zip(faces, faces_nchw, strict=True):
            errors = [(face.rgb_chw.float() - other.float()).abs().mean() for other in faces_nchw]
            assert min(errors) == (face.rgb_chw.float() - original_chw.float()).abs().mean()
    assert [face.file_bytes - face.payload_bytes for face in found["webp"]] == [20] * 5
