"""How a measurement's tables are printed, and what a measurement needs to be installed."""

import importlib.util
import json
import math
import sys
from typing import Literal

import pyarrow as pa

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.tables import print_table

OutputFormat = Literal["table", "json"]
"""`table`: for people. `json`: one object a row, one row a line."""


def print_rows(table: pa.Table, output: OutputFormat, *, title: str) -> None:
    """Print a table's rows; in JSON, `table` names the table that a row belongs to, and no number is NaN."""
    if output == "table":
        print_table(table, title=title)
        return
    for row in table.to_pylist():
        sys.stdout.write(json.dumps({"table": title, **{name: _plain(value) for name, value in row.items()}}) + "\n")


def require_scorer() -> None:
    """Check that average precision can be computed, before minutes are spent on what it is computed from.

    Raises:
        PreflightError: faster-coco-eval is not installed.
    """
    if importlib.util.find_spec("faster_coco_eval") is None:
        raise PreflightError(
            "average precision is computed by faster-coco-eval, which is not installed: pip install 'framevault[bench]'"
        )


def _plain(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value
