"""Directions from labelled faces, beyond styles: styles and feature as one vector, and faces that are alike elsewhere.

Where a codec's feature tells what its styles don't (with `face128`, where mouth and eyes are), a direction of styles
alone changes light and colour, whatever its label. So both are taken as one vector, in which each weighs as much as the
other. A boundary in it (`boundaries.py`) moves all that goes along with an attribute: glasses bring age. A contrast
moves what faces differ in that are alike outside the attribute's region: the label's coefficient in a least-squares fit
that also knows the principal coordinates of the rest (Frisch and Waugh, Econometrica 1, 1933). Letters in shapes: N
faces, L styles of D values, C channels of a feature of s x s positions, M values of both, R principal axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from framevault.codecs.errors import CodecError
from framevault.codecs.hsc.boundaries import check_labels, principal_axes

NUM_AXES = 40
"""R: principal axes by which faces are alike, of the feature elsewhere and of the styles each; 100 gave the same."""


class Region(NamedTuple):
    """Rows of the picture, as shares of its height."""

    top: float
    """0 to 1."""
    bottom: float
    """Above `top`, up to 1."""


class JointShift(NamedTuple):
    """A step of both."""

    styles_ld: Tensor
    """Of the styles, float32 [L, D]."""
    feature_chw: Tensor
    """Of the feature, float32 [C, s, s]."""


@dataclass(frozen=True, eq=False)
class JointValues:
    """Decoded styles and features of some faces."""

    styles_nld: Tensor
    """S^, float [N, L, D]."""
    feature_nchw: Tensor
    """f^, float [N, C, s, s]; half precision will do."""

    def vectors(self, numbers: Sequence[int]) -> Tensor:
        """Return those of some faces as vectors, float32 [N, M]."""
        styles_scale, feature_scale = self._scales
        chosen = torch.tensor(numbers, dtype=torch.long)
        styles_nm = self.styles_nld[chosen].flatten(1).float() / styles_scale
        return torch.cat([styles_nm, self.feature_nchw[chosen].flatten(1).float() / feature_scale], dim=1)

    def split(self, shift_m: Tensor) -> JointShift:
        """Return a step of such a vector as one of styles and one of the feature."""
        styles_scale, feature_scale = self._scales
        num_styles = self.styles_nld[0].numel()
        styles_m, feature_m = shift_m[:num_styles], shift_m[num_styles:]
        return JointShift(
            (styles_m * styles_scale).reshape(self.styles_nld.shape[1:]).to(torch.float32),
            (feature_m * feature_scale).reshape(self.feature_nchw.shape[1:]).to(torch.float32),
        )

    @cached_property
    def _scales(self) -> tuple[float, float]:
        """Return what makes the values of styles, and those of the feature, vary by 1 over all faces together."""
        total_styles = float(self.styles_nld.float().var(dim=0).sum())
        total_feature = float(self.feature_nchw.flatten(1).float().var(dim=0).sum())
        return max(total_styles, 1e-12) ** 0.5, max(total_feature, 1e-12) ** 0.5


def fit_contrast(values: JointValues, numbers: Sequence[int], labels_n: Tensor, *, region: Region) -> JointShift:
    """Find what faces differ in by an attribute, when they are alike outside its region.

    Args:
        values: Of faces.
        numbers: Which of them have a label.
        labels_n: Their labels: any numbers, or just two of them for a yes or no.
        region: Where the attribute is seen.

    Returns:
        What an amount of 1 adds: one standard deviation of the labels; of a yes or no, all the way from no to yes.

    Raises:
        CodecError: There are too few faces, a label is no number, all are the same, or the region has no rows, or all.
    """
    check_labels(len(numbers), labels_n)
    chosen = torch.tensor(numbers, dtype=torch.long)
    is_elsewhere_h = ~_rows(region, side=values.feature_nchw.shape[2])
    elsewhere_nm = values.feature_nchw[chosen][:, :, is_elsewhere_h].flatten(1)
    known_nr = torch.cat(
        [
            torch.ones(len(numbers), 1, dtype=torch.float64),
            _coordinates(elsewhere_nm),
            _coordinates(values.styles_nld[chosen].flatten(1)),
        ],
        dim=1,
    )
    labels_n = labels_n.to(torch.float64)
    told_n = known_nr @ torch.linalg.lstsq(known_nr, labels_n[:, None]).solution[:, 0]
    rest_n = labels_n - told_n
    if float(rest_n.square().sum()) <= 1e-9 * float((labels_n - labels_n.mean()).square().sum()):
        raise CodecError(
            f"what faces are elsewhere tells their label entirely: expected more than {len(numbers)} faces"
        )
    vectors_nm = values.vectors(numbers)
    slope_m = (vectors_nm - vectors_nm.mean(dim=0)).T @ (rest_n / rest_n.square().sum()).float()
    is_yes_or_no = len(set(labels_n.tolist())) == 2
    step = float(labels_n.max() - labels_n.min()) if is_yes_or_no else float(labels_n.std())
    return values.split(slope_m * step)


def _rows(region: Region, *, side: int) -> Tensor:
    """Return which rows of a feature lie in a region, bool [s]."""
    middles_h = (torch.arange(side) + 0.5) / side
    inside_h = (middles_h >= region.top) & (middles_h < region.bottom)
    if not inside_h.any() or inside_h.all():
        raise CodecError(
            f"a region must have some of the {side} rows of features, and not all, got {region.top:g}:{region.bottom:g}"
        )
    return inside_h


def _coordinates(values_nm: Tensor) -> Tensor:
    """Return faces along the first principal axes, each of variance 1, float64 [N, R]; there may be fewer axes."""
    values_nm = values_nm.to(torch.float64)
    mean_m, axes_rm = principal_axes(values_nm)
    # More axes than a quarter of the faces would tell each face apart, and so all labels.
    coordinates_nr = (values_nm - mean_m) @ axes_rm[: min(NUM_AXES, len(values_nm) // 4)].T
    return coordinates_nr / coordinates_nr.std(dim=0)
