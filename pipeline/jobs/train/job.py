"""`framevault train`: sources in, a checkpoint for `framevault compress` or `detect` out."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from framevault.configs.train import TrainDicmJob, TrainSettings
from framevault.configs.train_detector import TrainDetectorJob
from framevault.configs.train_hsc import TrainHscJob
from framevault.pipeline.events import Event, Note
from framevault.pipeline.executors.base import EventSink
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.jobs.train.budget import Budget
from framevault.pipeline.jobs.train.data import load_data
from framevault.pipeline.jobs.train.detector.stage_table import DETECTOR
from framevault.pipeline.jobs.train.display import open_training_display
from framevault.pipeline.jobs.train.folder import TrainingFolder, open_folder
from framevault.pipeline.jobs.train.hsc.stage_table import HSC, check_start
from framevault.pipeline.jobs.train.kind import TrainingKind
from framevault.pipeline.jobs.train.loop import StageLoop, Surroundings, mix_seed
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.processes import Launch, run_together
from framevault.pipeline.jobs.train.stage_table import DICM
from framevault.pipeline.jobs.train.stages import Batch, Job, StageRow, StageSetup
from framevault.pipeline.jobs.train.stop_signal import watch_for_stop
from framevault.pipeline.jobs.train.world import World
from framevault.pipeline.tables import print_table
from framevault.workers.memory import keep_freed_memory

MOST_LISTED = 20
"""So many pictures that could not be read are listed; the file has all of them."""

_STATISTICS = 2**32 - 1
"""Stands in the seed of batches that are drawn for statistics, where a step's number would."""


def print_train(job: TrainSettings, *, launch: Launch | None, as_json: bool) -> ExitCode:
    """Train, show how it goes, and print what was measured.

    Args:
        job: The settings.
        launch: What torchrun told this process, if it started it.
        as_json: Whether events and results are JSON lines.

    Returns:
        `QUARANTINED` if some of the pictures could not be read; not below torchrun, which takes it for a crash.

    Raises:
        PreflightError: The settings do not fit this machine, the data, or the training that they would resume.
        InputError: A source is not there.
        CodecError: A file of weights is missing, damaged or another's.
        DetectorError: The same of a detector.
        TrainingError: It can't go on.
        KeyboardInterrupt: It was told to stop; the state is saved.
    """
    if isinstance(job, TrainHscJob):
        check_start(job)
    run_together(train_process, job, launch=launch, as_json=as_json)
    if launch is not None and launch.rank:
        return ExitCode.DONE
    match job:
        case TrainDicmJob():
            _print_result(DICM, job, as_json=as_json)
        case TrainHscJob():
            _print_result(HSC, job, as_json=as_json)
        case TrainDetectorJob():
            _print_result(DETECTOR, job, as_json=as_json)
    has_unreadable = bool(TrainingFolder(Path(job.out)).read_unreadable())
    return ExitCode.QUARANTINED if has_unreadable and launch is None else ExitCode.DONE


def _print_result(kind: TrainingKind[Job], job: Job, *, as_json: bool) -> None:
    """Print what was exported, measured and left out."""
    folder = TrainingFolder(Path(job.out))
    unreadable = folder.read_unreadable()
    measured = _compare_measured(folder, kind)
    path = folder.product_path(kind.product)
    if as_json:
        exported = str(path) if path.exists() else None
        summary = {"exported": exported, "unreadable": unreadable, "measured": measured.to_pylist()}
        sys.stdout.write(json.dumps({"event": "summary", **summary}) + "\n")
    else:
        if measured.num_rows:
            print_table(measured, title="Held-out pictures through real streams")
        sys.stdout.write(_describe(folder, kind, unreadable))


def train_process(job: TrainSettings, world: World, device: torch.device, as_json: bool) -> None:
    """Do one process's part of a training; the first one writes and speaks."""
    keep_freed_memory()
    match job:
        case TrainDicmJob():
            _train(DICM, job, world, device=device, as_json=as_json)
        case TrainHscJob():
            _train(HSC, job, world, device=device, as_json=as_json)
        case TrainDetectorJob():
            _train(DETECTOR, job, world, device=device, as_json=as_json)


