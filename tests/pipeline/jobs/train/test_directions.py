"""`framevault train directions` with a toy checkpoint, whose directions are then restored along."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from framevault.codecs.hsc.directions import directions_path, generator_fingerprint, load_directions
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.face_labels import match_labels, read_labels
from tests.codecs.hsc.toy import TOY_CONFIG, save_toy
from tests.pipeline.command_line import Ended, run_command

NUM_FACES = 40
SIDE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and pictures whose red rises with their number, labelled by it."""
    folder = tmp_path_factory.mktemp("directions")
    save_toy(folder / "toy.safetensors")
    (folder / "faces").mkdir()
    random = np.random.default_rng(13)
    lines = ["file,attribute,value"]
    for number in range(NUM_FACES):
        rgb_hwc = random.integers(0, 40, (SIDE, SIDE, 3), np.uint8)
        rgb_hwc[..., 0] += np.uint8(5 * number)
        Image.fromarray(rgb_hwc).save(folder / "faces" / f"{number:03d}.png")
        lines.append(f"{number:03d}.png,redness,{number}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    # The toy's styles know little: what they agree with is not what is tested here.
    (folder / "job.yaml").write_text("least_agreement: 0.0\namounts: [-1.0, 0.0, 1.0]\nsheet_faces: 2\n")
    return folder


def train(folder: Path, *arguments: str | Path) -> Ended:
    return run_command(
        "train", "directions", "--weights", folder / "toy.safetensors", "--data", folder / "faces",
        "--config", folder / "job.yaml", "--device", "cpu", *arguments,
    )  # fmt: skip


def test_directions_are_found_drawn_and_edited_along(folder: Path, tmp_path: Path) -> None:
    ended = train(
        folder, "--labels", folder / "labels.csv", "--sheets", tmp_path / "sheets", "--factors", "1", "--json",
        "--keep", "redness,middle-1=nose",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert [each["name"] for each in summary["directions"]] == ["redness", "nose"]
    assert summary["directions"][0]["agreement"] > 0.5
    path = directions_path(folder / "toy.safetensors")
    found = load_directions(path, generator=generator_fingerprint(folder / "toy.safetensors"))
    assert found.shape == (TOY_CONFIG.num_styles, TOY_CONFIG.style)
    assert found.find("nose").about == "factor 1 of the generator's middle styles"
    # Three amounts and the original, two faces; a face that is not edited is what is restored of it.
    assert sorted(Path(name).name for name in summary["sheets"]) == ["nose.png", "redness.png"]
    with Image.open(tmp_path / "sheets" / "nose.png") as sheet:
        assert sheet.width == 4 + 4 * (SIDE + 4)
        assert sheet.height == 4 + 2 * (SIDE + 16 + 4)

    run_command("compress", folder / "faces", tmp_path / "vault", "--codec", "hsc", "--weights",
                folder / "toy.safetensors")  # fmt: skip
    restored = run_command("restore", tmp_path / "vault", tmp_path / "out", "--weights", folder / "toy.safetensors",
                           "--edit", "nose=2", "--where", "time_s < 2")  # fmt: skip
    assert restored.code == 0, restored.stderr


def test_without_keep_all_that_was_found_is_written(folder: Path, tmp_path: Path) -> None:
    ended = train(folder, "--out", tmp_path / "d.safetensors", "--factors", "2", "--json")

    assert ended.code == 0, ended.stderr
    names = [each["name"] for each in json.loads(ended.stdout.splitlines()[-1])["directions"]]
    # The toy's 64 pixels have all three groups.
    assert names[-6:] == ["coarse-1", "coarse-2", "middle-1", "middle-2", "fine-1", "fine-2"]
    assert "warmth" in names


def test_what_styles_say_nothing_of_is_left_out_and_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("least_agreement: 1.0\n")

    ended = run_command(
        "train", "directions", "--weights", folder / "toy.safetensors", "--data", folder / "faces",
        "--config", tmp_path / "job.yaml", "--device", "cpu", "--out", tmp_path / "d.safetensors",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    assert "brightness is left out: styles agree with it by" in ended.stderr


@pytest.mark.parametrize(("arguments", "has_feature"), [((), True), (("--moves", "styles"), False)])
def test_edits_by_labels_move_the_feature_unless_told_otherwise(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], has_feature: bool
) -> None:
    ended = train(folder, "--out", tmp_path / "d.safetensors", "--labels", folder / "labels.csv", "--factors", "1",
                  *arguments)  # fmt: skip

    assert ended.code == 0, ended.stderr
    found = load_directions(tmp_path / "d.safetensors", generator=generator_fingerprint(folder / "toy.safetensors"))
    assert (found.find("redness").shift_chw is not None) == has_feature
    # Those of pixels and of weights are of styles.
    assert [item.name for item in found.items if item.shift_chw is not None] == ["redness"] * has_feature


def test_a_region_compares_faces_that_are_alike_elsewhere(folder: Path, tmp_path: Path) -> None:
    common = ("--labels", folder / "labels.csv", "--factors", "0", "--keep", "redness")
    train(folder, "--out", tmp_path / "all.safetensors", *common)

    ended = train(folder, "--out", tmp_path / "rows.safetensors", *common, "--region", "redness=0.25:0.75")

    assert ended.code == 0, ended.stderr
    generator = generator_fingerprint(folder / "toy.safetensors")
    anywhere, rows = (
        load_directions(tmp_path / f"{name}.safetensors", generator=generator).find("redness").shift_chw
        for name in ("all", "rows")
    )
    assert anywhere is not None
    assert rows is not None
    middles_h = (torch.arange(TOY_CONFIG.split) + 0.5) / TOY_CONFIG.split
    is_elsewhere_h = (middles_h < 0.25) | (middles_h >= 0.75)
    # Redness is everywhere: of faces that are alike elsewhere, elsewhere little is left of it.
    assert rows[:, is_elsewhere_h].norm() < 0.3 * anywhere[:, is_elsewhere_h].norm()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--region", "smile=0.2:0.5"), "region: smile has no labels; labelled are none"),
        (("--region", "smile"), "--region must be like glasses=0.15:0.6, got 'smile'"),
        (("--region", "smile=0.5:0.2"), "a region must be two rising shares of the height, as 0.15:0.6, got 0.5:0.2"),
        (("--moves", "features"), "moves: should be 'both' or 'styles', got 'features'"),
        (("--keep", "smile"), "keep: 'smile' was not found; found were"),
        (("--keep", "warmth=Big Smile"), "a direction's name must be like smile or factor-3"),
        (("--labels", "nowhere.csv"), "labels nowhere.csv can't be read"),
    ],
)
def test_what_can_not_be_is_a_usage_error(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = train(folder, "--out", tmp_path / "d.safetensors", *arguments)

    assert ended.code == 2
    assert message in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_labels_are_matched_by_the_end_of_a_name() -> None:
    labels = {"a.png": 1.0, "men/b.png": 2.0, "c.png": 3.0}

    found = match_labels(labels, ["faces/men/a.png", "faces/men/b.png", "faces/women/b.png", "d.png"])

    assert found == {0: 1.0, 1: 2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,attribute,value\n", "the first line must be file,attribute,value"),
        ("file,attribute,value\n", "expected labels, got none"),
        ("file,attribute,value\na.png,smile\n", "line 2: expected file,attribute,value, got"),
        ("file,attribute,value\na.png,smile,big\n", "line 2: value must be a number, got 'big'"),
        ("file,attribute,value\na.png,smile,inf\n", "line 2: value must be a number, got 'inf'"),
        ("file,attribute,value\na.png,Big Smile,1\n", "line 2: attribute must be like smile or head-turn"),
        ("file,attribute,value\na.png,smile,1\na.png,smile,2\n", "line 3: a.png has a second value of smile"),
    ],
)
def test_wrong_labels_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)

    with pytest.raises(PreflightError, match=message):
        read_labels(tmp_path / "labels.csv")
