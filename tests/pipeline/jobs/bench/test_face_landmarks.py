"""Tests of landmarks and the head that reads them."""

from pathlib import Path

import pytest
import torch

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.face_landmarks import POINTS, fit_head, landmark_errors, read_landmarks


def write_landmarks(path: Path, names: list[str], *, side: int = 64) -> Path:
    """Write landmarks of a frontal face, a little apart from picture to picture."""
    columns = ",".join(f"{point}_{axis}" for point in POINTS for axis in "xy")
    rows = []
    for number, name in enumerate(names):
        step = number % 5
        points = [(0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.35, 0.7), (0.65, 0.7)]
        rows.append(",".join([name, *(f"{share * side + step:.2f}" for point in points for share in point), "0.99"]))
    path.write_text("\n".join([f"file,{columns},score", *rows]) + "\n")
    return path


def test_landmarks_are_read_in_their_order(tmp_path: Path) -> None:
    landmarks = read_landmarks(write_landmarks(tmp_path / "a.csv", ["a.png", "b.png"], side=100))

    assert landmarks.names == ("a.png", "b.png")
    assert landmarks.points_np2.shape == (2, 5, 2)
    assert landmarks.points_np2[1, 2].tolist() == [51, 51]
    assert landmarks.points_np2[0, 4].tolist() == [65, 70]


def test_errors_are_in_per_cent_of_the_distance_between_the_eyes() -> None:
    true_np2 = torch.tensor([[[10.0, 10], [50, 10], [30, 30], [20, 50], [40, 50]]])
    said_np2 = true_np2.clone()
    said_np2[0, 2] += torch.tensor([3.0, 4.0])

    assert landmark_errors(said_np2, true_np2).tolist() == pytest.approx([100 * 5 / 5 / 40])


def test_a_head_finds_what_is_linear_and_ignores_inputs_that_say_nothing() -> None:
    random = torch.Generator().manual_seed(1)
    inputs_nm = torch.randn(400, 30, generator=random) * torch.logspace(-2, 2, 30)
    inputs_nm[:, 7] = 3.0
    weights_mk = torch.randn(30, 4, generator=random) / torch.logspace(-2, 2, 30)[:, None]
    targets_nk = inputs_nm @ weights_mk + torch.tensor([1.0, -5, 0, 90])

    head = fit_head(inputs_nm[:300], targets_nk[:300])

    missed = (head(inputs_nm[300:]) - targets_nk[300:]).square().mean()
    assert missed < 1e-3 * targets_nk.var()


def test_a_head_for_noise_says_the_mean() -> None:
    random = torch.Generator().manual_seed(2)
    inputs_nm, targets_nk = torch.randn(100, 300, generator=random), torch.randn(100, 2, generator=random) + 7

    head = fit_head(inputs_nm, targets_nk)

    assert (head(torch.randn(200, 300, generator=random)) - 7).square().mean() < 0.4


def test_what_is_no_file_of_landmarks_is_told(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("file,left_eye_x\na.png,3\n")
    path = write_landmarks(tmp_path / "one.csv", ["a.png"])
    blind = tmp_path / "blind.csv"
    blind.write_text(path.read_text().replace("44.80,19.20", "19.20,19.20", 1))

    with pytest.raises(PreflightError, match="expected a column left_eye_y, got left_eye_x"):
        read_landmarks(tmp_path / "short.csv")
    with pytest.raises(PreflightError, match="both eyes of a face must not be in one place"):
        read_landmarks(blind)
    with pytest.raises(PreflightError, match="expected 20 faces or more to learn from, got 19"):
        fit_head(torch.zeros(19, 3), torch.zeros(19, 10))
