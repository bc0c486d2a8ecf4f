"""`framevault detect --masks` with torchvision's Mask R-CNN of random weights, on a vault of pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from framevault.storage.rle import decode_mask, mask_area
from tests.pipeline.command_line import query_rows, run_command
from tests.workers.detectors.random_detectors import published_state, random_detector, random_pictures

NAME = "maskrcnn_resnet50_fpn"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the old key layout, and a raw vault of two pictures with masks found in them."""
    folder = tmp_path_factory.mktemp("masks")
    torch.save(published_state(NAME, random_detector(NAME, short_side=64, long_side=96)), folder / "own.pth")
    (folder / "pictures").mkdir()
    for number, picture_chw in enumerate(random_pictures(2, 60, 90)):
        rgb_hwc = (picture_chw.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        Image.fromarray(np.ascontiguousarray(rgb_hwc)).save(folder / "pictures" / f"{number}.png")
    ended = run_command("compress", folder / "pictures", folder / "vault", "--codec", "raw")
    assert ended.code == 0, ended.stderr
    ended = run_command(
        "detect", folder / "vault", "--detector", NAME, "--detector-weights", folder / "own.pth", "--masks"
    )
    assert ended.code == 0, ended.stderr
    return folder


def test_every_object_has_a_mask_as_large_as_the_frame(folder: Path) -> None:
    rows = query_rows(folder / "vault", "select * from masks")
    (counts,) = query_rows(folder / "vault", "select count(*) as n from all_detections")

    assert len(rows) == counts["n"]
    assert len(rows) > 10
    for row in rows:
        assert (row["height"], row["width"]) == (60, 90)
        mask_hw = decode_mask(str(row["mask_rle"]), height=60, width=90)
        assert mask_hw.sum() == mask_area(str(row["mask_rle"]))
    assert any(mask_area(str(row["mask_rle"])) > 20 for row in rows)


def test_a_mask_lies_where_its_box_is(folder: Path) -> None:
    for row in query_rows(folder / "vault", "select * from masks"):
        mask_hw = decode_mask(str(row["mask_rle"]), height=60, width=90)
        if mask_hw.any():
            rows, columns = np.nonzero(mask_hw)
            # torchvision's masks stand out by one of 28 positions, half on each side.
            margin = 2 + 0.05 * 90
            assert columns.min() >= float(str(row["x_min"])) - margin
            assert columns.max() <= float(str(row["x_max"])) + margin
            assert rows.min() >= float(str(row["y_min"])) - margin
            assert rows.max() <= float(str(row["y_max"])) + margin


def test_asking_twice_costs_nothing_and_boxes_alone_are_another_question(folder: Path) -> None:
    question = ("detect", folder / "vault", "--detector", NAME, "--detector-weights", folder / "own.pth", "--json")

    again = json.loads(run_command(*question, "--masks").stdout.splitlines()[-1])
    boxes = json.loads(run_command(*question).stdout.splitlines()[-1])

    assert (again["num_cached"], boxes["num_cached"]) == (1, 0)
    assert again["labels"] == boxes["labels"]


def test_the_vault_is_clean_afterwards(folder: Path) -> None:
    ended = run_command("verify", folder / "vault")

    assert ended.code == 0, ended.stdout


def test_a_detector_without_masks_is_a_usage_error(folder: Path) -> None:
    ended = run_command("detect", folder / "vault", "--masks")

    assert ended.code == 2
    assert "'mobilenet_v2' gives no masks; these do: maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2" in ended.stderr


def test_features_of_another_backbone_are_a_usage_error(folder: Path, tmp_path: Path) -> None:
    run_command("compress", folder / "pictures", tmp_path / "vault")

    ended = run_command("detect", tmp_path / "vault", "--detector", NAME, "--detector-weights", folder / "own.pth")

    assert ended.code == 2
    assert f"holds features of mobilenet_v2, detector {NAME} reads those of resnet50" in ended.stderr
    assert "compress with --codec raw" in ended.stderr


def test_a_wrong_checkpoint_is_a_usage_error_that_names_the_key(folder: Path, tmp_path: Path) -> None:
    state = torch.load(folder / "own.pth", weights_only=True)
    del state["roi_heads.mask_predictor.conv5_mask.bias"]
    torch.save(state, tmp_path / "less.pth")

    ended = run_command(
        "detect", folder / "vault", "--detector", NAME, "--detector-weights", tmp_path / "less.pth", "--masks"
    )

    assert ended.code == 2
    assert "missing: roi_heads.mask_predictor.conv5_mask.bias" in ended.stderr
