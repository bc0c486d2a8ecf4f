"""Boundaries: on styles that were made from known labels, the known direction is found."""

import pytest
import torch
from torch import Tensor

from framevault.codecs.errors import CodecError
from framevault.codecs.hsc.boundaries import fit_boundary

NUM_FACES, NUM_VALUES = 300, 40


def faces(*, seed: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Return styles that depend on a label along one direction, the labels, and the unit direction."""
    random = torch.Generator().manual_seed(seed)
    truth_m = torch.randn(NUM_VALUES, generator=random)
    truth_m /= truth_m.norm()
    labels_n = torch.randn(NUM_FACES, generator=random)
    noise_nm = 0.3 * torch.randn(NUM_FACES, NUM_VALUES, generator=random)
    return 5 + noise_nm + 2 * labels_n[:, None] * truth_m, labels_n, truth_m


def cosine(a_m: Tensor, b_m: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a_m, b_m, dim=0))


def test_numbers_lead_to_their_direction() -> None:
    styles_nm, labels_n, truth_m = faces()

    boundary = fit_boundary(styles_nm, labels_n, ridge=1.0)

    assert cosine(boundary.shift_m, truth_m) > 0.98
    assert boundary.agreement > 0.95


def test_a_yes_or_no_leads_to_its_direction() -> None:
    styles_nm, labels_n, truth_m = faces()

    boundary = fit_boundary(styles_nm, (labels_n > 0.5).float(), ridge=1.0)

    assert cosine(boundary.shift_m, truth_m) > 0.95
    assert boundary.agreement > 0.6


def test_labels_the_other_way_round_turn_the_direction() -> None:
    styles_nm, labels_n, _ = faces()
    for labels in (labels_n, (labels_n > 0).float()):
        forth, back = (fit_boundary(styles_nm, sign * labels, ridge=1.0) for sign in (1, -1))

        assert torch.allclose(forth.shift_m, -back.shift_m, atol=1e-5)
        assert forth.agreement == pytest.approx(back.agreement, abs=1e-6)


def test_an_amount_of_one_is_as_far_as_the_label_s_standard_deviation_moves_faces() -> None:
    styles_nm, labels_n, truth_m = faces()

    shift_m = fit_boundary(styles_nm, labels_n, ridge=1.0).shift_m

    # Faces move by 2 for a label of 1.
    assert torch.allclose(shift_m, 2 * labels_n.std() * truth_m, atol=0.1)


def test_the_way_is_what_faces_differ_in_not_what_tells_them_apart_best() -> None:
    random = torch.Generator().manual_seed(10)
    labels_n = torch.randn(NUM_FACES, generator=random)
    styles_nm = 0.1 * torch.randn(NUM_FACES, NUM_VALUES, generator=random)
    # Two values rise with the label. One of them is noisy, and a third has the same noise: their difference says more.
    noise_n = torch.randn(NUM_FACES, generator=random)
    styles_nm[:, 0] += labels_n + noise_n
    styles_nm[:, 1] += 0.2 * labels_n
    styles_nm[:, 2] += noise_n

    shift_m = fit_boundary(styles_nm, labels_n, ridge=1e-3).shift_m

    expected_m = torch.zeros(NUM_VALUES)
    expected_m[:2] = labels_n.std() * torch.tensor([1.0, 0.2])
    assert torch.allclose(shift_m, expected_m, atol=0.15)


def test_labels_that_mean_nothing_agree_with_nothing() -> None:
    styles_nm, _, _ = faces()
    labels_n = torch.randn(NUM_FACES, generator=torch.Generator().manual_seed(7))

    assert abs(fit_boundary(styles_nm, labels_n, ridge=1.0).agreement) < 0.35


def test_more_values_than_faces_are_no_trouble() -> None:
    random = torch.Generator().manual_seed(8)
    styles_nm, labels_n = torch.randn(30, 500, generator=random), torch.randn(30, generator=random)
    styles_nm[:, 0] += 20 * labels_n

    assert cosine(fit_boundary(styles_nm, labels_n, ridge=1.0).shift_m, torch.eye(500)[0]) > 0.9


def test_labels_that_tell_nothing_are_refused() -> None:
    styles_nm, labels_n, _ = faces()

    with pytest.raises(CodecError, match="expected 20 labelled faces or more, got 19"):
        fit_boundary(styles_nm[:19], labels_n[:19], ridge=1.0)
    with pytest.raises(CodecError, match="labels must differ, all 300 are 2"):
        fit_boundary(styles_nm, torch.full((NUM_FACES,), 2.0), ridge=1.0)
    with pytest.raises(CodecError, match="labels must be finite numbers"):
        fit_boundary(styles_nm, labels_n.log(), ridge=1.0)
