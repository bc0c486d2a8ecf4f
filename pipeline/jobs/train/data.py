"""From the settings to decoded pictures: this process's share of the training set, and what is held out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from framevault.configs.train import TrainSettings
from framevault.pipeline.events import Note
from framevault.pipeline.executors.base import EventSink
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.candidates import (
    Candidate,
    Found,
    Split,
    Unreadable,
    find_candidates,
    split_candidates,
)
from framevault.pipeline.jobs.train.pictures import Loaded, PictureSet, load_pictures
from framevault.pipeline.jobs.train.world import World
from framevault.pipeline.sources import expand_inputs
from framevault.pipeline.tables import describe_bytes
from framevault.workers.limits import DecodeLimits

NOTE_EVERY = 1000
"""Decoded pictures between two lines about them."""

LONGEST_RUN = 64
"""Pictures in a row that one process gets."""

MOST_REASONS = 3
"""So many reasons stand in the message that nothing can be read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingData:
    """What a process trains on."""

    training: PictureSet
    """Its share."""
    held_out: PictureSet
    """What is measured on; empty in all processes but the first."""
    unreadable: tuple[Unreadable, ...]
    """What was left out, as far as this process knows."""


def load_data(
    job: TrainSettings, world: World, *, choose: Callable[[Found], Found], short_side: int, on_event: EventSink
) -> TrainingData:
    """Find, choose and decode the pictures; larger ones are scaled down to the short side.

    Args:
        job: The settings.
        world: The processes.
        choose: Gives those of the pictures in the data that are taken.
        short_side: In pixels.
        on_event: Is told how it goes.

    Raises:
        InputError: A source is not there.
        PreflightError: Nothing can be read, the choice fails, or there are fewer pictures than one step takes.
    """
    limits = DecodeLimits(**job.limits.model_dump())
    locations = expand_inputs(job.data)
    on_event(Note(text=f"data: looking into {len(locations)} sources"))
    found = find_candidates(locations, video_fps=job.video_fps, short_side=short_side, limits=limits)
    _check_any(found.candidates, found.unreadable)
    found = choose(found)
    split = split_candidates(
        found.candidates,
        held_out=job.held_out,
        num_measured=job.validation_pictures,
        room_bytes=job.cache_bytes,
    )
    _check_enough(len(split.training), job, world, num_unreadable=len(found.unreadable), split=split)
    training = _load(_share(split.training, world), job, limits, on_event)
    held_out = _load(split.held_out if world.is_first else (), job, limits, on_event)
    unreadable = (*found.unreadable, *training.unreadable, *held_out.unreadable)
    _check_any(training.pictures.names, unreadable)
    _check_enough(len(training.pictures) * world.size, job, world, num_unreadable=len(unreadable), split=split)
    on_event(Note(text=_describe(found, split, training, held_out, unreadable)))
    return TrainingData(training=training.pictures, held_out=held_out.pictures, unreadable=unreadable)


def _share(candidates: tuple[Candidate, ...], world: World) -> tuple[Candidate, ...]:
    """Return a process's share: every so manieth run of pictures, so that frames stay beside their neighbours."""
    run = max(1, min(LONGEST_RUN, len(candidates) // (4 * world.size)))
    return tuple(each for number, each in enumerate(candidates) if number // run % world.size == world.rank)


def _load(candidates: tuple[Candidate, ...], job: TrainSettings, limits: DecodeLimits, on_event: EventSink) -> Loaded:
    def tell(num_done: int) -> None:
        if num_done % NOTE_EVERY == 0:
            on_event(Note(text=f"data: {num_done} of {len(candidates)} pictures decoded"))

    return load_pictures(
        candidates,
        cache_dir=None if job.cache_dir is None else Path(job.cache_dir),
        num_threads=job.data_threads,
        limits=limits,
        on_progress=tell,
    )


def _check_any(good: tuple[object, ...], unreadable: tuple[Unreadable, ...]) -> None:
    if not good:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in unreadable[:MOST_REASONS])
        raise PreflightError(f"data: expected pictures or videos, none of {len(unreadable)} can be read: {reasons}")


def _check_enough(num_pictures: int, job: TrainSettings, world: World, *, num_unreadable: int, split: Split) -> None:
    needed = job.batch_size * world.size
    if num_pictures < needed:
        raise PreflightError(
            f"data: expected at least {needed} pictures to train on (batch_size {job.batch_size}, {world.size} "
            f"processes), got {num_pictures} besides {len(split.held_out)} held out, {num_unreadable} unreadable and "
            f"{split.num_without_room} without room in cache_bytes; take more pictures, a higher video_fps or a "
            "smaller batch_size"
        )


def _describe(
    found: Found, split: Split, training: Loaded, held_out: Loaded, unreadable: tuple[Unreadable, ...]
) -> str:
    size = describe_bytes(training.pictures.size_bytes)
    text = f"data: {len(training.pictures)} pictures to train on ({size}), {len(held_out.pictures)} to measure on"
    held_back = len(found.candidates) - len(split.training) - len(split.held_out) - split.num_without_room
    if held_back:
        text += f" and {held_back} more held out"
    if split.num_without_room:
        text += f"; {split.num_without_room} left out, as cache_bytes has no room for them"
    if unreadable:
        text += f"; {len(unreadable)} can't be read"
    return text
