"""The whole command at toy size: what it writes, how it resumes, who reads what it made, and what it refuses."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from framevault.pipeline.jobs.train import job as train_job
from framevault.workers.detectors.checkpoint import load_network, save_detector
from framevault.workers.detectors.registry import CONFIG_KEY, DEFAULT_DETECTOR, LATENT_DETECTOR, checkpoint_path
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import Ended, query_rows, run_command
from tests.pipeline.jobs.train.detector.toy import make_labelled, read_members, write_detector_settings, write_members
from tests.pipeline.jobs.train.toy import read_rows, timeless

pytest.importorskip("faster_coco_eval", reason="average precision needs the extra 'bench'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled(tmp_path_factory.mktemp("labelled") / "toy")


def train(folder: Path, out: Path, *arguments: str | Path, **settings: object) -> Ended:
    """Train at toy size."""
    config = write_detector_settings(out.with_name(f"{out.name}.yaml"), **settings)
    return run_command(
        "train", "detector", "--data", folder / "pictures", "--labels", folder / "labels.json", "--out", out,
        "--config", config, *arguments,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A training that nobody disturbed."""
    out = tmp_path_factory.mktemp("trained") / "out"
    ended = train(folder, out)
    assert ended.code == 0, ended.stderr
    return out, ended


def test_a_training_leaves_a_checkpoint_settings_metrics_and_curves(trained: tuple[Path, Ended]) -> None:
    out, ended = trained

    rows = read_rows(out, "training")
    assert [row["step"] for row in rows] == [2, 4]
    assert all(isinstance(row[name], float) for row in rows for name in ("loss", "heat", "boxes"))
    assert yaml.safe_load((out / "config.yaml").read_text())["qualities"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (out / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert f"use it:  framevault detect VAULT --detector-weights {out}/detector.safetensors" in ended.stdout
    assert "boxes to learn from: bar 7 (new), person 7; 29 labels of the start are left out" in ended.stderr


def test_the_checkpoint_knows_the_files_labels_and_differs_from_the_start(trained: tuple[Path, Ended]) -> None:
    network, config = load_network(trained[0] / "detector.safetensors", name=DEFAULT_DETECTOR)
    start, start_config = load_network(checkpoint_path(DEFAULT_DETECTOR), name=DEFAULT_DETECTOR)

    assert config.labels == ("bar", "person")
    assert config.nms_iou == start_config.nms_iou
    assert not torch.equal(network.map_down.weight, start.map_down.weight)
    assert not torch.equal(next(network.tail.parameters()), next(start.tail.parameters()))


def test_what_is_measured_is_average_precision_in_real_streams(trained: tuple[Path, Ended]) -> None:
    rows = read_rows(trained[0], "validation")

    assert [row["quality"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    rates = [row["bits_per_pixel"] for row in rows]
    assert rates == sorted(rates, key=float)  # type: ignore[arg-type]  # numbers
    for row in rows:
        assert (row["pictures"], row["boxes"]) == (1, 2)
        assert 0 <= float(str(row["ap"])) <= float(str(row["ap50"])) <= 1


def test_a_vault_is_searched_for_the_new_labels(trained: tuple[Path, Ended], tmp_path: Path) -> None:
    network, config = load_network(trained[0] / "detector.safetensors", name=DEFAULT_DETECTOR)
    last = network.heat[-1]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.bias is not None
    last.bias[0] += 6  # after four steps it finds nothing; this one finds bars everywhere
    save_detector(tmp_path / "mine.safetensors", network, config)
    video, vault = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=3)), tmp_path / "vault"
    compressed = run_command("compress", video, vault)

    ended = run_command("detect", vault, "--detector-weights", tmp_path / "mine.safetensors")

    assert compressed.code == 0, compressed.stderr
    assert ended.code == 0, ended.stderr
    rows = query_rows(vault, "SELECT DISTINCT label FROM detections WHERE label <> 'person'")
    assert rows == [{"label": "bar"}]


def test_the_benchmark_takes_the_checkpoint(trained: tuple[Path, Ended], folder: Path) -> None:
    ended = run_command(
        "bench", "accuracy", folder / "labels.json", folder / "pictures", "--qualities", "5", "--format", "json",
        "--every", "4", "--detector-weights", trained[0] / "detector.safetensors",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(row["source"], row["label"]) for row in rows] == [
        (source, label) for source in ("pixels", "quality 5") for label in ("bar", "person")
    ]


def stop_after(num_steps: int) -> Callable[[], object]:
    """Return what stands for Ctrl-C after some steps."""

    @contextmanager
    def watch() -> Iterator[Callable[[], bool]]:
        asked = 0

        def is_told_to_stop() -> bool:
            nonlocal asked
            asked += 1
            return asked >= num_steps

        yield is_told_to_stop

    return watch


def test_stopped_and_run_again_it_ends_where_it_would_have_ended(
    trained: tuple[Path, Ended], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(train_job, "watch_for_stop", stop_after(3))
        stopped = train(folder, out)

    again = train(folder, out)

    assert stopped.code == 130
    assert again.code == 0, again.stderr
    assert "goes on after 3 steps" in again.stderr
    assert (out / "detector.safetensors").read_bytes() == (trained[0] / "detector.safetensors").read_bytes()
    assert timeless(read_rows(out, "training")) == timeless(read_rows(trained[0], "training"))


def test_a_start_that_knows_all_labels_is_measured_first(
    trained: tuple[Path, Ended], folder: Path, tmp_path: Path
) -> None:
    init = trained[0] / "detector.safetensors"

    ended = train(folder, tmp_path / "out", "--init", init, "--qualities", "2,5", steps=1)

    assert ended.code == 0, ended.stderr
    start = [row for row in read_rows(tmp_path / "out", "validation") if row["checkpoint"] == "start"]
    names = ("quality", "bits_per_pixel", "ap50")
    before = read_rows(trained[0], "validation")
    assert [[row[name] for name in names] for row in start] == [[row[name] for name in names] for row in before]
    assert "ap50_before" in ended.stdout


def spoilt_start(path: Path) -> Path:
    """Write the shipped checkpoint with a value that is no number."""
    with safe_open(checkpoint_path(DEFAULT_DETECTOR), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        metadata = {CONFIG_KEY: file.metadata()[CONFIG_KEY]}
    tensors["map_down.weight"][0] = math.nan
    save_file(tensors, path, metadata)
    return path


def test_a_start_with_values_that_are_no_numbers_is_refused_by_their_key(folder: Path, tmp_path: Path) -> None:
    ended = train(folder, tmp_path / "out", "--init", spoilt_start(tmp_path / "mine.safetensors"))

    assert ended.code == 2
    assert "mine.safetensors: map_down.weight holds values that are no numbers" in ended.stderr


def test_a_start_of_another_detector_is_refused(folder: Path, tmp_path: Path) -> None:
    ended = train(folder, tmp_path / "out", "--init", checkpoint_path(LATENT_DETECTOR))

    assert ended.code == 2
    assert "must be a checkpoint of detector 'mobilenet_v2', got 'dicm_latents'" in ended.stderr


def test_a_codec_of_another_backbone_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("framevault.pipeline.jobs.train.detector.features.backbone_of", lambda spec: "resnet50")

    ended = train(folder, tmp_path / "out", "--weights", "other.safetensors")

    assert ended.code == 2
    assert "weights: other.safetensors holds features of resnet50, the detector reads those of mobilenet_v2" in (
        ended.stderr
    )


def test_a_wrong_row_ends_the_command_before_anything_is_trained(folder: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "toy"
    make_labelled(spoilt)
    members = read_members(spoilt)
    members["annotations"][3]["bbox"] = [90, 10, 20, 20]
    write_members(spoilt, members)

    ended = train(spoilt, tmp_path / "out")

    assert ended.code == 2
    assert "labels.json: annotations[3]: bbox [90, 10, 20, 20] reaches out of its picture" in ended.stderr
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--qualities", "5,2"), "qualities: should be 1 to 8, rising"),
        (("--qualities", "five"), "qualities"),
        (("--canvas", "100"), "canvas: should be a multiple of 32"),
    ],
)
def test_wrong_settings_are_named(folder: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    ended = train(folder, tmp_path / "out", *arguments)

    assert ended.code == 2
    assert message in ended.stderr


def test_random_networks_are_no_start(folder: Path, tmp_path: Path) -> None:
    ended = train(folder, tmp_path / "out", from_scratch=True)

    assert ended.code == 2
    assert "a detector is fitted from a checkpoint's networks" in ended.stderr
