"""One process or many: a training alone, one process a GPU started from here, or those that torchrun started.

Many processes are torch.distributed's: NCCL between GPUs, gloo between CPUs. On one machine `--processes` starts them;
on several, `torchrun --nnodes ... -m framevault.pipeline.cli train dicm ...` does, with the output folder on a disk
that all of them see.
"""

import multiprocessing
import os
import queue
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue

import torch
from torch import distributed

from framevault.configs.train import TrainSettings
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.errors import TrainingError
from framevault.pipeline.jobs.train.stop_signal import watch_for_stop
from framevault.pipeline.jobs.train.world import World

LONGEST_WAIT = timedelta(hours=2)
"""Processes wait so long for one that decodes or measures."""

JOIN_EVERY_S = 0.2
"""Seconds between looks at processes that were started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What torchrun told this process; the address of the others stands in the environment, where torch reads it."""

    rank: int
    """Number of this process among all."""
    size: int
    """How many there are."""
    local_rank: int
    """Number of this process on its machine: its GPU."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Launch | None":
        """Read what torchrun sets; None if it did not start this process."""
        texts = [environment.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
        numbers = [int(text) for text in texts if text is not None and text.isdecimal()]
        return cls(rank=numbers[0], size=numbers[1], local_rank=numbers[2]) if len(numbers) == len(texts) else None


def choose_device(job: TrainSettings, *, local_rank: int = 0) -> torch.device:
    """Return where a process computes.

    Raises:
        PreflightError: There is no such GPU.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if job.device == "cpu" or (job.device == "auto" and not num_gpus):
        return torch.device("cpu")
    number = int(job.device.partition(":")[2] or local_rank) if job.device != "auto" else local_rank
    if number >= num_gpus:
        raise PreflightError(
            f"device: {job.device} (GPU {number}) expected, torch finds {num_gpus} GPUs on this machine"
        )
    return torch.device("cuda", number)


def count_processes(job: TrainSettings) -> int:
    """Return how many processes this machine starts: one a GPU, unless told otherwise."""
    if job.processes is not None:
        return job.processes
    takes_all = job.device == "cuda" or (job.device == "auto" and torch.cuda.is_available())
    return max(1, torch.cuda.device_count()) if takes_all else 1


def run_together(
    train: Callable[[TrainSettings, World, torch.device, bool], None],
    job: TrainSettings,
    *,
    launch: Launch | None,
    as_json: bool,
) -> None:
    """Run a training in as many processes as it is for.

    Args:
        train: What each process does; a function of a module, as it is named to other processes.
        job: The settings.
        launch: What torchrun said, if it started this process.
        as_json: Is handed on.

    Raises:
        PreflightError: The settings do not fit this machine or the data.
        TrainingError: It can't go on, or a process died.
        KeyboardInterrupt: It was told to stop; the state is saved.
    """
    if launch is not None:
        device = choose_device(job, local_rank=launch.local_rank)
        with _join("env://", rank=launch.rank, size=launch.size, device=device) as world:
            train(job, world, device, as_json)
        return
    size = count_processes(job)
    if size == 1:
        train(job, World(), choose_device(job), as_json)
        return
    for rank in range(size):
        choose_device(job, local_rank=rank)
    _start_and_wait(train, job, size=size, as_json=as_json)


def _start_and_wait(
    train: Callable[[TrainSettings, World, torch.device, bool], None], job: TrainSettings, *, size: int, as_json: bool
) -> None:
    """Start processes, hand a wish to stop on to them, and raise what the first one to fail raised."""
    context = multiprocessing.get_context("spawn")
    errors: Queue[BaseException] = context.Queue()
    method = f"tcp://127.0.0.1:{_free_port()}"
    arguments = (train, job, size, method, as_json, errors)
    processes = [
        context.Process(target=_run_rank, args=(rank, *arguments), name=f"train-{rank}") for rank in range(size)
    ]
    with watch_for_stop() as is_told_to_stop:
        for process in processes:
            process.start()
        try:
            error = _wait(processes, errors, is_told_to_stop)
        finally:
            for process in processes:
                process.kill()
                process.join()
    if error is not None:
        raise error


def _wait(
    processes: Sequence[BaseProcess], errors: "Queue[BaseException]", is_told_to_stop: Callable[[], bool]
) -> BaseException | None:
    """Wait for all processes, or for the first that fails; returns its error."""
    was_told = False
    while any(process.is_alive() for process in processes):
        if is_told_to_stop() and not was_told:
            was_told = True
            for process in processes:
                if process.pid is not None:
                    os.kill(process.pid, signal.SIGTERM)
        try:
            return errors.get(timeout=JOIN_EVERY_S)
        except queue.Empty:
            pass
        for process in processes:
            if process.exitcode not in (None, 0):
                # Told to stop before its first step, a process has nothing to save and just ends.
                died = TrainingError(f"{process.name} ended with exit code {process.exitcode}")
                return _last_error(errors) or (KeyboardInterrupt() if was_told else died)
    return _last_error(errors)


def _last_error(errors: "Queue[BaseException]") -> BaseException | None:
    try:
        return errors.get(timeout=JOIN_EVERY_S)
    except queue.Empty:
        return None


def _run_rank(
    rank: int,
    train: Callable[[TrainSettings, World, torch.device, bool], None],
    job: TrainSettings,
    size: int,
    method: str,
    as_json: bool,
    errors: "Queue[BaseException]",
) -> None:
    """What a started process does: trains, and sends the error that ends it."""
    device = choose_device(job, local_rank=rank)
    try:
        with _join(method, rank=rank, size=size, device=device) as world:
            train(job, world, device, as_json)
    except (ValueError, TrainingError, KeyboardInterrupt) as error:
        errors.put(error)


@contextmanager
def _join(method: str, *, rank: int, size: int, device: torch.device) -> Iterator[World]:
    """Join the other processes while the block runs."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(backend, init_method=method, rank=rank, world_size=size, timeout=LONGEST_WAIT)
    try:
        yield World(rank=rank, size=size, device=str(device))
    finally:
        distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
