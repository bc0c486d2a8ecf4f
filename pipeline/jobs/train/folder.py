"""The folder of one training: settings, states, metrics and what is exported.

::

    config.yaml                    all settings, resolved
    metrics.jsonl                  rows of kinds `training`, `validation`, `finished`
    <product>.safetensors          codec or detector, as the last finished stage left it
    <stage>.safetensors            what the stage exported last
    <stage>.png                    its curves
    unreadable.txt                 sources and pictures that were left out, if any
    state/<stage>.safetensors      all that going on needs; <stage>.previous.safetensors is the state before
"""

import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from framevault.configs.loading import load_job
from framevault.configs.train import TrainSettings, changed_keys
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.saved_state import put_in_place
from framevault.pipeline.jobs.train.stages import Row


class TrainingFolder:
    """Paths and files of a training; only the first process writes."""

    def __init__(self, path: Path) -> None:
        """Remember the path; `open_folder` makes it."""
        self.path = path

    def state_path(self, stage: str) -> Path:
        """Return where a stage's state is saved."""
        return self.path / "state" / f"{stage}.safetensors"

    def export_path(self, stage: str) -> Path:
        """Return where a stage's export lies."""
        return self.path / f"{stage}.safetensors"

    def product_path(self, product: str) -> Path:
        """Return where the checkpoint lies that is to be used."""
        return self.path / f"{product}.safetensors"

    def publish(self, stage: str, *, product: str) -> None:
        """Make what a stage exported the checkpoint that is to be used."""
        path = self.product_path(product)
        temporary = path.with_suffix(".tmp")
        shutil.copyfile(self.export_path(stage), temporary)
        put_in_place(temporary, path)

    def plot_path(self, stage: str) -> Path:
        """Return where a stage's curves are drawn."""
        return self.path / f"{stage}.png"

    @property
    def metrics_path(self) -> Path:
        """Where rows go."""
        return self.path / "metrics.jsonl"

    def append_rows(self, rows: Sequence[Row]) -> None:
        """Add rows to the metrics; numbers that are none become null."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.writelines(_line(row) for row in rows)

    def rows(self, stage: str) -> list[dict[str, object]]:
        """Return a stage's rows in their order."""
        return [row for row in self._all_rows() if row.get("stage") == stage]

    def is_finished(self, stage: str) -> bool:
        """Whether a stage's budget is used up, and its export measured."""
        return any(row.get("kind") == "finished" for row in self.rows(stage))

    def drop_rows_after(self, stage: str, step: int) -> None:
        """Take out a stage's rows of steps that are not in its saved state, and will be done again."""
        rows = [row for row in self._all_rows() if row.get("stage") != stage or _step_of(row) <= step]
        spare = self.metrics_path.with_suffix(".tmp")
        spare.write_text("".join(_line(row) for row in rows), encoding="utf-8")
        put_in_place(spare, self.metrics_path)

    def write_unreadable(self, lines: Sequence[str]) -> None:
        """Write down what was left out, a line each; no file if it is nothing."""
        path = self.path / "unreadable.txt"
        if lines:
            path.write_text("".join(f"{' '.join(line.split())}\n" for line in lines), encoding="utf-8")
        else:
            path.unlink(missing_ok=True)

    def read_unreadable(self) -> list[str]:
        """Return the lines that `write_unreadable` wrote."""
        path = self.path / "unreadable.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def _all_rows(self) -> list[dict[str, object]]:
        if not self.metrics_path.exists():
            return []
        rows = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                # A kill in the midst of a line: its step is done again.
                continue
        return rows


@contextmanager
def open_folder(job: TrainSettings) -> Iterator[TrainingFolder]:
    """Make or take over the folder of a training, for this process alone.

    Raises:
        PreflightError: It is no folder of this machine, in use, or holds a training with other settings.
    """
    if "://" in job.out:
        raise PreflightError(f"out: expected a folder of this machine, got {job.out}")
    path = Path(job.out)
    try:
        (path / "state").mkdir(parents=True, exist_ok=True)
        lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    except OSError as error:
        raise PreflightError(f"out: {job.out} can't be made or written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _check_config(job, path / "config.yaml")
        yield TrainingFolder(path)
    except BlockingIOError as error:
        raise PreflightError(f"out: another training is at work in {job.out}") from error
    finally:
        os.close(lock)


def _check_config(job: TrainSettings, path: Path) -> None:
    """Compare the settings with those of the training that lies there, and write them down."""
    if path.exists():
        before = load_job(type(job), path, overrides={})
        if changed := changed_keys(before, job):
            differences = "; ".join(
                f"{key}: {getattr(before, key)!r} before, {getattr(job, key)!r} now" for key in changed
            )
            raise PreflightError(
                f"{path.parent} holds a training with other settings ({differences}): "
                "use the same ones to go on, or another folder to start anew"
            )
    values = job.model_dump(mode="json", exclude_none=True)
    spare = path.with_suffix(".tmp")
    spare.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    put_in_place(spare, path)


def _line(row: Mapping[str, object]) -> str:
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
    return json.dumps(plain) + "\n"


def _step_of(row: Mapping[str, object]) -> int:
    step = row.get("step")
    return step if isinstance(step, int) else 0
