"""`framevault weights import-generator` and `sample-generator`."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from framevault.codecs.hsc.domains import DOMAINS
from framevault.codecs.hsc.mapping import MappingNetwork
from framevault.pipeline.contact_sheet import CAPTION_HEIGHT, GAP, choose_columns
from tests.codecs.hsc.importing.foreign import to_rosinality
from tests.codecs.hsc.small import SMALL, small_generator
from tests.pipeline.command_line import run_command


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint as rosinality's, of a domain that is small."""
    monkeypatch.setitem(DOMAINS, "small", SMALL)
    torch.manual_seed(1)
    mapping = MappingNetwork(width=6, style=SMALL.style, depth=2)
    path = tmp_path / "foreign.pt"
    torch.save({"g_ema": to_rosinality(small_generator(), mapping), "d": {}}, path)
    return path


def cut_sheet(path: Path, *, count: int) -> list[bytes]:
    """Return the pixels of each picture of a sheet."""
    columns, step = choose_columns(count), SMALL.resolution + GAP
    with Image.open(path) as sheet:
        corners = [
            (GAP + number % columns * step, GAP + number // columns * (step + CAPTION_HEIGHT))
            for number in range(count)
        ]
        return [
            sheet.crop((left, top, left + SMALL.resolution, top + SMALL.resolution)).tobytes() for left, top in corners
        ]


def test_an_imported_generator_draws_pictures(foreign: Path, tmp_path: Path) -> None:
    imported = run_command("weights", "import-generator", foreign, tmp_path / "g.safetensors", "--domain", "small")
    assert imported.code == 0, imported.stderr
    assert "64 x 64 pixels, 10 styles of 12" in imported.stdout
    assert "mean style: measured" in imported.stdout
    assert "not used: d" in imported.stdout

    drawn = run_command("weights", "sample-generator", tmp_path / "g.safetensors", tmp_path / "s.png", "--count", "9")

    assert drawn.code == 0, drawn.stderr
    pictures = cut_sheet(tmp_path / "s.png", count=9)
    assert len(set(pictures)) == 9


def test_at_truncation_0_all_pictures_are_the_mean_style_s(foreign: Path, tmp_path: Path) -> None:
    run_command("weights", "import-generator", foreign, tmp_path / "g.safetensors", "--domain", "small")

    sheet_path = tmp_path / "s.png"
    run_command(
        "weights", "sample-generator", tmp_path / "g.safetensors", sheet_path, "--count", "2", "--truncation", "0"
    )

    assert len(set(cut_sheet(sheet_path, count=2))) == 1


def test_another_domain_s_resolution_is_a_usage_error(foreign: Path, tmp_path: Path) -> None:
    ended = run_command("weights", "import-generator", foreign, tmp_path / "g.safetensors", "--domain", "face")

    assert ended.code == 2
    assert "domain 'face' has 1024 x 1024" in ended.stderr
    assert not (tmp_path / "g.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("g.pt", "must end in .safetensors"), ("no/g.safetensors", "no folder"), ("full.safetensors", "exists")],
)
def test_a_place_that_can_not_be_written_to_is_a_usage_error(
    name: str, message: str, foreign: Path, tmp_path: Path
) -> None:
    (tmp_path / "full.safetensors").write_bytes(b"")

    ended = run_command("weights", "import-generator", foreign, tmp_path / name, "--domain", "small")

    assert ended.code == 2
    assert message in ended.stderr


def test_what_was_not_imported_is_not_sampled(foreign: Path, tmp_path: Path) -> None:
    ended = run_command("weights", "sample-generator", foreign, tmp_path / "s.png")

    assert ended.code == 2
    assert "safetensors" in ended.stderr
