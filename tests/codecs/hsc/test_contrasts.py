"""Contrasts: of faces made from known facts, what an attribute changes is found, and what goes along with it is not."""

import pytest
import torch
from torch import Tensor

from framevault.codecs.errors import CodecError
from framevault.codecs.hsc.boundaries import fit_boundary
from framevault.codecs.hsc.contrasts import JointValues, Region, fit_contrast

NUM_FACES, STYLES, CHANNELS, SIDE = 400, (3, 4), 6, 8
EYES = Region(0.25, 0.5)
"""Rows 2 and 3 of 8."""


def faces() -> tuple[JointValues, Tensor, Tensor, Tensor]:
    """Return values in which age is seen everywhere, and glasses, which the old wear, in rows 2 and 3 alone.

    Besides: whether each wears glasses, what glasses change, and what age does.
    """
    random = torch.Generator().manual_seed(21)
    age_n = torch.randn(NUM_FACES, generator=random)
    wears_n = (age_n + torch.randn(NUM_FACES, generator=random) > 0.8).float()
    glasses_chw = torch.zeros(CHANNELS, SIDE, SIDE)
    glasses_chw[:, 2:4] = torch.randn(CHANNELS, 2, SIDE, generator=random)
    age_chw = torch.randn(CHANNELS, SIDE, SIDE, generator=random)
    noise_nchw = 0.1 * torch.randn(NUM_FACES, CHANNELS, SIDE, SIDE, generator=random)
    feature_nchw = 3 + noise_nchw + wears_n[:, None, None, None] * glasses_chw + age_n[:, None, None, None] * age_chw
    styles_nld = torch.randn(NUM_FACES, *STYLES, generator=random)
    return JointValues(styles_nld, feature_nchw), wears_n, glasses_chw, age_chw


def share_of(shift_chw: Tensor, pattern_chw: Tensor) -> float:
    """Return how much of a pattern is in a shift: 1 is once."""
    return float((shift_chw * pattern_chw).sum() / pattern_chw.square().sum())


def test_what_a_yes_adds_is_found_and_nothing_that_goes_along_with_it() -> None:
    values, wears_n, glasses_chw, age_chw = faces()
    numbers = range(NUM_FACES)

    contrast = fit_contrast(values, numbers, wears_n, region=EYES)
    boundary = values.split(fit_boundary(values.vectors(numbers), wears_n, ridge=0.1).shift_m)

    # An amount of 1 is all of it, and brings no age, where the boundary brings more age than glasses.
    assert (contrast.feature_chw - glasses_chw).square().mean().sqrt() < 0.05
    assert abs(share_of(contrast.feature_chw[:, 4:], age_chw[:, 4:])) < 0.02
    assert contrast.styles_ld.abs().max() < 0.3
    assert share_of(boundary.feature_chw[:, 4:], age_chw[:, 4:]) > 0.3


def test_numbers_are_moved_by_one_standard_deviation() -> None:
    values, wears_n, glasses_chw, _ = faces()
    strength_n = 5 * wears_n + torch.linspace(0, 0.01, NUM_FACES)

    contrast = fit_contrast(values, range(NUM_FACES), strength_n, region=EYES)

    assert share_of(contrast.feature_chw, glasses_chw) == pytest.approx(float(wears_n.std()), rel=0.05)


def test_faces_without_a_label_are_not_asked() -> None:
    values, wears_n, _, _ = faces()
    numbers = list(range(0, NUM_FACES, 2))
    spoilt_nchw = values.feature_nchw.clone()
    spoilt_nchw[1::2] += 100 * torch.randn(NUM_FACES // 2, CHANNELS, SIDE, SIDE)

    found = fit_contrast(values, numbers, wears_n[numbers], region=EYES)
    again = fit_contrast(JointValues(values.styles_nld, spoilt_nchw), numbers, wears_n[numbers], region=EYES)

    assert torch.allclose(found.feature_chw, again.feature_chw, atol=1e-3)


def test_vectors_are_split_into_what_they_were_made_of() -> None:
    values, *_ = faces()

    vectors_nm = values.vectors([7, 3])
    back = values.split(vectors_nm[1])

    assert vectors_nm.shape == (2, 12 + CHANNELS * SIDE * SIDE)
    assert torch.allclose(back.styles_ld, values.styles_nld[3], atol=1e-6)
    assert torch.allclose(back.feature_chw, values.feature_nchw[3], atol=1e-5)
    # Each of the two varies as much as the other.
    all_nm = values.vectors(range(NUM_FACES))
    assert float(all_nm[:, :12].var(dim=0).sum()) == pytest.approx(float(all_nm[:, 12:].var(dim=0).sum()), rel=1e-4)


@pytest.mark.parametrize("region", [Region(0.0, 1.0), Region(0.26, 0.3)])
def test_a_region_has_some_rows_and_not_all(region: Region) -> None:
    values, wears_n, _, _ = faces()

    with pytest.raises(CodecError, match="a region must have some of the 8 rows of features, and not all, got 0"):
        fit_contrast(values, range(NUM_FACES), wears_n, region=region)


def test_labels_must_tell_something() -> None:
    values, wears_n, _, _ = faces()

    with pytest.raises(CodecError, match="labels must differ, all 400 are 1"):
        fit_contrast(values, range(NUM_FACES), torch.ones(NUM_FACES), region=EYES)
    with pytest.raises(CodecError, match="expected 20 labelled faces or more, got 19"):
        fit_contrast(values, range(19), wears_n[:19], region=EYES)
