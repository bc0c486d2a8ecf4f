"""A codec for ResNet-50 at toy size, of random weights: trained, then searched with torchvision's own models."""

from pathlib import Path

import pytest
import torch

from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.dicm.backbones.registry import build_head, read_backbone
from framevault.codecs.dicm.config import WIDTHS_ROWS
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec
from tests.codecs.dicm.backbones.random_weights import random_resnet50
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import Ended, query_rows, run_command
from tests.pipeline.jobs.train.toy import read_rows, write_settings
from tests.workers.detectors.random_detectors import published_state, random_detector

DETECTOR = "maskrcnn_resnet50_fpn"


def train(folder: Path, out: Path, *arguments: str | Path, **settings: object) -> Ended:
    """Train on a few frames."""
    data = make_video(folder / "train.mp4", VideoSpec(num_frames=12, width=96, height=64, fps=10))
    config = write_settings(out.with_name(f"{out.name}.yaml"), **settings)
    return run_command(
        "train", "dicm", "--data", data, "--out", out, "--architecture", "resnet50", "--config", config, *arguments
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec trained for two steps, and a vault of three frames written with it."""
    folder = tmp_path_factory.mktemp("resnet50")
    torch.save(random_resnet50().state_dict(), folder / "mine.pth")
    ended = train(
        folder,
        folder / "out",
        *("--backbone", folder / "mine.pth", "--stages", "codec,video"),
        steps=3,
        report_steps=1,
        held_out=0,
        deep_start=0,
        video_fps=10,
        batch_size=4,
    )
    assert ended.code == 0, ended.stderr
    video = make_video(folder / "clip.mp4", VideoSpec(num_frames=3, width=96, height=64))
    ended = run_command("compress", video, folder / "vault", "--weights", weights(folder))
    assert ended.code == 0, ended.stderr
    return folder


def weights(folder: Path) -> Path:
    return folder / "out" / "dicm.safetensors"


@pytest.mark.slow  # some 15 s on an idle machine: steps and measurements of a codec around ResNet-50
def test_what_is_trained_is_a_codec_of_the_given_backbone(folder: Path) -> None:
    codec = load_codec(CodecSpec(name="dicm", weights=str(weights(folder))))
    frames_nchw = torch.randint(0, 256, (2, 3, 72, 100), dtype=torch.uint8)
    head = build_head(read_backbone(folder / "mine.pth", backbone="resnet50"))

    features_nchw = codec.decoder(height=72, width=100).decode(codec.encoder(height=72, width=100).encode(frames_nchw))

    tensors, config = load_checkpoint(weights(folder), codec="dicm")
    row = WIDTHS_ROWS["resnet50"]
    assert (config["backbone"], config["latent"], config["hyper"]) == ("resnet50", row.latent, row.hyper)
    assert config["motion"] == sum(row.slices[:2])
    assert features_nchw.shape == (2, 256, 18, 25)
    assert all(torch.equal(tensors[f"networks.head.{name}"], tensor) for name, tensor in head.state_dict().items())


@pytest.mark.slow
def test_it_learns_from_every_stage_of_the_tail_and_the_classes(folder: Path) -> None:
    row, _ = (row for row in read_rows(folder / "out", "training") if row["stage"] == "codec")

    assert {"features", "stage1", "stage2", "stage3", "divergence", "rate_bpp"} <= row.keys()


@pytest.mark.slow
def test_frames_are_classified_from_the_vault_by_the_same_resnet50(folder: Path) -> None:
    classifier = ("--classifier", "resnet50_v1", "--classifier-weights", folder / "mine.pth")

    ended = run_command("classify", folder / "vault", *classifier, "--weights", weights(folder))

    assert ended.code == 0, ended.stderr
    assert query_rows(folder / "vault", "select count(distinct frame_number) as n, max(rank) as k from labels") == [
        {"n": 3, "k": 10}
    ]


@pytest.mark.slow
def test_boxes_and_masks_come_from_the_vault_by_torchvisions_mask_r_cnn(folder: Path) -> None:
    torch.save(published_state(DETECTOR, random_detector(DETECTOR, short_side=64, long_side=96)), folder / "mask.pth")
    detector = ("--detector", DETECTOR, "--detector-weights", folder / "mask.pth", "--masks")

    ended = run_command("detect", folder / "vault", *detector, "--weights", weights(folder))

    assert ended.code == 0, ended.stderr
    # Random weights of the same seed: its head is the codec's.
    assert "another backbone" not in ended.stderr
    (found,) = query_rows(folder / "vault", "select count(*) as n, count(mask_rle) as masks from masks")
    assert found["n"] == found["masks"]
    assert int(str(found["n"])) > 0


@pytest.mark.slow
def test_what_reads_another_backbone_is_refused(folder: Path) -> None:
    ended = run_command("detect", folder / "vault", "--weights", weights(folder))

    assert ended.code == 2
    assert "holds features of resnet50, detector mobilenet_v2 reads those of mobilenet_v2" in ended.stderr


@pytest.mark.slow
def test_a_classifier_trained_behind_another_head_is_refused(folder: Path, tmp_path: Path) -> None:
    torch.save(random_resnet50(seed=7).state_dict(), tmp_path / "other.pth")
    classifier = ("--classifier", "resnet50_v1", "--classifier-weights", tmp_path / "other.pth")

    ended = run_command("classify", folder / "vault", *classifier, "--weights", weights(folder))

    assert ended.code == 2
    assert "was trained behind another head than the codec's" in ended.stderr


def test_without_weights_of_the_backbone_it_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("framevault.pipeline.jobs.train.frozen_backbone.find_weights", lambda name: None)

    ended = train(tmp_path, tmp_path / "out", held_out=0)

    assert ended.code == 2
    assert "a codec of resnet50 needs weights of it: name their file with --backbone" in ended.stderr
    assert "framevault weights fetch resnet50_v1" in ended.stderr


def test_a_start_of_another_architecture_is_refused(tmp_path: Path) -> None:
    ended = train(tmp_path, tmp_path / "out", held_out=0, from_scratch=None)

    assert ended.code == 2
    assert "mobilenet_v2.safetensors is a codec of mobilenet_v2, expected one of resnet50" in ended.stderr
    assert "--from-scratch" in ended.stderr


def test_weights_known_by_name_must_be_of_the_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "framevault.pipeline.jobs.train.frozen_backbone.load_backbone",
        lambda name: read_backbone(tmp_path / "mine.pth", backbone="resnet50"),
    )
    torch.save(random_resnet50().state_dict(), tmp_path / "mine.pth")

    ended = train(tmp_path, tmp_path / "out", "--backbone", "resnet50_v2", "--architecture", "mobilenet_v2", held_out=0)

    assert ended.code == 2
    assert "weights 'resnet50_v2' are of resnet50, expected those of mobilenet_v2" in ended.stderr
