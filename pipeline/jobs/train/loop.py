"""The loop of one stage: batches in, rows of metrics out, a state saved every few minutes.

::

    restore -> [ take a batch -> step -> report? -> told to stop? save? measure? ] ... -> save, export, measure

Each step's crops and random numbers follow from the seed and the step's number, so a resumed training goes on as if it
had never stopped: with a budget in steps, to the bit.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from framevault.codecs.spec import HIGHEST_QUALITY, LOWEST_QUALITY
from framevault.configs.train import TrainSettings
from framevault.pipeline.events import Note, TrainingReport
from framevault.pipeline.executors.base import EventSink
from framevault.pipeline.jobs.train.budget import Budget, Stopwatch, Timer
from framevault.pipeline.jobs.train.folder import TrainingFolder
from framevault.pipeline.jobs.train.means import Means
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.plots import draw_curves
from framevault.pipeline.jobs.train.prefetch import BatchQueue
from framevault.pipeline.jobs.train.saved_state import load_state, put_in_place, save_state
from framevault.pipeline.jobs.train.stages import Batch, Row, State, TrainingStage
from framevault.pipeline.jobs.train.world import World
from framevault.pipeline.tables import describe_seconds

ALL_QUALITIES = tuple(range(LOWEST_QUALITY, HIGHEST_QUALITY + 1))
"""What is measured before a stage's first step and after its last."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surroundings:
    """What the loop of every stage has."""

    job: TrainSettings
    """The settings."""
    world: World
    """The processes."""
    folder: TrainingFolder
    """Where things are written."""
    training: PictureSet
    """This process's share of the pictures."""
    held_out: PictureSet
    """What is measured on; empty in all processes but the first."""
    is_told_to_stop: Callable[[], bool]
    """Whether the state shall be saved and the training end."""
    on_event: EventSink
    """Is told how it goes; by the first process alone."""


