"""Trainings of a few steps on small pictures."""

import json
from pathlib import Path

import yaml

from tests.media import make_pictures

NUM_PICTURES = 12
"""In the folder that `make_data` makes."""

SETTINGS: dict[str, object] = {
    "from_scratch": True,
    "batch_size": 2,
    "crop": 64,
    "steps": 4,
    "threads": 1,
    "device": "cpu",
    "report_steps": 2,
    "validation_pictures": 1,
}
"""Of a training that takes seconds."""


def make_data(folder: Path) -> Path:
    """Make a folder of small pictures."""
    return make_pictures(folder, [(96, 80), (128, 96), (72, 72)] * (NUM_PICTURES // 3))


def tear(path: Path, target: Path) -> Path:
    """Write the first half of a file."""
    content = path.read_bytes()
    target.write_bytes(content[: len(content) // 2])
    return target


def write_settings(path: Path, **changes: object) -> Path:
    """Write a settings file; a value of None takes a key out."""
    values = {name: value for name, value in {**SETTINGS, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(values))
    return path


def read_rows(out: Path, kind: str) -> list[dict[str, object]]:
    """Return the rows of one kind."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def timeless(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return rows without what the clock says."""
    return [{name: value for name, value in row.items() if name not in ("elapsed_s", "crops_per_s")} for row in rows]
