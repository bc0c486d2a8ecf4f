"""What a person, a log or a program sees of a running job."""

import io
import json
import threading

from rich.console import Console

from framevault.pipeline.events import (
    Event,
    JobDone,
    JobStarted,
    Note,
    StageReport,
    StageStarted,
    TaskDone,
    TaskFailed,
    TaskRetried,
    TasksPlanned,
    TaskStarted,
)
from framevault.pipeline.progress import (
    STATUS_EVERY_S,
    JsonLines,
    LiveTable,
    PlainLines,
    Tally,
    open_progress,
)

STARTED = JobStarted(job="compress", stages=("decode", "encode", "write"), num_tasks=10, num_frames=1000)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def done(task_id: str, *, num_frames: int = 100) -> TaskDone:
    stages = (
        StageReport(stage="decode", busy_s=0.5),
        StageReport(stage="encode", busy_s=4.0, size_bytes=2000),
        StageReport(stage="write", busy_s=0.1, size_bytes=3000),
    )
    return TaskDone(task_id=task_id, num_frames=num_frames, stages=stages)


def tally_of(*events: Event, elapsed_s: float = 0.0) -> Tally:
    clock = Clock()
    tally = Tally(clock=clock)
    for event in events:
        tally.add(event)
    clock.now_s += elapsed_s
    return tally


def test_the_total_counts_tasks_frames_and_the_last_stages_bytes() -> None:
    tasks = (TaskStarted(task_id="a"), TaskStarted(task_id="b"), TaskStarted(task_id="c"), TaskStarted(task_id="d"))
    failed = TaskFailed(task_id="c", name="c.mp4", category="input", reason="damaged", attempts=1)

    row = tally_of(STARTED, *tasks, done("a"), done("b"), failed, elapsed_s=10.0).total_row()

    assert (row.stage, row.num_done, row.num_in_flight, row.num_failed) == ("compress", 2, 1, 1)
    assert (row.frames_per_s, row.size_bytes, row.time_left_s) == (20.0, 6000, 40.0)


def test_a_stages_rate_is_that_of_a_worker_at_work() -> None:
    decode, encode, write = tally_of(STARTED, done("a"), done("b"), elapsed_s=10.0).stage_rows()

    assert (decode.stage, decode.frames_per_s, decode.size_bytes) == ("decode", 200.0, None)
    assert (encode.stage, encode.frames_per_s, encode.size_bytes) == ("encode", 25.0, 4000)
    assert (write.num_done, write.num_in_flight) == (2, None)


def test_stages_that_are_told_show_what_is_in_flight_where() -> None:
    tally = tally_of(
        STARTED,
        TaskStarted(task_id="a"),
        TaskStarted(task_id="b"),
        StageStarted(task_id="a", stage="encode"),
        StageStarted(task_id="b", stage="decode"),
        StageStarted(task_id="b", stage="encode"),
    )

    assert [row.num_in_flight for row in tally.stage_rows()] == [0, 2, 0]


def test_sources_planned_on_the_way_add_to_what_is_left() -> None:
    started = JobStarted(job="compress", stages=("decode",), num_tasks=None, num_frames=None)
    planned = TasksPlanned(name="a.mp4", num_tasks=2, num_frames=300)

    before = tally_of(started, done("a"), elapsed_s=1.0)
    after = tally_of(started, planned, planned, done("a"), elapsed_s=1.0)

    assert before.total_row().time_left_s is None
    assert (after.num_tasks_planned, after.total_row().time_left_s) == (4, 5.0)


def test_nothing_done_has_no_rate_and_no_time_left() -> None:
    row = tally_of(STARTED, TaskStarted(task_id="a"), elapsed_s=5.0).total_row()

    assert (row.frames_per_s, row.time_left_s, row.size_bytes) == (None, None, None)


def test_json_lines_hold_every_field_of_every_event() -> None:
    stream = io.StringIO()
    clock = Clock()
    sink = JsonLines(stream, clock=clock)

    sink(STARTED)
    clock.now_s += 1.5
    sink(done("a"))

    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first == {
        "event": "job_started",
        "at_s": 0.0,
        "job": "compress",
        "stages": ["decode", "encode", "write"],
        "num_tasks": 10,
        "num_frames": 1000,
        "num_tasks_skipped": 0,
    }
    assert (second["event"], second["at_s"], second["task_id"]) == ("task_done", 1.5, "a")
    assert second["stages"][1] == {"stage": "encode", "busy_s": 4.0, "size_bytes": 2000}


