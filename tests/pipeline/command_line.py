"""Runs the command line in the test's own process, and compares vaults."""

import json
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from framevault.pipeline.cli import app


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    """Its exit code."""
    stdout: str
    """What it printed."""
    stderr: str
    """What it complained of."""


def run_command(*arguments: str | Path) -> Ended:
    """Run a command; an exception that it does not handle is the test's failure."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(code=result.exit_code, stdout=result.stdout, stderr=result.stderr)


def query_rows(vault: str | Path, sql: str) -> list[dict[str, object]]:
    """Ask a vault through the command line."""
    ended = run_command("query", vault, sql, "--format", "json")
    assert ended.code == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def vault_contents(vault: Path) -> dict[str, object]:
    """Return all that a vault holds by key: bytes, or for documents their members but times and checksums."""
    contents: dict[str, object] = {}
    for path in sorted(vault.rglob("*")):
        key = path.relative_to(vault).as_posix()
        if path.is_file() and not key.startswith(".tmp/"):
            contents[key] = _timeless(path) if path.suffix == ".json" else path.read_bytes()
    return contents


def _timeless(path: Path) -> dict[str, object]:
    members = json.loads(path.read_bytes())
    return {name: value for name, value in members.items() if name not in ("created_at", "crc32c")}
