"""Five landmarks of a face, and the head that reads them from any numbers: ridge regression.

The labels are a file of a teacher's: a column `file`, and of each point its `_x` and `_y` in pixels. Errors are in per
cent of the distance between the eyes. Letters in shapes: N faces, M inputs, K = 10 outputs, P = 5 points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.face_labels import read_labels

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""Left and right as one sees them."""

FEWEST_FACES = 20
"""A head learns nothing from fewer."""

KEPT_EVERY = 5
"""One face in so many is kept from the fit while the ridge is chosen."""

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""To choose from, over the mean square of a face's inputs."""

LEAST_DEVIATION = 1e-3
"""Of an input, over the mean of all: one that hardly changes is noise."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Landmarks:
    """Where the teacher sees the points."""

    names: tuple[str, ...]
    """File names of the faces in which it found them."""
    points_np2: Tensor
    """Column and row in pixels, float32."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """A linear map."""

    weights_mk: Tensor
    """Of inputs as they come."""
    bias_k: Tensor
    """Added."""

    def __call__(self, inputs_nm: Tensor) -> Tensor:
        """Return what it says of faces, [N, K]."""
        return inputs_nm @ self.weights_mk + self.bias_k


def read_landmarks(path: Path) -> Landmarks:
    """Read a teacher's file.

    Raises:
        PreflightError: It can't be read, lacks a column, a value is no number, or both eyes are in one place.
    """
    labels = read_labels(path)
    columns = [labels.numbers(f"{point}_{axis}") for point in POINTS for axis in "xy"]
    points_np2 = torch.tensor(columns).T.reshape(-1, len(POINTS), 2).contiguous()
    if bool((_eye_distance(points_np2) == 0).any()):
        raise PreflightError(f"{path}: both eyes of a face must not be in one place")
    return Landmarks(names=labels.names, points_np2=points_np2)


def fit_head(inputs_nm: Tensor, targets_nk: Tensor) -> Head:
    """Fit a head with the ridge that is best on faces kept from the fit, then with all faces.

    Raises:
        PreflightError: There are too few faces.
    """
    if len(inputs_nm) < FEWEST_FACES:
        raise PreflightError(f"expected {FEWEST_FACES} faces or more to learn from, got {len(inputs_nm)}")
    is_kept_n = torch.arange(len(inputs_nm)) % KEPT_EVERY == 0
    errors = [
        float((head(inputs_nm[is_kept_n]) - targets_nk[is_kept_n]).square().mean())
        for head in _fit(inputs_nm[~is_kept_n], targets_nk[~is_kept_n], RIDGES)
    ]
    return _fit(inputs_nm, targets_nk, (RIDGES[int(np.argmin(errors))],))[0]


def landmark_errors(said_np2: Tensor, true_np2: Tensor) -> NDArray[np.float64]:
    """Return each face's mean distance of the points, in per cent of the distance between the true eyes, [N]."""
    distance_n = (said_np2 - true_np2).square().sum(dim=2).sqrt().mean(dim=1)
    errors_n: NDArray[np.float64] = (100 * distance_n / _eye_distance(true_np2)).double().numpy()
    return errors_n


def _eye_distance(points_np2: Tensor) -> Tensor:
    return (points_np2[:, 0] - points_np2[:, 1]).square().sum(dim=1).sqrt()


def _fit(inputs_nm: Tensor, targets_nk: Tensor, ridges: Sequence[float]) -> list[Head]:
    """Return a head a ridge, by the matrix of faces against faces, which is smaller than that of the inputs."""
    mean_m, mean_k = inputs_nm.mean(dim=0), targets_nk.mean(dim=0)
    deviation_m = inputs_nm.std(dim=0)
    scale_m = 1 / deviation_m.clamp_min(LEAST_DEVIATION * float(deviation_m.mean()) + torch.finfo(torch.float32).tiny)
    scaled_nm = (inputs_nm - mean_m) * scale_m
    products_nn = (scaled_nm @ scaled_nm.T).double()
    identity_nn = torch.eye(len(products_nn), dtype=torch.float64)
    size = float(products_nn.diagonal().mean()) + torch.finfo(torch.float32).tiny
    heads = []
    for ridge in ridges:
        solved_nk = torch.linalg.solve(
            products_nn + ridge * size * identity_nn, (targets_nk - mean_k).double(), left=True
        )
        weights_mk = (scaled_nm.T @ solved_nk.float()) * scale_m[:, None]
        heads.append(Head(weights_mk=weights_mk, bias_k=mean_k - mean_m @ weights_mk))
    return heads
