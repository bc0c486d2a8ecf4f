"""`framevault train dicm`: sources in, a checkpoint for `framevault compress --weights` out."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from framevault.configs.train import TrainDicmJob
from framevault.pipeline.events import Event, Note
from framevault.pipeline.executors.base import EventSink
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.jobs.train.budget import Budget
from framevault.pipeline.jobs.train.data import load_data
from framevault.pipeline.jobs.train.display import open_training_display
from framevault.pipeline.jobs.train.folder import TrainingFolder, open_folder
from framevault.pipeline.jobs.train.loop import StageLoop, Surroundings, mix_seed
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.processes import Launch, run_together
from framevault.pipeline.jobs.train.stage_table import STAGE_ROWS
from framevault.pipeline.jobs.train.stages import Batch, StageSetup
from framevault.pipeline.jobs.train.stop_signal import watch_for_stop
from framevault.pipeline.jobs.train.world import World
from framevault.pipeline.tables import print_table

MOST_LISTED = 20
"""So many pictures that could not be read are listed; the file has all of them."""

MEASURED_COLUMNS: tuple[str, ...] = (
    "quality",
    "pictures",
    "bytes_per_picture",
    "bits_per_pixel",
    "feature_error",
    "tail_error",
)
"""Of the table at the end."""

DEFAULT_STAGES = ("codec", "video")
"""Trained unless told otherwise."""

_STATISTICS = 2**32 - 1
"""Stands in the seed of batches that are drawn for statistics, where a step's number would."""


def print_train(job: TrainDicmJob, *, launch: Launch | None, as_json: bool) -> ExitCode:
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
        TrainingError: It can't go on.
        KeyboardInterrupt: It was told to stop; the state is saved.
    """
    run_together(train_process, job, launch=launch, as_json=as_json)
    if launch is not None and launch.rank:
        return ExitCode.DONE
    folder = TrainingFolder(Path(job.out))
    unreadable = folder.read_unreadable()
    measured = _compare_measured(folder.rows("codec"))
    if as_json:
        exported = str(folder.codec_path) if folder.codec_path.exists() else None
        summary = {"exported": exported, "unreadable": unreadable, "measured": measured.to_pylist()}
        sys.stdout.write(json.dumps({"event": "summary", **summary}) + "\n")
    else:
        if measured.num_rows:
            print_table(measured, title="Held-out pictures through real streams")
        sys.stdout.write(_describe(folder, unreadable))
    return ExitCode.QUARANTINED if unreadable and launch is None else ExitCode.DONE


def train_process(job: TrainDicmJob, world: World, device: torch.device, as_json: bool) -> None:
    """Do one process's part of a training; the first one writes and speaks."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    opened = open_folder(job) if world.is_first else nullcontext(TrainingFolder(Path(job.out)))
    display = open_training_display(as_json=as_json) if world.is_first else nullcontext(_ignore)
    with opened as folder, display as on_event:
        if all(folder.is_finished(name) for name in job.stages or DEFAULT_STAGES):
            on_event(Note(text=f"{job.out}: finished before"))
            return
        data = load_data(job, world, on_event=on_event)
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
            _train_stages(_budgets(job, _choose_stages(around)), around, device)


def _train_stages(budgets: dict[str, Budget], around: Surroundings, device: torch.device) -> None:
    """Train the chosen stages, one after another."""
    job, world = around.job, around.world
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
        StageLoop(name, STAGE_ROWS[name].build(setup), budget, around).run()
        earlier[name] = around.folder.export_path(name)
        if world.is_first and STAGE_ROWS[name].makes_codec:
            around.folder.publish(name)


def _choose_stages(around: Surroundings) -> Sequence[str]:
    """Return the stages that were asked for, or all that make a codec and have what they need."""
    if around.job.stages is not None:
        return around.job.stages
    (num_without,) = around.world.largest([float(not around.training.clips)])
    if not num_without:
        return DEFAULT_STAGES
    if around.world.is_first and not around.folder.is_finished("video"):
        around.on_event(Note(text="stage video is left out: in the data no frames follow one another within a second"))
        around.folder.append_rows([{"stage": "video", "kind": "finished", "step": 0}])
    return [name for name in DEFAULT_STAGES if name != "video"]


def _budgets(job: TrainDicmJob, stages: Sequence[str]) -> dict[str, Budget]:
    """Return each chosen stage's part of the budget."""
    minutes = job.trained_minutes
    whole = Budget(steps=job.steps, seconds=None if minutes is None else 60 * minutes)
    total = sum(STAGE_ROWS[name].share for name in stages)
    return {name: whole.share(STAGE_ROWS[name].share / total) for name in stages}


def _sampler(
    job: TrainDicmJob, world: World, pictures: PictureSet
) -> Callable[[Callable[[PictureSet, np.random.Generator], Batch], int], list[Batch]]:
    def draw_samples(draw: Callable[[PictureSet, np.random.Generator], Batch], num_batches: int) -> list[Batch]:
        seeds = [(job.seed, world.rank, _STATISTICS, number) for number in range(num_batches)]
        return [draw(pictures, np.random.default_rng(seed)) for seed in seeds]

    return draw_samples


def _speaker(on_event: EventSink) -> Callable[[str], None]:
    return lambda text: on_event(Note(text=text))


def _ignore(event: Event) -> None:
    """Take an event of a process that is not to speak."""


def _compare_measured(rows: list[dict[str, object]]) -> pa.Table:
    """Return the last measurement by quality, beside that of the checkpoint which the training began with."""
    measured = [row for row in rows if row.get("kind") == "validation"]
    trained = [row for row in measured if row.get("checkpoint") == "trained"]
    last = [row for row in trained if row.get("step") == trained[-1].get("step")]
    start = {row.get("quality"): row for row in measured if row.get("checkpoint") == "start"}
    names = [name for name in MEASURED_COLUMNS if last and name in last[0]]
    table = {name: [_rounded(row[name]) for row in last] for name in names}
    if last and start:
        for name in names[3:]:
            table[f"{name}_before"] = [_rounded(start.get(row.get("quality"), {}).get(name)) for row in last]
    return pa.table(table)


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


def _describe(folder: TrainingFolder, unreadable: list[str]) -> str:
    """Say where things are, and what could not be read."""
    lines = [f"{folder.path}: metrics, curves, and what each stage learnt"]
    if folder.codec_path.exists():
        lines.append(f"use it:  framevault compress SOURCE... VAULT --weights {folder.codec_path}")
    if unreadable:
        lines.append(f"{len(unreadable)} pictures or sources can't be read, and were left out:")
        lines += [f"  {line}" for line in unreadable[:MOST_LISTED]]
        if len(unreadable) > MOST_LISTED:
            lines.append(f"  and {len(unreadable) - MOST_LISTED} more: {folder.path}/unreadable.txt")
    return "\n".join(lines) + "\n"