def test_json_lines_from_several_threads_do_not_mix() -> None:
    stream = io.StringIO()
    sink = JsonLines(stream)

    def write_fifty() -> None:
        for _ in range(50):
            sink(done("a"))

    threads = [threading.Thread(target=write_fifty) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["task_done"] * 200


def test_plain_lines_tell_what_matters_at_once() -> None:
    stream = io.StringIO()
    sink = PlainLines(stream, clock=Clock())

    sink(STARTED)
    sink(TasksPlanned(name="a.mp4", num_tasks=2, num_frames=300, num_tasks_skipped=1))
    sink(TaskStarted(task_id="a"))
    sink(done("a"))
    sink(TaskRetried(task_id="b", attempt=2, category="environment", reason="disk is full", wait_s=4.0))
    sink(TaskFailed(task_id="c", name="c.mp4, segment 3", category="killed", reason="worker died", attempts=3))
    sink(Note(text="x.mp4 and y.mp4 are one source"))
    sink(JobDone(num_tasks_done=9, num_tasks_failed=1, num_frames=900, elapsed_s=90.0))

    assert stream.getvalue().splitlines() == [
        "compress: 10 segments",
        "a.mp4: 2 segments, 300 frames, 1 done before",
        "b: environment: disk is full; try 2 in 4 s",
        "c.mp4, segment 3: failed after 3 tries (killed): worker died",
        "x.mp4 and y.mp4 are one source",
        "done: 9 segments, 1 failed, 900 frames in 1 min 30 s, 10.0 frames/s",
    ]


def test_plain_lines_tell_how_far_the_job_is_but_not_often() -> None:
    stream = io.StringIO()
    clock = Clock()
    sink = PlainLines(stream, clock=clock)
    sink(STARTED)

    for number in range(8):
        clock.now_s += STATUS_EVERY_S / 4
        sink(done(str(number)))

    assert stream.getvalue().splitlines()[1:] == [
        "compress: 4 of 10 segments, 0 in flight, 40.0 frames/s, 12 kB, 15 s left",
        "compress: 8 of 10 segments, 0 in flight, 40.0 frames/s, 24 kB, 5.0 s left",
    ]


def test_the_live_table_has_a_row_a_stage_and_one_for_all() -> None:
    clock = Clock()
    told: list[str] = []
    sink = LiveTable(told.append, clock=clock)
    sink(STARTED)
    sink(TaskStarted(task_id="a"))
    sink(TaskStarted(task_id="b"))
    sink(done("a"))
    sink(Note(text="[bold]as it is"))
    clock.now_s += 10.0

    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(sink.render())

    rows = [line.replace("│", " ").split() for line in console.export_text().splitlines() if line.startswith("│")]
    assert rows == [
        ["decode", "1", "200.0"],
        ["encode", "1", "25.0", "2", "kB"],
        ["write", "1", "1000.0", "3", "kB"],
        ["compress", "1", "1", "0", "10.0", "3", "kB", "1", "min", "30", "s"],
    ]
    assert told == ["[bold]as it is"]


def test_a_terminal_gets_the_table_and_the_notes_above_it() -> None:
    terminal = Terminal()

    with open_progress(as_json=False, stream=terminal) as on_event:
        on_event(STARTED)
        on_event(Note(text="a [red]note"))
        on_event(done("a"))

    text = terminal.getvalue()
    assert isinstance(on_event, LiveTable)
    assert "a [red]note" in text
    assert "time left" in text


def test_elsewhere_there_are_plain_lines() -> None:
    with open_progress(as_json=False, stream=io.StringIO()) as on_event:
        assert isinstance(on_event, PlainLines)


def test_json_wins_over_the_terminal() -> None:
    with open_progress(as_json=True, stream=Terminal()) as on_event:
        assert isinstance(on_event, JsonLines)
