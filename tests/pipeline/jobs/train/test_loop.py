"""The loop around a stage of one number: budgets, reports, measurements, and going on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from framevault.configs.train import TrainDicmJob
from framevault.pipeline.events import Event, Note, TrainingReport
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.budget import Budget, Stopwatch, Timer
from framevault.pipeline.jobs.train.folder import TrainingFolder, open_folder
from framevault.pipeline.jobs.train.loop import StageLoop, Surroundings
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import Batch, Row, State
from framevault.pipeline.jobs.train.world import World
from tests.pipeline.jobs.train.toy import read_rows, timeless

PICTURES = PictureSet((np.zeros((64, 64, 3), np.uint8),), ("black",))


class NumberStage:
    """Adds a random number of the batch and one of torch to a sum."""

    starts_from: Path | None = None

    def __init__(self) -> None:
        self.total = 0.0
        self.progress: list[float] = []

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        return Batch(views=(torch.tensor([rng.random()]),))

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        self.progress.append(progress)
        self.total += float(batch.rgb_nchw) + float(torch.rand(1))
        return {"loss": self.total, "rate_q1": 1.0}

    def state_dict(self) -> State:
        return {"total": self.total}

    def load_state_dict(self, state: State) -> None:
        total = state["total"]
        assert isinstance(total, float)
        self.total = total

    def export(self, path: Path) -> None:
        path.write_text(str(self.total))

    def validate(self, exported: Path, pictures: PictureSet, qualities: Sequence[int]) -> list[Row]:
        return [{"quality": quality, "bits_per_pixel": 1.0, "feature_error": 0.5} for quality in qualities]


def stop_at(count: int) -> Callable[[], bool]:
    """Return what says no so many times, and then yes."""
    answers = iter([False] * count)
    return lambda: next(answers, True)


def run(
    out: Path,
    *,
    num_steps: int,
    is_told_to_stop: Callable[[], bool] = lambda: False,
    stage: NumberStage | None = None,
    finish: Callable[[Path], None] = lambda path: None,
) -> tuple[NumberStage, list[Event]]:
    """Train in a folder."""
    stage = stage or NumberStage()
    events: list[Event] = []
    job = TrainDicmJob(data=("x",), out=str(out), steps=num_steps, report_steps=2, validation_qualities=(1,))
    with open_folder(job) as folder:
        around = Surroundings(
            job=job,
            world=World(),
            folder=folder,
            training=PICTURES,
            held_out=PICTURES,
            is_told_to_stop=is_told_to_stop,
            on_event=events.append,
        )
        StageLoop("codec", stage, Budget(steps=num_steps, seconds=None), around, finish=finish).run()
    return stage, events


def test_the_budget_in_steps_is_used_up_and_told(tmp_path: Path) -> None:
    stage, events = run(tmp_path / "out", num_steps=5)

    assert stage.progress == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    reports = [event for event in events if isinstance(event, TrainingReport)]
    assert [(report.step, report.progress) for report in reports] == [(2, 0.4), (4, 0.8), (5, 1.0)]
    assert dict(reports[-1].metrics) == {"loss": pytest.approx(stage.total)}
    assert [row["quality"] for row in read_rows(tmp_path / "out", "validation")] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_stopped_at_any_step_it_goes_on_as_if_it_had_not_been(tmp_path: Path, count: int) -> None:
    straight, _ = run(tmp_path / "straight", num_steps=5)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", num_steps=5, is_told_to_stop=stop_at(count - 1))

    resumed, events = run(tmp_path / "out", num_steps=5)

    assert resumed.total == straight.total
    assert any(isinstance(event, Note) and f"goes on after {count} steps" in event.text for event in events)
    rows = [read_rows(tmp_path / name, "training") for name in ("out", "straight")]
    assert timeless(rows[0]) == timeless(rows[1])


def test_stopped_while_it_measures_it_measures_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", num_steps=3, is_told_to_stop=stop_at(5))

    stage, _ = run(tmp_path / "out", num_steps=3)

    assert stage.progress == []
    assert len(read_rows(tmp_path / "out", "validation")) == 8


def test_only_the_last_export_is_finished(tmp_path: Path) -> None:
    def finish(path: Path) -> None:
        path.write_text(path.read_text() + " finished")

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", num_steps=3, is_told_to_stop=stop_at(1), finish=finish)
    was_exported = (tmp_path / "out" / "codec.safetensors").exists()
    stage, _ = run(tmp_path / "out", num_steps=3, finish=finish)

    assert not was_exported
    assert (tmp_path / "out" / "codec.safetensors").read_text() == f"{stage.total} finished"


def test_rows_of_steps_that_a_kill_undid_are_not_there_twice(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", num_steps=6, is_told_to_stop=stop_at(2))
    folder = TrainingFolder(tmp_path / "out")
    folder.append_rows([{"stage": "codec", "kind": "training", "step": 4, "loss": 1.0}])
    with (tmp_path / "out" / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "codec", "kind": "trai')

    run(tmp_path / "out", num_steps=6)

    assert [row["step"] for row in read_rows(tmp_path / "out", "training")] == [2, 4, 6]


def test_rows_of_a_training_that_was_killed_before_it_saved_are_dropped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", num_steps=4, is_told_to_stop=stop_at(1))
    (tmp_path / "out" / "state" / "codec.safetensors").unlink()

    run(tmp_path / "out", num_steps=4)

    assert [row["step"] for row in read_rows(tmp_path / "out", "training")] == [2, 4]


def test_two_trainings_cannot_share_a_folder(tmp_path: Path) -> None:
    job = TrainDicmJob(data=("x",), out=str(tmp_path / "out"))

    with open_folder(job), pytest.raises(PreflightError, match="another training is at work"), open_folder(job):
        pass


def test_a_start_is_measured_before_the_first_step(tmp_path: Path) -> None:
    stage = NumberStage()
    stage.starts_from = tmp_path / "start"

    run(tmp_path / "out", num_steps=1, stage=stage)

    rows = read_rows(tmp_path / "out", "validation")
    assert [(row["checkpoint"], row["step"]) for row in rows] == [("start", 0)] * 8 + [("trained", 1)] * 8


def test_a_budget_in_seconds_goes_by_the_clock() -> None:
    budget = Budget(steps=None, seconds=100.0)

    assert budget.progress(1000, 25.0) == 0.25
    assert budget.progress(0, 120.0) == 1.0
    assert budget.time_left_s(0, 25.0) == 75
    assert budget.share(0.5).seconds == 50


def test_time_left_follows_from_the_speed_so_far() -> None:
    budget = Budget(steps=10, seconds=None)

    assert budget.time_left_s(0, 0.0) is None
    assert budget.time_left_s(4, 8.0) == 12


def test_a_watch_goes_on_from_earlier_runs_and_a_timer_counts_from_when_it_rang() -> None:
    now_s = 100.0
    watch, timer = Stopwatch(5.0, clock=lambda: now_s), Timer(10.0, clock=lambda: now_s)

    now_s = 112.0
    rang = (timer.is_due(), timer.is_due())

    assert watch.elapsed_s == 17
    assert rang == (True, False)


def test_a_pause_does_not_count() -> None:
    now_s = 100.0
    watch = Stopwatch(5.0, clock=lambda: now_s)

    with watch.pause():
        now_s = 150.0
    now_s = 152.0

    assert watch.elapsed_s == 7
