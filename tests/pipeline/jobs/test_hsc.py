"""Vaults of codec hsc, through the command line: what is compressed, looked at, verified and thinned."""

import json
import shutil
from pathlib import Path

import pytest

from framevault.codecs.hsc.distortion import DomainLimits
from tests.codecs.hsc.toy import TOY_CONFIG, save_toy
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import query_rows, run_command


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames of another size than the domain's."""
    folder = tmp_path_factory.mktemp("clip")
    return make_video(folder / "clip.mp4", VideoSpec(num_frames=10, width=80, height=64))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy: no frame is outside its domain."""
    return save_toy(tmp_path_factory.mktemp("weights") / "toy.safetensors")


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory, clip: Path, weights: Path) -> Path:
    """The clip, compressed; don't change it."""
    vault = tmp_path_factory.mktemp("vault") / "vault"
    ended = run_command("compress", clip, vault, "--codec", "hsc", "--weights", weights)
    assert ended.code == 0, ended.stderr
    assert "outside" not in ended.stdout
    return vault


def test_every_frame_is_stored_by_itself_in_few_bytes_and_verified(vault: Path) -> None:
    rows = query_rows(vault, "select size_bytes, is_independent, is_outside from frames")

    assert len(rows) == 10
    assert {(row["is_independent"], row["is_outside"]) for row in rows} == {(True, False)}
    assert all(int(str(row["size_bytes"])) < 1000 for row in rows)
    (video,) = query_rows(vault, "select codec, width, height, slices from videos")
    assert video == {"codec": "hsc", "width": 80, "height": 64, "slices": None}
    assert run_command("verify", vault).code == 0


def test_detect_looks_at_restored_frames(vault: Path, weights: Path) -> None:
    ended = run_command("detect", vault, "--weights", weights)

    assert ended.code == 0, ended.stderr
    assert query_rows(vault, "select count(*) as n from all_detections")[0].keys() == {"n"}


def test_without_its_weights_a_vault_is_refused_in_words(vault: Path, tmp_path: Path) -> None:
    without = Path(shutil.copytree(vault, tmp_path / "vault", ignore=shutil.ignore_patterns("checkpoints")))

    ended = run_command("detect", without, "--checkpoint-cache", tmp_path / "cache")

    assert ended.code == 2
    assert "name" in ended.stderr
    assert "--weights" in ended.stderr


def test_frames_outside_the_domain_are_said_and_can_be_asked_for(tmp_path: Path, clip: Path) -> None:
    best = (99.0,) * 8
    weights = save_toy(tmp_path / "strict.safetensors", limits=DomainLimits(psnr_db=best, ssim=(-1.0,) * 8))

    ended = run_command("compress", clip, tmp_path / "vault", "--codec", "hsc", "--weights", weights)

    assert ended.code == 0, ended.stderr
    assert "10 frames are outside the codec's domain" in ended.stdout
    assert query_rows(tmp_path / "vault", "select count(*) as n from frames where is_outside") == [{"n": 10}]
    assert run_command("verify", tmp_path / "vault").code == 0


def test_frames_outside_the_domain_are_in_the_job_s_events(tmp_path: Path, clip: Path) -> None:
    limits = DomainLimits(psnr_db=(0.0,) * 8, ssim=(1.0,) * 8)
    weights = save_toy(tmp_path / "strict.safetensors", limits=limits)

    ended = run_command("compress", clip, tmp_path / "vault", "--codec", "hsc", "--weights", weights, "--json")

    events = [json.loads(line) for line in (ended.stdout + ended.stderr).splitlines() if line.startswith("{")]
    assert [event["frames_outside"] for event in events if event["event"] == "summary"] == [10]
    assert any("10 of 10 frames are outside the codec's domain" in str(event.get("text")) for event in events)


def test_a_vault_is_thinned_to_core_symbols(tmp_path: Path, clip: Path, weights: Path) -> None:
    vault = tmp_path / "vault"
    run_command("compress", clip, vault, "--codec", "hsc", "--weights", weights)
    before = query_rows(vault, "select sum(size_bytes) as n from frames")[0]["n"]

    ended = run_command("thin", vault, "--slices", "0", "--weights", weights)

    assert ended.code == 0, ended.stderr
    (row,) = query_rows(vault, "select sum(f.size_bytes) as n, max(v.slices) as k from frames f, videos v")
    assert row["k"] == 0
    assert int(str(row["n"])) < int(str(before)) / 2
    assert int(str(row["n"])) < 10 * 4 * TOY_CONFIG.core
    assert run_command("verify", vault).code == 0
