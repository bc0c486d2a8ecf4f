"""What is known of each face: a CSV file with a column `file` and any others, and groups of faces by them.

    file,turn,glasses
    00000.webp,0.12,no

A column of numbers with more values than groups is cut into groups of equal size; any other column has a group a value.
"""

import csv
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from framevault.pipeline.exits import PreflightError

FILE = "file"
"""The column that says which picture a row is about."""

NUM_GROUPS = 4
"""Into which numbers are cut."""

UNKNOWN = "not known"
"""The group of faces without a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """A file's rows."""

    source: str
    """The file, for messages."""
    names: tuple[str, ...]
    """File names of the pictures, each once."""
    columns: Mapping[str, tuple[str, ...]]
    """The other columns by name, in the order of the pictures; empty where nothing is known."""

    def numbers(self, column: str) -> list[float]:
        """Return a column of numbers.

        Raises:
            PreflightError: There is no such column, or a value is no finite number; names it.
        """
        if column not in self.columns:
            raise PreflightError(f"{self.source}: expected a column {column}, got {', '.join(self.columns) or 'none'}")
        found = [_number(text) for text in self.columns[column]]
        for name, text, number in zip(self.names, self.columns[column], found, strict=True):
            if number is None:
                raise PreflightError(f"{self.source}: {column} of {name} must be a number, got {text!r}")
        return [number for number in found if number is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Some faces that have something in common."""

    by: str
    """What."""
    name: str
    """Which value or range of it."""
    members: tuple[int, ...]
    """Positions of the faces."""


def read_labels(path: Path) -> Labels:
    """Read a file of labels.

    Raises:
        PreflightError: It can't be read, has no column `file` or no rows, a row has another length, or a picture stands
            twice.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PreflightError(f"{path}: expected a CSV file of labels: {error}") from error
    if FILE not in header or len(set(header)) < len(header) or not rows:
        raise PreflightError(
            f"{path}: expected a column {FILE}, others of different names, and rows, got {','.join(header)!r}"
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise PreflightError(f"{path}: line {number} must have {len(header)} values, got {len(row)}")
    by_column = dict(zip(header, zip(*rows, strict=True), strict=True))
    names = by_column.pop(FILE)
    if len(set(names)) < len(names):
        twice = next(name for position, name in enumerate(names) if name in names[:position])
        raise PreflightError(f"{path}: picture {twice} stands twice")
    return Labels(source=str(path), names=names, columns=by_column)


def make_groups(by: str, values: Sequence[str]) -> list[Group]:
    """Put faces into groups by what is known of each; `UNKNOWN` comes last."""
    numbers = [_number(text) for text in values]
    known = [number for number in numbers if number is not None]
    is_all_numbers = all(number is not None for number, text in zip(numbers, values, strict=True) if text)
    if is_all_numbers and len(set(known)) > NUM_GROUPS:
        named = list(_ranges(numbers, known))
    else:
        named = [(value, [n for n, text in enumerate(values) if text == value]) for value in sorted(set(values) - {""})]
    named.append((UNKNOWN, [n for n, text in enumerate(values) if not text]))
    return [Group(by=by, name=name, members=tuple(members)) for name, members in named if members]


def _ranges(numbers: Sequence[float | None], known: Sequence[float]) -> Iterable[tuple[str, list[int]]]:
    edges = np.quantile(known, np.linspace(0, 1, NUM_GROUPS + 1)).tolist()
    for position, (low, high) in enumerate(itertools.pairwise(edges)):
        is_last = position == NUM_GROUPS - 1
        members = [
            n for n, number in enumerate(numbers)
            if number is not None and low <= number and (number < high or (is_last and number == high))
        ]  # fmt: skip
        yield f"{low:.3g} to {high:.3g}", members


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
