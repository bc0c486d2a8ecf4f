"""Labels of faces in a CSV file: `file,attribute,value`, a line a face and attribute."""

import csv
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from framevault.codecs.hsc.directions import DIRECTION_NAME
from framevault.pipeline.exits import PreflightError

COLUMNS = ["file", "attribute", "value"]
"""The first line."""


def read_labels(path: Path) -> dict[str, dict[str, float]]:
    """Return the labels of each attribute by file.

    Raises:
        PreflightError: The file can't be read, or a line is wrong; names it.
    """
    labels: dict[str, dict[str, float]] = defaultdict(dict)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            if (head := next(lines, None)) != COLUMNS:
                raise PreflightError(f"{path}: the first line must be {','.join(COLUMNS)}, got {head}")
            for line in filter(None, lines):
                _add(labels, line, place=f"{path} line {lines.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PreflightError(f"labels {path} can't be read: {error}") from error
    if not labels:
        raise PreflightError(f"{path}: expected labels, got none")
    return dict(labels)


def match_labels(labels: Mapping[str, float], names: list[str]) -> dict[int, float]:
    """Return the labels of those pictures that have one, by their number.

    Args:
        labels: By file, as it ends: `a.png`, or `men/a.png` where several folders have one of that name.
        names: Of the pictures, with their folders.
    """
    found: dict[int, float] = {}
    for number, name in enumerate(names):
        parts = name.split("/")
        endings = ["/".join(parts[start:]) for start in range(len(parts))]
        label = next((labels[ending] for ending in endings if ending in labels), None)
        if label is not None:
            found[number] = label
    return found


def _add(labels: dict[str, dict[str, float]], line: list[str], *, place: str) -> None:
    if len(line) != len(COLUMNS):
        raise PreflightError(f"{place}: expected {','.join(COLUMNS)}, got {line}")
    file, attribute, text = (cell.strip() for cell in line)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PreflightError(f"{place}: value must be a number, got {text!r}")
    if not DIRECTION_NAME.fullmatch(attribute):
        raise PreflightError(f"{place}: attribute must be like smile or head-turn, got {attribute!r}")
    if file in labels[attribute]:
        raise PreflightError(f"{place}: {file} has a second value of {attribute}")
    labels[attribute][file] = value