class StageLoop:
    """Trains one stage until its budget is used up."""

    def __init__(
        self,
        name: str,
        stage: TrainingStage,
        budget: Budget,
        around: Surroundings,
        *,
        finish: Callable[[Path], None] = lambda path: None,
    ) -> None:
        """Take up the stage where its saved state left it, if there is one.

        Args:
            name: The stage's.
            stage: What is trained.
            budget: For how long.
            around: What the loop of every stage has.
            finish: Adds to the last export what takes too long to find for each one.

        Raises:
            TrainingError: The saved state is damaged.
        """
        self._name = name
        self._stage = stage
        self._budget = budget
        self._around = around
        self._finish = finish
        self._means = Means()
        state = load_state(around.folder.state_path(name))
        self._step, elapsed_s = (0, 0.0) if state is None else self._restore(state)
        if around.world.is_first:
            around.folder.drop_rows_after(name, self._step if state is not None else -1)
        self._watch = Stopwatch(elapsed_s)
        self._reported_s = time.monotonic()

    def run(self) -> None:
        """Train, export and measure; a stage that was finished before is left as it is.

        Raises:
            KeyboardInterrupt: It was told to stop; the state is saved.
            TrainingError: It can't go on.
        """
        if self._around.folder.is_finished(self._name):
            self._say(f"{self._name}: finished before, after {self._step} steps")
            return
        if self._step:
            self._say(f"{self._name}: goes on after {self._step} steps, {describe_seconds(self._watch.elapsed_s)}")
        elif self._stage.starts_from is not None:
            self._measure(self._stage.starts_from, ALL_QUALITIES, checkpoint="start")
        self._train()
        if self._around.world.is_first:
            self._report()
            self._save()
            self._export_and_measure(ALL_QUALITIES, is_last=True)
            if self._around.is_told_to_stop():
                # It may have cut the measuring short, which is done again.
                raise KeyboardInterrupt
            self._write("finished", [{}])

    def _train(self) -> None:
        around, job = self._around, self._around.job
        save, measure = Timer(60 * job.save_minutes), Timer(60 * job.validate_minutes)
        queue = BatchQueue(
            self._draw, seed=(job.seed, around.world.rank), first_step=self._step, num_threads=job.data_threads
        )
        with queue:
            while (progress := self._progress()) < 1:
                self._advance(queue.take(), progress)
                if self._agree_to_stop():
                    self._save()
                    raise KeyboardInterrupt
                if save.is_due():
                    self._save()
                if measure.is_due() and around.world.is_first:
                    self._export_and_measure(job.validation_qualities)

    def _advance(self, batch: Batch, progress: float) -> None:
        job, world = self._around.job, self._around.world
        torch.manual_seed(mix_seed(job.seed, world.rank, self._step))
        self._means.add(self._stage.step(batch, progress), num_crops=batch.num_crops * world.size)
        self._step += 1
        if self._step % job.report_steps == 0:
            self._report()

    def _draw(self, rng: np.random.Generator) -> Batch:
        return self._stage.draw(self._around.training, rng)

    def _progress(self) -> float:
        """Return how much of the budget is used up: the same in all processes, whatever their clocks say."""
        world = self._around.world
        # By the first one's clock: the others' go on while it measures.
        (elapsed_s,) = world.largest([self._watch.elapsed_s if world.is_first else 0.0])
        return self._budget.progress(self._step, elapsed_s)

    def _agree_to_stop(self) -> bool:
        (stopped,) = self._around.world.largest([float(self._around.is_told_to_stop())])
        return stopped > 0

    def _report(self) -> None:
        """Write the means since the last report, and tell them."""
        now_s = time.monotonic()
        crops_per_s = self._means.num_crops / max(now_s - self._reported_s, 1e-9)
        self._reported_s = now_s
        figures = self._means.take()
        if not figures or not self._around.world.is_first:
            return
        elapsed_s = self._watch.elapsed_s
        progress = self._budget.progress(self._step, elapsed_s)
        self._write("training", [{"progress": progress, "crops_per_s": crops_per_s, **figures}])
        self._around.on_event(
            TrainingReport(
                stage=self._name,
                step=self._step,
                progress=progress,
                time_left_s=self._budget.time_left_s(self._step, elapsed_s),
                crops_per_s=crops_per_s,
                metrics=tuple((name, value) for name, value in figures.items() if "_q" not in name),
            )
        )

    def _save(self) -> None:
        if not self._around.world.is_first:
            return
        members = {
            "stage": self._stage.state_dict(),
            "step": self._step,
            "elapsed_s": self._watch.elapsed_s,
            "means": self._means.state_dict(),
        }
        save_state(self._around.folder.state_path(self._name), members)

    def _restore(self, state: State) -> tuple[int, float]:
        """Give the stage its state back; returns steps and seconds so far."""
        members, step, elapsed_s, means = state["stage"], state["step"], state["elapsed_s"], state["means"]
        assert isinstance(members, dict)
        assert isinstance(step, int)
        assert isinstance(elapsed_s, float)
        assert isinstance(means, dict)
        self._stage.load_state_dict(members)
        self._means.load_state_dict(means)
        return step, elapsed_s

    def _export_and_measure(self, qualities: Sequence[int], *, is_last: bool = False) -> None:
        """Put the stage's export in its place, measure it on the held-out pictures, and draw the curves."""
        folder = self._around.folder
        exported = folder.export_path(self._name)
        temporary = exported.with_name(f"{exported.stem}.new{exported.suffix}")
        self._stage.export(temporary)
        if is_last:
            self._finish(temporary)
        put_in_place(temporary, exported)
        self._measure(exported, qualities, checkpoint="trained")
        draw_curves(folder.plot_path(self._name), folder.rows(self._name), title=f"{self._name}, step {self._step}")

    def _measure(self, exported: Path, qualities: Sequence[int], *, checkpoint: str) -> None:
        if not len(self._around.held_out):
            return
        rows: list[Row] = []
        started_s = time.monotonic()
        with self._watch.pause():
            for quality in qualities:
                if self._around.is_told_to_stop():
                    return
                rows += self._stage.validate(exported, self._around.held_out, (quality,))
        self._reported_s += time.monotonic() - started_s
        self._write("validation", [{"checkpoint": checkpoint, **row} for row in rows])

    def _write(self, kind: str, rows: Sequence[Row]) -> None:
        common = {"stage": self._name, "kind": kind, "step": self._step, "elapsed_s": round(self._watch.elapsed_s, 1)}
        self._around.folder.append_rows([{**common, **row} for row in rows])

    def _say(self, text: str) -> None:
        if self._around.world.is_first:
            self._around.on_event(Note(text=text))


def mix_seed(*numbers: int) -> int:
    """Return a seed for torch that depends on all of the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
