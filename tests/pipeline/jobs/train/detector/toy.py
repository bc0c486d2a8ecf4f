"""A few generated pictures with coloured things in them, and their labels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

NUM_PICTURES = 8
"""In the folder that `make_labelled` makes."""

WIDTH, HEIGHT = 96, 80
"""Of each, in pixels."""

SETTINGS: dict[str, object] = {
    "batch_size": 2,
    "canvas": 64,
    "steps": 4,
    "threads": 1,
    "device": "cpu",
    "report_steps": 2,
    "validation_pictures": 1,
}
"""Of a training that takes seconds."""


def make_labelled(folder: Path) -> Path:
    """Make `pictures/` with a red person and a blue bar in each, and `labels.json`; return the folder."""
    (folder / "pictures").mkdir(parents=True)
    members: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 4, "name": "bar"}, {"id": 5, "name": "unused"}, {"id": 9, "name": "person"}],
    }
    for number in range(NUM_PICTURES):
        rng = np.random.default_rng(number)
        rgb_hwc = rng.integers(90, 130, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        left, top = int(rng.integers(2, 16)), int(rng.integers(2, 16))
        rgb_hwc[top : top + 40, left : left + 24] = (220, 30, 30)
        rgb_hwc[top + 20 : top + 44, left + 36 : left + 76] = (20, 40, 210)
        name = f"{number:03d}.png"
        Image.fromarray(rgb_hwc).save(folder / "pictures" / name)
        members["images"].append({"id": 50 + number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for category, box in ((9, [left, top, 24, 40]), (4, [left + 36, top + 20, 40, 24])):
            row = {"id": len(members["annotations"]) + 1, "image_id": 50 + number, "category_id": category, "bbox": box}
            members["annotations"].append(row)
    write_members(folder, members)
    return folder


def read_members(folder: Path) -> dict[str, Any]:
    """Return what the label file holds."""
    members: dict[str, Any] = json.loads((folder / "labels.json").read_text())
    return members


def write_members(folder: Path, members: dict[str, Any]) -> Path:
    """Write the label file; returns its path."""
    path = folder / "labels.json"
    path.write_text(json.dumps(members))
    return path


def write_detector_settings(path: Path, **changes: object) -> Path:
    """Write a settings file; a value of None takes a key out."""
    values = {name: value for name, value in {**SETTINGS, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(values))
    return path


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Return a picture's RGB [H, W, 3]."""
    return np.asarray(Image.open(path).convert("RGB"))
