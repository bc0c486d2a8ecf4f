"""`framevault weights`."""

import json
from pathlib import Path

import pytest
import torch

from framevault.codecs.dicm.backbones.checkpoints import KNOWN_FILES
from tests.pipeline.command_line import run_command


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no package, and no network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("framevault.codecs.dicm.backbones.files._package_path", lambda file: None)
    monkeypatch.setattr(
        "framevault.codecs.dicm.backbones.files.download_url", lambda file: (tmp_path / "server" / "x").as_uri()
    )
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


def test_every_known_file_is_listed(hub: Path) -> None:
    ended = run_command("weights", "list", "--json")

    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.code == 0
    assert {row["name"]: row["file"] for row in rows} == {name: file.file_name for name, file in KNOWN_FILES.items()}
    assert {row["on this machine"] for row in rows} == {"no"}


def test_a_damaged_file_is_told(hub: Path) -> None:
    (hub / "checkpoints" / KNOWN_FILES["resnet50_v1"].file_name).write_bytes(b"half a downl")

    ended = run_command("weights", "list")

    assert ended.code == 1
    assert "damaged" in ended.stdout


def test_what_can_not_be_fetched_is_a_usage_error(hub: Path) -> None:
    ended = run_command("weights", "fetch", "resnet50_v1")

    assert ended.code == 2
    assert "could not be downloaded" in ended.stderr


def test_an_unknown_name_is_a_usage_error(hub: Path) -> None:
    ended = run_command("weights", "fetch", "vgg16")

    assert ended.code == 2
    assert "weights must be one of" in ended.stderr
