"""Tests of finding a picture by a changed version of it."""

import torch

from framevault.pipeline.jobs.bench.face_retrieval import CHANGES, is_first
from tests.pipeline.jobs.bench.toy_faces import SIDE, toy_faces


def test_changes_do_what_they_are_called() -> None:
    faces_nchw = toy_faces(2)

    changed = {name: change(faces_nchw) for name, change in CHANGES.items()}

    assert all(pictures.shape == faces_nchw.shape and pictures.dtype == torch.uint8 for pictures in changed.values())
    assert torch.equal(changed["mirror"][:, :, :, 0], faces_nchw[:, :, :, -1])
    assert torch.equal(changed["shift"][:, :, 2:, 3:], faces_nchw[:, :, :-2, :-3])
    assert torch.equal(changed["shift"][:, :, 0, 0], faces_nchw[:, :, 0, 0])
    assert (changed["brighter"] >= faces_nchw).all()
    middle = slice(SIDE // 2 - 1, SIDE // 2 + 1)
    difference_nchw = changed["crop"][:, :, middle, middle].int() - faces_nchw[:, :, middle, middle].int()
    assert difference_nchw.abs().max() < 8
    assert not torch.equal(changed["crop"], faces_nchw)


def test_a_picture_is_found_whatever_scale_and_offset_its_values_have() -> None:
    random = torch.Generator().manual_seed(3)
    gallery_nv = torch.randn(50, 6, generator=random)
    queries_qv = gallery_nv[:5] + 0.01 * torch.randn(5, 6, generator=random)
    scale_v, offset_v = torch.tensor([1e3, 1, 1e-3, 1, 5, 1]), torch.tensor([1e4, 0, 0, -3, 0, 0])

    plain_q = is_first(queries_qv, gallery_nv, torch.arange(5))
    scaled_q = is_first(queries_qv * scale_v + offset_v, gallery_nv * scale_v + offset_v, torch.arange(5))
    wrong_q = is_first(queries_qv, gallery_nv, torch.arange(5) + 1)

    assert plain_q.all()
    assert scaled_q.all()
    assert not wrong_q.any()


def test_a_value_that_is_the_same_for_all_says_nothing() -> None:
    gallery_nv = torch.cat([torch.randn(9, 3, generator=torch.Generator().manual_seed(4)), torch.ones(9, 1)], dim=1)
    queries_qv = gallery_nv + torch.tensor([0, 0, 0, 1e6])

    assert is_first(queries_qv, gallery_nv, torch.arange(9)).all()
