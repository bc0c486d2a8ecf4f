"""Tests of `framevault bench face-sheet`, with a toy checkpoint that knows no faces."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from framevault.codecs.hsc.directions import Direction, directions_path, generator_fingerprint, save_directions
from tests.codecs.hsc.toy import TOY_CONFIG, save_toy
from tests.media import make_pictures
from tests.pipeline.command_line import run_command
from tests.pipeline.jobs.bench.test_compressai_anchors import write_model
from tests.pipeline.jobs.bench.toy_faces import write_toy_faces


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("weights") / "toy.safetensors")


def test_anchors_never_have_fewer_bytes_than_ours_if_they_can(weights: Path, tmp_path: Path) -> None:
    faces = write_toy_faces(tmp_path / "faces", 2)
    model = write_model(tmp_path / "low.pth", "bmshj2018-factorized")
    out = tmp_path / "sheet.png"

    ended = run_command(
        "bench", "face-sheet", faces / "0.png", faces / "1.png", "--out", out, "--weights", weights,
        "--qualities", "1,8", "--anchors", "x265-intra,webp", "--format", "json",
        "--anchor-checkpoint", f"bmshj2018-factorized={model}",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    codecs = ["hsc", "x265-intra slow", "webp", "bmshj2018-factorized"]
    assert [(row["picture"], row["codec"]) for row in rows] == [
        (name, codec) for name in ("0.png", "1.png") for _ in range(2) for codec in codecs
    ]
    for first in range(0, len(rows), len(codecs)):
        ours, x265, webp, _ = rows[first : first + len(codecs)]
        assert x265["payload_bytes"] >= ours["payload_bytes"] or x265["setting"] == "qp 20"
        assert webp["file_bytes"] == webp["payload_bytes"] + 20
    with Image.open(out) as sheet:
        assert sheet.width > 5 * 240
        assert sheet.height > 4 * 240


def test_edits_are_columns_with_the_bytes_of_what_they_edit(weights: Path, tmp_path: Path) -> None:
    faces = write_toy_faces(tmp_path / "faces", 1)
    shift_ld = torch.ones(TOY_CONFIG.num_styles, TOY_CONFIG.style)
    items = [Direction(name="smile", about="smiles", shift_ld=shift_ld)]
    save_directions(directions_path(weights), items, generator=generator_fingerprint(weights))
    common = ("bench", "face-sheet", faces / "0.png", "--out", tmp_path / "sheet.png", "--weights", weights)

    ended = run_command(*common, "--edit", "smile=+1.5", "--edit", "smile=0", "--format", "json")
    unknown = run_command(*common, "--edit", "frown=1")
    wrong = run_command(*common, "--edit", "smile")

    assert ended.code == 0, ended.stderr
    plain, smiles, same = (json.loads(line) for line in ended.stdout.splitlines())
    assert [row["codec"] for row in (plain, smiles, same)] == ["hsc", "smile +1.5", "smile +0"]
    assert plain["payload_bytes"] == smiles["payload_bytes"] == same["payload_bytes"]
    assert plain["psnr_db"] == same["psnr_db"] != smiles["psnr_db"]
    assert (unknown.code, wrong.code) == (2, 2)
    assert "edit 'frown' is unknown" in unknown.stderr
    assert "an edit must be like smile=+1.5, got 'smile'" in wrong.stderr


def test_squares_of_another_size_are_scaled_and_others_refused(weights: Path, tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "faces", [(40, 40), (96, 64)])
    square, wide = sorted(folder.iterdir())
    arguments = ("--out", tmp_path / "sheet.png", "--weights", weights, "--anchors", "webp")

    done = run_command("bench", "face-sheet", square, *arguments)
    refused = run_command("bench", "face-sheet", wide, *arguments)

    assert done.code == 0, done.stderr
    assert refused.code == 2
    assert "expected a square picture, an aligned face, got 96x64" in " ".join(refused.stderr.split())


def test_what_is_no_picture_and_no_picture_at_all_are_told(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    arguments = ("--out", tmp_path / "sheet.png", "--weights", weights)

    text = run_command("bench", "face-sheet", tmp_path / "text.png", *arguments)
    none = run_command("bench", "face-sheet", *arguments)

    assert (text.code, none.code) == (2, 2)
    assert "text.png: expected a picture" in " ".join(text.stderr.split())
    assert "expected pictures of aligned faces, or --samples" in " ".join(none.stderr.split())
    assert not (tmp_path / "sheet.png").exists()
