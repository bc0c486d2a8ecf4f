"""`framevault query`: SQL over a vault."""

import json
import sys
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc

from framevault.pipeline.exits import ExitCode
from framevault.pipeline.tables import print_table
from framevault.storage.query import connect
from framevault.storage.vault import open_vault

OutputFormat = Literal["table", "csv", "json", "arrow"]
"""`json`: one object a line. `arrow`: the IPC stream format, for a pipe or a file."""


def print_query(vault: str, sql: str, *, output: OutputFormat) -> ExitCode:
    """Run a statement and print its rows.

    Raises:
        QueryError: DuckDB refuses the statement.
        StoreError: A part can't be read, or is damaged.
        VaultError: There is no vault of this version.
    """
    table = connect(open_vault(vault, create=False)).sql(sql)
    match output:
        case "table":
            print_table(table)
        case "csv":
            pyarrow.csv.write_csv(_flatten(table), sys.stdout.buffer)
        case "json":
            for row in table.to_pylist():
                sys.stdout.write(json.dumps(row, default=str) + "\n")
        case "arrow":
            with pyarrow.ipc.new_stream(sys.stdout.buffer, table.schema) as writer:
                writer.write_table(table)
    return ExitCode.DONE


def _flatten(table: pa.Table) -> pa.Table:
    """Write lists as JSON text, since CSV has no lists."""
    for position, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [None if value is None else json.dumps(value) for value in table.column(position).to_pylist()]
            table = table.set_column(position, field.name, pa.array(texts, pa.string()))
    return table
