"""Directions from labelled faces: the linear boundary that tells an attribute from styles, and the way across it.

The boundary is that of InterFaceGAN (Shen et al., CVPR 2020, arXiv 1907.10786), found by ridge or logistic regression
instead of a support vector machine. We differ in the way across it: the paper goes along the boundary's normal, which
suits latents that vary equally in all directions. Decoded styles don't, and there the normal points to where faces
hardly differ at all; ours goes along what faces on both sides differ in (covariance times normal: Haufe et al.,
NeuroImage 87, 2014, equation 6). On faces of 128 pixels the same step changes what is measured by 1.3 to 10 times as
much. Letters in shapes: N faces, M values of a face (its styles, or styles and feature), R principal axes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from framevault.codecs.errors import CodecError

MOST_AXES = 256
"""R at most: what faces span besides is noise."""

LEAST_FACES = 20
"""Fewer tell nothing."""

TEST_EVERY = 5
"""One face in so many is kept from the fit and tells how well it holds."""

NEWTON_STEPS = 25
"""Of the logistic fit; with a ridge it converges in some ten."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boundary:
    """One attribute's."""

    shift_m: Tensor
    """From one side to the other: one standard deviation of what the boundary says of faces, float32 [M]."""
    agreement: float
    """On faces that it was not fitted to: the correlation with the labels, -1..1."""


def fit_boundary(values_nm: Tensor, labels_n: Tensor, *, ridge: float) -> Boundary:
    """Find the boundary of one attribute.

    Args:
        values_nm: Decoded styles of faces, or styles and feature as one vector (`contrasts.JointValues`).
        labels_n: The attribute: any numbers, or just two of them for a yes or no.
        ridge: Weight of the normal's length, over the mean variance of an axis.

    Raises:
        CodecError: There are too few faces, a label is no number, or all labels are the same.
    """
    check_labels(len(values_nm), labels_n)
    values_nm, labels_n = values_nm.to(torch.float64), labels_n.to(torch.float64)
    is_test_n = torch.arange(len(labels_n)) % TEST_EVERY == 0
    mean_m, axes_rm = principal_axes(values_nm)
    coordinates_nr = (values_nm - mean_m) @ axes_rm.T
    fit = _fit_logistic if len(set(labels_n.tolist())) == 2 else _fit_ridge
    tested_r = fit(coordinates_nr[~is_test_n], labels_n[~is_test_n], ridge)
    agreement = _correlation(coordinates_nr[is_test_n] @ tested_r, labels_n[is_test_n])
    said_n = coordinates_nr @ fit(coordinates_nr, labels_n, ridge)
    shift_m = (values_nm - mean_m).T @ said_n / (len(said_n) - 1) / said_n.std()
    return Boundary(shift_m=shift_m.to(torch.float32), agreement=agreement)


def check_labels(num_faces: int, labels_n: Tensor) -> None:
    """Check that labels can tell something.

    Raises:
        CodecError: There are too few faces, a label is no number, or all labels are the same.
    """
    if num_faces != len(labels_n) or len(labels_n) < LEAST_FACES:
        raise CodecError(f"expected {LEAST_FACES} labelled faces or more, got {len(labels_n)}")
    if not labels_n.isfinite().all():
        raise CodecError("labels must be finite numbers")
    if len(set(labels_n.tolist())) < 2:
        raise CodecError(f"labels must differ, all {len(labels_n)} are {float(labels_n[0]):g}")


def principal_axes(values_nm: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean [M] and the axes of unit length [R, M] in which faces differ most, the first most."""
    mean_m = values_nm.mean(dim=0)
    centred_nm = values_nm - mean_m
    # By the small matrix of the two.
    values_n, vectors_nn = torch.linalg.eigh(centred_nm @ centred_nm.T)
    kept = (values_n > values_n[-1] * 1e-9).nonzero().flatten().flip(0)[:MOST_AXES]
    axes_rm = (vectors_nn[:, kept] / values_n[kept].sqrt()).T @ centred_nm
    return mean_m, axes_rm


def _fit_ridge(coordinates_nr: Tensor, labels_n: Tensor, ridge: float) -> Tensor:
    """Return the normal [R] that predicts the labels with the least squared error."""
    centred_n = labels_n - labels_n.mean()
    covariance_rr = coordinates_nr.T @ coordinates_nr / len(labels_n)
    penalty_rr = ridge * covariance_rr.diagonal().mean() * torch.eye(len(covariance_rr), dtype=torch.float64)
    normal_r: Tensor = torch.linalg.solve(covariance_rr + penalty_rr, coordinates_nr.T @ centred_n / len(labels_n))
    return normal_r


def _fit_logistic(coordinates_nr: Tensor, labels_n: Tensor, ridge: float) -> Tensor:
    """Return the normal [R] of the larger label's probability, by Newton's method; the offset is not penalised."""
    targets_n = (labels_n == labels_n.max()).to(torch.float64)
    scale = coordinates_nr.square().mean().sqrt()
    inputs_nq = torch.cat([coordinates_nr / scale, torch.ones(len(targets_n), 1, dtype=torch.float64)], dim=1)
    # A tiny weight on the offset, too, so that the matrix is never singular.
    penalty_q = torch.full((inputs_nq.shape[1],), ridge, dtype=torch.float64).index_fill(0, torch.tensor(-1), 1e-6)
    weights_q = torch.zeros(inputs_nq.shape[1], dtype=torch.float64)
    for _ in range(NEWTON_STEPS):
        chances_n = torch.sigmoid(inputs_nq @ weights_q)
        gradient_q = inputs_nq.T @ (chances_n - targets_n) / len(targets_n) + penalty_q * weights_q
        slopes_n1 = (chances_n * (1 - chances_n) / len(targets_n))[:, None]
        weights_q -= torch.linalg.solve(inputs_nq.T @ (slopes_n1 * inputs_nq) + penalty_q.diag(), gradient_q)
    return weights_q[:-1]


def _correlation(predicted_n: Tensor, labels_n: Tensor) -> float:
    pair_2n = torch.stack([predicted_n, labels_n])
    if bool((pair_2n.std(dim=1) == 0).any()):
        return 0.0
    return float(torch.corrcoef(pair_2n)[0, 1])
