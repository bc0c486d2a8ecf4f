"""The whole command at toy size: what it writes, how it resumes, and what it refuses."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from torchvision.models import get_model

from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.spec import CodecSpec, codec_fingerprint
from framevault.pipeline.jobs.train import job as train_job
from framevault.pipeline.jobs.train.codec_recipe import SCRATCH
from tests.media import VideoSpec, make_pictures, make_video
from tests.pipeline.command_line import Ended, run_command
from tests.pipeline.jobs.train.toy import (
    NUM_PICTURES,
    make_data,
    read_rows,
    tear,
    timeless,
    write_settings,
)

STAGES = ("pretrain", "re", "codec")

SHIPPED = CodecSpec(name="dicm").checkpoint_path or Path()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data") / "pictures")


def train(data: Path, out: Path, *arguments: str | Path, **settings: object) -> Ended:
    """Train at toy size."""
    config = write_settings(out.with_name(f"{out.name}.yaml"), **settings)
    return run_command("train", "dicm", "--data", data, "--out", out, "--config", config, *arguments)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A training that nobody disturbed."""
    out = tmp_path_factory.mktemp("trained") / "out"
    ended = train(data, out)
    assert ended.code == 0, ended.stderr
    return out, ended


def stop_after(num_steps: int) -> Callable[[], object]:
    """Return what stands for Ctrl-C after some steps: the wish is asked for once a step."""

    @contextmanager
    def watch() -> Iterator[Callable[[], bool]]:
        asked = 0

        def is_told_to_stop() -> bool:
            nonlocal asked
            asked += 1
            return asked >= num_steps

        yield is_told_to_stop

    return watch


def test_a_training_leaves_a_checkpoint_settings_metrics_and_curves(trained: tuple[Path, Ended]) -> None:
    out, ended = trained

    rows = read_rows(out, "training")
    assert [row["step"] for row in rows] == [2, 4]
    assert all(isinstance(row["loss"], float) for row in rows)
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert (settings["steps"], settings["video_fps"], settings["average_decay"]) == (4, 2.0, 0.998)
    assert (out / "codec.png").read_bytes().startswith(b"\x89PNG")
    assert f"--weights {out}/dicm.safetensors" in ended.stdout
    assert (out / "dicm.safetensors").read_bytes() == (out / "codec.safetensors").read_bytes()
    assert "stage video is left out" in ended.stderr
    assert "codec: step 4 (100%)" in ended.stderr


def test_what_is_measured_are_real_bytes_of_held_out_pictures(trained: tuple[Path, Ended]) -> None:
    out, _ = trained

    rows = read_rows(out, "validation")

    assert [row["quality"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    for row in rows:
        size, bpp, error = row["bytes_per_picture"], row["bits_per_pixel"], row["feature_error"]
        assert isinstance(size, float)
        assert isinstance(bpp, float)
        assert isinstance(error, float)
        assert size == int(size) > 0  # of one picture
        assert 8 * size / (128 * 96) <= bpp <= 8 * size / (72 * 72)
        assert error > 0


def test_a_vault_can_be_written_and_searched_with_what_was_trained(data: Path, tmp_path: Path) -> None:
    ended = train(data, tmp_path / "out", from_scratch=None, steps=1, held_out=0)
    assert ended.code == 0, ended.stderr
    assert "motion: maps are fitted to 48 crops" in ended.stderr
    weights = tmp_path / "out" / "dicm.safetensors"
    video, vault = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=3)), tmp_path / "vault"

    compressed = run_command("compress", video, vault, "--weights", weights, "--quality", "3")
    weights.unlink()
    detected = run_command("detect", vault)

    # The vault has kept what it needs.
    assert compressed.code == 0, compressed.stderr
    assert detected.code == 0, detected.stderr
    assert "3 frames of 1 segments" in detected.stdout


def test_stopped_and_run_again_it_ends_where_it_would_have_ended(
    trained: tuple[Path, Ended], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(train_job, "watch_for_stop", stop_after(3))
        stopped = train(data, out)

    was_exported = (out / "codec.safetensors").exists()

    again = train(data, out)

    assert stopped.code == 130
    assert not was_exported
    assert again.code == 0, again.stderr
    assert "goes on after 3 steps" in again.stderr
    assert (out / "codec.safetensors").read_bytes() == (trained[0] / "codec.safetensors").read_bytes()
    assert timeless(read_rows(out, "training")) == timeless(read_rows(trained[0], "training"))


def test_a_finished_training_is_left_as_it_is(trained: tuple[Path, Ended], data: Path) -> None:
    out, first = trained
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}

    again = train(data, out)

    assert again.code == 0
    assert "finished before" in again.stderr
    assert again.stdout == first.stdout
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_other_settings_for_the_same_folder_are_refused_by_name(trained: tuple[Path, Ended], data: Path) -> None:
    ended = train(data, trained[0], crop=128)

    assert ended.code == 2
    assert "other settings (crop: 64 before, 128 now)" in ended.stderr


