"""Several processes learn as one would from all their crops together, and only the first one writes."""

import json
import multiprocessing
import socket
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn

from framevault.pipeline.jobs.train.optimisation import Descent, ParameterGroup
from framevault.pipeline.jobs.train.processes import Launch
from framevault.pipeline.jobs.train.world import World
from tests.pipeline.jobs.job_server import JobServer, Stroke
from tests.pipeline.jobs.train.toy import make_data, read_rows, write_settings

NUM_STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    weights: list[float]
    texts: list[str]
    largest: list[float]


def learn(world: World, inputs_nc: Tensor) -> Tensor:
    """Make some steps, and return the weights; each process has its share of the inputs."""
    torch.manual_seed(world.rank)
    layer = nn.Linear(3, 1)
    world.copy_first([layer])
    if world.size == 1:
        torch.manual_seed(0)
        layer = nn.Linear(3, 1)
    group = ParameterGroup(parameters=tuple(layer.parameters()), learning_rate=1.0)
    descent = Descent([group], clip_norm=0.5, world=world, max_bad_steps=3)
    for _ in range(NUM_STEPS):
        descent.step(layer(inputs_nc[world.rank :: world.size]).square().mean(), rate=1.0)
    return torch.cat([parameter.detach().flatten() for parameter in layer.parameters()])


def learn_in_process(rank: int, port: int, inputs_nc: list[list[float]], answers: "Queue[Learnt]") -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    world = World(rank=rank, size=2)
    weights = learn(world, torch.tensor(inputs_nc))
    texts, largest = world.gather([f"from {rank}"]), world.largest([float(rank), -float(rank)])
    answers.put(Learnt(weights=weights.tolist(), texts=texts, largest=largest))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_learn_as_one_does_from_the_whole_batch() -> None:
    torch.manual_seed(1)
    inputs = torch.randn(8, 3)
    context = multiprocessing.get_context("spawn")
    answers: Queue[Learnt] = context.Queue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        context.Process(target=learn_in_process, args=(rank, port, inputs.tolist(), answers)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    learnt = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()

    alone = learn(World(), inputs)

    assert learnt[0] == learnt[1]
    torch.testing.assert_close(torch.tensor(learnt[0].weights), alone)
    assert learnt[0].texts == ["from 0", "from 1"]
    assert learnt[0].largest == [1.0, 0.0]


@pytest.mark.slow
def test_the_command_trains_in_two_processes_and_one_of_them_writes(tmp_path: Path, job_server: JobServer) -> None:
    config = write_settings(tmp_path / "a.yaml", processes=2, steps=2, report_steps=1)
    data = make_data(tmp_path / "pictures")

    ended = job_server.run("train", "dicm", "--data", data, "--out", tmp_path / "out", "--config", config, "--json")

    assert ended.code == 0, ended.stderr
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [event["step"] for event in events if event["event"] == "training_report"] == [1, 2]
    assert [row["step"] for row in read_rows(tmp_path / "out", "training")] == [1, 2]
    assert len(read_rows(tmp_path / "out", "validation")) == 8


@pytest.mark.slow
def test_an_error_in_a_started_process_is_told_as_if_it_were_alone(tmp_path: Path, job_server: JobServer) -> None:
    config = write_settings(tmp_path / "a.yaml", processes=2, batch_size=20)
    data = make_data(tmp_path / "pictures")

    ended = job_server.run("train", "dicm", "--data", data, "--out", tmp_path / "out", "--config", config)

    assert ended.code == 2
    assert "expected at least 40 pictures to train on (batch_size 20, 2 processes)" in ended.stderr


@pytest.mark.slow
def test_killed_or_interrupted_it_ends_where_it_would_have_ended(tmp_path: Path, job_server: JobServer) -> None:
    data = make_data(tmp_path / "pictures")
    config = write_settings(tmp_path / "a.yaml", steps=6, report_steps=1, held_out=0, save_minutes=1e-6)
    command = ("train", "dicm", "--data", data, "--config", config, "--json", "--out")
    straight = job_server.run(*command, tmp_path / "straight")
    # Notes come first: some three of them.
    killed = job_server.run(*command, tmp_path / "out", stroke=Stroke(signal_number=9, at_line=5))
    interrupted = job_server.run(*command, tmp_path / "out", stroke=Stroke(signal_number=2, at_line=5))

    ended = job_server.run(*command, tmp_path / "out")

    assert (straight.code, killed.code, interrupted.code, ended.code) == (0, -9, 130, 0), ended.stderr
    one, other = (tmp_path / name / "codec.safetensors" for name in ("out", "straight"))
    assert one.read_bytes() == other.read_bytes()
    assert [row["step"] for row in read_rows(tmp_path / "out", "training")] == [1, 2, 3, 4, 5, 6]


def test_what_torchrun_sets_is_read_and_nothing_else() -> None:
    told = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}

    assert Launch.read(told) == Launch(rank=3, size=8, local_rank=1)
    assert Launch.read({"RANK": "3"}) is None
