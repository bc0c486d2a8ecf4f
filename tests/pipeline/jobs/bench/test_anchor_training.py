"""Tests of training CompressAI's models: for a few steps, with few channels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench import anchor_training
from framevault.pipeline.jobs.bench.anchor_training import AnchorRecipe, train_anchor
from framevault.pipeline.jobs.bench.compressai_anchors import load_anchor
from framevault.pipeline.jobs.train import crops
from framevault.pipeline.jobs.train.budget import Budget
from framevault.pipeline.jobs.train.errors import TrainingError
from framevault.pipeline.jobs.train.pictures import PictureSet
from tests.media import make_pictures
from tests.media import test_pattern as draw_pattern
from tests.pipeline.command_line import run_command

PICTURES = PictureSet(tuple(np.asarray(draw_pattern(n, width=96, height=80)) for n in range(4)), ("a", "b", "c", "d"))


def recipe(steps: int, *, name: str = "mbt2018-mean", rate_weight: float = 0.05, crop: int = 64) -> AnchorRecipe:
    budget = Budget(steps=steps, seconds=None)
    return AnchorRecipe(
        name=name, rate_weight=rate_weight, channels=(8, 12), budget=budget, crop=crop, batch_size=2, seed=3
    )


def pixel_error(tmp_path: Path, state: dict[str, torch.Tensor]) -> float:
    """Return the squared error of pictures after real streams."""
    torch.save(state, tmp_path / "model.pth")
    frames_nchw = torch.from_numpy(np.stack(PICTURES.rgb_hwc)).permute(0, 3, 1, 2)
    (coded,) = load_anchor("mbt2018-mean", tmp_path / "model.pth").code(((frames_nchw,),), fps=25)
    return float((coded.decoded_nchw.float() - frames_nchw.float()).square().mean())


def test_a_model_learns_and_its_file_gives_real_streams(tmp_path: Path) -> None:
    told: list[str] = []

    begun, trained = (train_anchor(PICTURES, recipe(steps), on_report=told.append) for steps in (1, 30))

    assert pixel_error(tmp_path, trained) < 0.96 * pixel_error(tmp_path, begun)
    assert [line.split(":")[0] for line in told] == ["step 1", "step 30"]


def test_a_training_by_steps_can_be_repeated() -> None:
    one, two = (train_anchor(PICTURES, recipe(2), on_report=lambda _: None) for _ in range(2))

    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    with pytest.raises(TrainingError, match="step 0: the loss is inf; take a smaller --lambda"):
        train_anchor(PICTURES, recipe(3, rate_weight=1e300), on_report=lambda _: None)


def test_the_command_writes_a_file_that_can_be_measured(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures", sizes=[(80, 70)] * 3)

    ended = run_command(
        "bench", "train-anchor", "bmshj2018-factorized", "--data", folder, "--out", tmp_path / "low.pth",
        "--steps", "2", "--channels", "6,8", "--crop", "64", "--batch-size", "2",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    assert "3 pictures, 0 can't be read" in ended.stderr
    assert load_anchor("bmshj2018-factorized", tmp_path / "low.pth").setting == "low"


def test_faces_are_learned_from_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = make_pictures(tmp_path / "faces", sizes=[(64, 64)] * 3)
    seen: list[torch.Tensor] = []

    def plain_crops(*arguments: Any, **keywords: Any) -> torch.Tensor:  # noqa: ANN401  # whatever they are
        seen.append(crops.plain_crops(*arguments, **keywords))
        return seen[-1]

    monkeypatch.setattr(anchor_training, "plain_crops", plain_crops)

    ended = run_command(
        "bench", "train-anchor", "bmshj2018-factorized", "--data", faces, "--out", tmp_path / "low.pth", "--unscaled",
        "--steps", "4", "--channels", "6,8", "--crop", "64", "--batch-size", "3",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    originals = [torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in faces.iterdir()]
    allowed = [*originals, *(original.flip(2) for original in originals)]
    assert all(any(torch.equal(crop, each) for each in allowed) for crop in torch.cat(seen))


def test_pictures_too_small_for_an_unscaled_crop_are_named(tmp_path: Path) -> None:
    faces = make_pictures(tmp_path / "faces", sizes=[(64, 64)])

    ended = run_command(
        "bench", "train-anchor", "mbt2018", "--data", faces, "--out", tmp_path / "a", "--unscaled", "--crop", "128"
    )

    assert ended.code == 2
    assert "expected 128 pixels a side or more, as --crop, got 64x64" in " ".join(ended.stderr.split())


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures", sizes=[(80, 70)])
    (tmp_path / "file").write_text("")
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        (("vgg16", "--data", folder, "--out", tmp_path / "a"), "got 'vgg16'"),
        (("mbt2018", "--data", tmp_path / "none", "--out", tmp_path / "a"), "none: no such file or folder"),
        (("mbt2018", "--data", folder, "--out", tmp_path / "file" / "a"), "expected a folder that can be written"),
        (("mbt2018", "--data", folder, "--out", tmp_path / "a", "--channels", "64"), "--channels must be two numbers"),
        (("mbt2018", "--data", folder, "--out", tmp_path / "a", "--crop", "100"), "--crop must be a multiple of 64"),
        (("mbt2018", "--data", folder, "--out", tmp_path / "a", "--lambda", "0"), "--lambda must be a positive"),
    ]

    for arguments, message in cases:
        ended = run_command("bench", "train-anchor", *arguments)
        assert (ended.code, message in ended.stderr) == (2, True), (arguments, ended)


def test_a_recipe_is_checked() -> None:
    with pytest.raises(PreflightError, match="--channels must be two positive numbers"):
        AnchorRecipe(name="mbt2018", rate_weight=1, channels=(0, 4), budget=Budget(steps=1, seconds=None))