def test_a_checkpoint_is_a_start_whose_own_figures_are_measured_first(
    trained: tuple[Path, Ended], data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    ended = train(data, out, "--init", trained[0] / "codec.safetensors", from_scratch=None, steps=2)

    assert ended.code == 0, ended.stderr
    start = [row for row in read_rows(out, "validation") if row["checkpoint"] == "start"]
    before = read_rows(trained[0], "validation")
    names = ("quality", "bytes_per_picture", "feature_error")
    assert [[row[name] for name in names] for row in start] == [[row[name] for name in names] for row in before]
    assert "bits_per_pixel_before" in ended.stdout


def test_the_stages_before_hand_on_what_they_learnt(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--backbone", own_backbone(tmp_path / "mine.pth"), "--stages", "pretrain,re,codec")

    ended = train(data, out, *arguments, steps=10, report_steps=1, held_out=0)

    assert ended.code == 0, ended.stderr
    steps = {stage: [row["step"] for row in read_rows(out, "training") if row["stage"] == stage] for stage in STAGES}
    assert steps == {"pretrain": [1, 2], "re": [1], "codec": [1, 2, 3, 4, 5, 6, 7]}
    pretrained, _ = load_checkpoint(out / "pretrain.safetensors", codec="dicm-parts")
    trained, _ = load_checkpoint(out / "codec.safetensors", codec="dicm")
    shipped, _ = load_checkpoint(SHIPPED, codec="dicm")
    head = {name for name in pretrained if name.startswith("head.")}
    assert all(torch.equal(trained[f"networks.{name}"], pretrained[name]) for name in head)
    assert not all(torch.equal(shipped[f"networks.{name}"], pretrained[name]) for name in head)
    assert "deep losses: with pretrain.safetensors, without classes" in ended.stderr


@pytest.mark.parametrize("stage", ["pretrain", pytest.param("re", marks=pytest.mark.slow)])
def test_an_earlier_stage_goes_on_as_if_it_had_not_been_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    arguments = ("--backbone", own_backbone(tmp_path / "mine.pth"), "--stages", stage)
    settings = {"steps": 3, "report_steps": 1, "held_out": 0}
    train(data, tmp_path / "straight", *arguments, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(train_job, "watch_for_stop", stop_after(2))
        stopped = train(data, tmp_path / "out", *arguments, **settings)

    ended = train(data, tmp_path / "out", *arguments, **settings)

    assert (stopped.code, ended.code) == (130, 0), ended.stderr
    one, other = (
        load_checkpoint(tmp_path / name / f"{stage}.safetensors", codec="dicm-parts")[0] for name in ("straight", "out")
    )
    assert one.keys() == other.keys()
    if stage == "re":
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_bad_pictures_are_listed_and_left_out(data: Path, tmp_path: Path) -> None:
    folder = make_data(tmp_path / "pictures")
    tear(folder / "000.png", folder / "torn.png")
    (folder / "letter.jpg").write_text("Dear archive")

    ended = train(folder, tmp_path / "out", steps=1, held_out=0)

    assert ended.code == 3, ended.stderr
    assert "2 pictures or sources can't be read" in ended.stdout
    assert "torn.png" in ended.stdout
    assert "letter.jpg" in ended.stdout
    assert f"{NUM_PICTURES} pictures to train on" in ended.stderr


def test_nothing_but_bad_pictures_is_an_error_that_gives_a_reason(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "letter.png").write_text("Dear archive")

    ended = train(tmp_path / "pictures", tmp_path / "out")

    assert ended.code == 2
    assert "none of 1 can be read: pictures: " in ended.stderr


def test_fewer_pictures_than_a_step_takes_are_refused(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures", [(64, 64)] * 4)

    ended = train(folder, tmp_path / "out", batch_size=4)

    assert ended.code == 2
    assert "expected at least 4 pictures to train on" in ended.stderr
    assert "got 3 besides 1 held out" in ended.stderr


def test_a_backbone_with_wrong_keys_is_refused_by_their_names(data: Path, tmp_path: Path) -> None:
    torch.save({"features.0.0.weight": torch.zeros(32, 3, 3, 3), "extra": torch.zeros(1)}, tmp_path / "mine.pth")

    ended = train(data, tmp_path / "out", "--backbone", tmp_path / "mine.pth")

    assert ended.code == 2
    assert "too many: extra" in ended.stderr
    assert "missing: features.0.1.weight" in ended.stderr


def own_backbone(path: Path, *, num_classes: int = 1000) -> Path:
    """Write a random backbone as torchvision's training scripts do."""
    torch.manual_seed(0)
    torch.save({"model": get_model("mobilenet_v2", num_classes=num_classes).state_dict(), "epoch": 3}, path)
    return path


@pytest.mark.parametrize("num_classes", [pytest.param(1000, marks=pytest.mark.slow), 7])
def test_a_backbone_of_ones_own_becomes_the_codecs_whatever_its_classes(
    data: Path, tmp_path: Path, num_classes: int
) -> None:
    backbone = own_backbone(tmp_path / "mine.pth", num_classes=num_classes)

    ended = train(data, tmp_path / "out", "--backbone", backbone, from_scratch=None, steps=1, report_steps=1)

    assert ended.code == 0, ended.stderr
    assert "deep losses: with mine.pth" in ended.stderr
    (row,) = read_rows(tmp_path / "out", "training")
    assert isinstance(row["divergence"], float)
    tensors, _ = load_checkpoint(tmp_path / "out" / "codec.safetensors", codec="dicm")
    shipped, _ = load_checkpoint(SHIPPED, codec="dicm")
    assert not torch.equal(tensors["networks.head.0.0.weight"], shipped["networks.head.0.0.weight"])
    assert not torch.equal(tensors["networks.feature_mean"], shipped["networks.feature_mean"])
    assert {row["checkpoint"] for row in read_rows(tmp_path / "out", "validation")} == {"trained"}


def test_a_backbone_with_values_that_are_no_numbers_is_refused_by_their_key(data: Path, tmp_path: Path) -> None:
    backbone = own_backbone(tmp_path / "mine.pth")
    content = torch.load(backbone, weights_only=True)
    content["model"]["features.3.conv.0.0.weight"][0] = math.nan
    torch.save(content, backbone)

    ended = train(data, tmp_path / "out", "--backbone", backbone)

    assert ended.code == 2
    assert "no finite numbers, in features.3.conv.0.0.weight" in ended.stderr


def test_without_a_backbones_weights_it_says_what_is_not_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("framevault.pipeline.jobs.train.frozen_backbone.find_weights", lambda name: None)

    ended = train(data, tmp_path / "out", steps=1, report_steps=1)

    assert ended.code == 0, ended.stderr
    assert "deep losses: none, since torchvision's weights of mobilenet_v2 are not on this machine" in ended.stderr
    (row,) = read_rows(tmp_path / "out", "training")
    assert "stage1" not in row
    features, rate_bpp = row["features"], row["rate_bpp"]
    assert isinstance(features, float)
    assert isinstance(rate_bpp, float)
    assert row["loss"] == pytest.approx(features + SCRATCH.first_ramp * rate_bpp, rel=1e-4)
    assert "tail_error" not in ended.stdout


def test_a_file_that_holds_no_weights_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_text("not weights")

    ended = train(data, tmp_path / "out", "--backbone", tmp_path / "mine.pth")

    assert ended.code == 2
    assert "mine.pth can't be read" in ended.stderr


def test_a_folder_that_is_a_url_is_refused(data: Path) -> None:
    ended = run_command("train", "dicm", "--data", data, "--out", "s3://bucket/out", "--steps", "1")

    assert ended.code == 2
    assert "out: expected a folder of this machine, got s3://bucket/out" in ended.stderr


def test_events_and_results_are_json_lines_if_asked_for(data: Path, tmp_path: Path) -> None:
    ended = train(data, tmp_path / "out", "--json", steps=2, held_out=0)

    events = [json.loads(line) for line in ended.stdout.splitlines()]
    (report,) = [event for event in events if event["event"] == "training_report"]
    assert (report["stage"], report["step"], report["progress"]) == ("codec", 2, 1.0)
    assert events[-1] == {
        "event": "summary",
        "exported": str(tmp_path / "out" / "dicm.safetensors"),
        "unreadable": [],
        "measured": [],
    }


def test_the_fingerprint_is_that_of_the_trained_weights(trained: tuple[Path, Ended]) -> None:
    own = CodecSpec(name="dicm", weights=str(trained[0] / "codec.safetensors"))

    assert codec_fingerprint(own) != codec_fingerprint(CodecSpec(name="dicm"))
