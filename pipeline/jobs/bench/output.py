"""How a measurement's tables are printed."""

import json
import math
import sys
from typing import Literal

import pyarrow as pa

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


def _plain(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value
