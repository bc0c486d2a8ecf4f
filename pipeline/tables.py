"""Arrow tables and byte counts, as people read them."""

import pyarrow as pa
from rich.console import Console
from rich.table import Table

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def print_table(table: pa.Table, *, title: str | None = None) -> None:
    """Print a table on standard output, numbers to the right; as wide as it needs where that is not a terminal."""
    console = Console(soft_wrap=False, width=None if Console().is_terminal else 200)
    rendered = Table(title=title, title_justify="left", header_style="bold")
    for field in table.schema:
        is_number = (
            pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        )
        rendered.add_column(field.name, justify="right" if is_number else "left", overflow="fold")
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        rendered.add_row(*(_text(value) for value in row))
    console.print(rendered)


def describe_bytes(size_bytes: float) -> str:
    """Write a number of bytes with three digits and a decimal unit: 1234567 is `1.23 MB`."""
    unit = 0
    # From 999.5 on, three digits round up to the next unit.
    while abs(size_bytes) >= 999.5 and unit < len(_BYTE_UNITS) - 1:
        size_bytes /= 1000
        unit += 1
    return f"{size_bytes:.0f} B" if unit == 0 else f"{size_bytes:.3g} {_BYTE_UNITS[unit]}"


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)


def describe_seconds(seconds: float) -> str:
    """Write a duration in its two largest units: `41 s`, `3 min 20 s`, `5 h 10 min`, `2 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    for unit, smaller, name, smaller_name in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {smaller_name}"
    raise AssertionError("unreachable: a minute or more has a unit")