def _train(kind: TrainingKind[Job], job: Job, world: World, *, device: torch.device, as_json: bool) -> None:
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    opened = open_folder(job) if world.is_first else nullcontext(TrainingFolder(Path(job.out)))
    display = open_training_display(as_json=as_json) if world.is_first else nullcontext(_ignore)
    with opened as folder, display as on_event:
        if all(folder.is_finished(name) for name in kind.usual_stages(job)):
            on_event(Note(text=f"{job.out}: finished before"))
            return
        data = load_data(
            job,
            world,
            choose=lambda found: kind.choose_pictures(job, found),
            short_side=kind.short_side(job),
            on_event=on_event,
        )
        unreadable = world.gather([f"{each.name}: {each.reason}" for each in data.unreadable])
        if world.is_first:
            folder.write_unreadable(list(dict.fromkeys(unreadable)))
        with watch_for_stop() as is_told_to_stop:
            around = Surroundings(
                job=job,
                world=world,
                folder=folder,
                training=data.training,
                held_out=data.held_out,
                is_told_to_stop=is_told_to_stop,
                on_event=on_event,
            )
            _train_stages(kind, job, around, device=device)


def _train_stages(kind: TrainingKind[Job], job: Job, around: Surroundings, *, device: torch.device) -> None:
    """Train the chosen stages, one after another."""
    world = around.world
    budgets = _budgets(job, kind.rows, kind.choose_stages(job, around))
    earlier: dict[str, Path] = {}
    for number, (name, budget) in enumerate(budgets.items()):
        setup = StageSetup(
            job=job,
            device=device,
            world=world,
            pictures=around.training,
            draw_samples=_sampler(job, world, around.training),
            say=_speaker(around.on_event),
            earlier=dict(earlier),
        )
        torch.manual_seed(mix_seed(job.seed, number))
        row = kind.rows[name]
        StageLoop(name, row.build(setup), budget, around, finish=partial(row.finish, setup)).run()
        earlier[name] = around.folder.export_path(name)
        if world.is_first and row.makes_product:
            around.folder.publish(name, product=kind.product)
        # The next stage reads in every process what the first one has written.
        world.wait()


def _budgets(job: TrainSettings, rows: Mapping[str, StageRow[Job]], stages: Sequence[str]) -> dict[str, Budget]:
    """Return each chosen stage's part of the budget."""
    minutes = job.trained_minutes
    whole = Budget(steps=job.steps, seconds=None if minutes is None else 60 * minutes)
    total = sum(rows[name].share for name in stages)
    return {name: whole.share(rows[name].share / total) for name in stages}


def _sampler(
    job: TrainSettings, world: World, pictures: PictureSet
) -> Callable[[Callable[[PictureSet, np.random.Generator], Batch], int], list[Batch]]:
    def draw_samples(draw: Callable[[PictureSet, np.random.Generator], Batch], num_batches: int) -> list[Batch]:
        seeds = [(job.seed, world.rank, _STATISTICS, number) for number in range(num_batches)]
        return [draw(pictures, np.random.default_rng(seed)) for seed in seeds]

    return draw_samples


def _speaker(on_event: EventSink) -> Callable[[str], None]:
    return lambda text: on_event(Note(text=text))


def _ignore(event: Event) -> None:
    """Take an event of a process that is not to speak."""


def _compare_measured(folder: TrainingFolder, kind: TrainingKind[Job]) -> pa.Table:
    """Return the last measurement by quality, beside that of the checkpoint which the training began with."""
    by_stage = ([row for row in folder.rows(name) if row.get("kind") == "validation"] for name in kind.measured_stages)
    measured = next(filter(None, by_stage), [])
    trained = [row for row in measured if row.get("checkpoint") == "trained"]
    last = [row for row in trained if row.get("step") == trained[-1].get("step")]
    start = {row.get("quality"): row for row in measured if row.get("checkpoint") == "start"}
    names = [name for name in kind.measured_columns if last and name in last[0]]
    table = {name: [_rounded(row[name]) for row in last] for name in names}
    if last and start:
        for name in names[3:]:
            table[f"{name}_before"] = [_rounded(start.get(row.get("quality"), {}).get(name)) for row in last]
    return pa.table(table)


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


def _describe(folder: TrainingFolder, kind: TrainingKind[Job], unreadable: list[str]) -> str:
    """Say where things are, and what could not be read."""
    lines = [f"{folder.path}: metrics, curves, and what each stage learnt"]
    path = folder.product_path(kind.product)
    if path.exists():
        lines.append(f"use it:  {kind.usage} {path}")
    if unreadable:
        lines.append(f"{len(unreadable)} pictures or sources can't be read, and were left out:")
        lines += [f"  {line}" for line in unreadable[:MOST_LISTED]]
        if len(unreadable) > MOST_LISTED:
            lines.append(f"  and {len(unreadable) - MOST_LISTED} more: {folder.path}/unreadable.txt")
    return "\n".join(lines) + "\n"
