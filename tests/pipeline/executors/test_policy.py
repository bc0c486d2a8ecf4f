"""Whose fault a failure is, and what follows from it."""

import errno
import pickle

import pytest

from framevault.pipeline.executors.policy import (
    FailureCategory,
    FailureLedger,
    FailurePolicy,
    GiveUp,
    Retry,
    Stop,
    TaskError,
    classify,
    describe_error,
)
from framevault.pipeline.executors.testing import ToyInputError, ToyTask

TASK = ToyTask(task_id="task")


class DamagedFrameError(ToyInputError):
    pass


def error_of(category: FailureCategory, *, location: str = "module:1", error_type: str = "a.Error") -> TaskError:
    return TaskError(category=category, reason="why", error_type=error_type, location=location, details="")


def caught_from(raiser: type[BaseException]) -> BaseException:
    try:
        raise raiser("said")
    except raiser as error:
        return error


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (OSError(errno.ENOSPC, "full"), "environment"),
        (OSError(errno.EROFS, "read-only"), "environment"),
        (OSError(errno.EMFILE, "too many files"), "environment"),
        (ConnectionResetError("gone"), "environment"),
        (TimeoutError("slow"), "environment"),
        (MemoryError(), "environment"),
        (FileNotFoundError(errno.ENOENT, "none"), "bug"),
        (ValueError("odd"), "bug"),
        (KeyError("key"), "bug"),
    ],
)
def test_python_tells_whose_fault_an_unlisted_error_is(error: BaseException, category: FailureCategory) -> None:
    assert classify(error) == category


def test_a_listed_class_stands_for_its_subclasses() -> None:
    assert classify(DamagedFrameError("x"), {ToyInputError: "input"}) == "input"


def test_the_nearest_listed_class_wins() -> None:
    categories: dict[type[BaseException], FailureCategory] = {
        ValueError: "bug",
        ToyInputError: "input",
        DamagedFrameError: "killed",
    }

    assert classify(DamagedFrameError("x"), categories) == "killed"
    assert classify(ToyInputError("x"), categories) == "input"


def test_a_list_wins_over_what_python_tells() -> None:
    assert classify(OSError(errno.ENOSPC, "full"), {OSError: "input"}) == "input"


def test_an_error_becomes_values_that_name_class_and_line_and_pickle() -> None:
    told = describe_error(caught_from(ToyInputError), categories={ToyInputError: "input"})

    assert (told.category, told.reason) == ("input", "said")
    assert told.error_type == "framevault.pipeline.executors.testing.ToyInputError"
    assert told.location.startswith(f"{__name__}:")
    assert "ToyInputError: said" in told.details
    assert pickle.loads(pickle.dumps(told)) == told


def test_an_error_without_words_is_named() -> None:
    assert describe_error(MemoryError(), categories={}).reason == "MemoryError"


def test_an_input_is_never_tried_again() -> None:
    verdict = FailureLedger(FailurePolicy()).judge(TASK, error_of("input"), attempts=1)

    assert isinstance(verdict, GiveUp)
    assert (verdict.failure.category, verdict.failure.attempts, verdict.stop_reason) == ("input", 1, None)


def test_a_killed_task_is_tried_at_once_until_the_limit() -> None:
    ledger = FailureLedger(FailurePolicy(max_attempts=3))

    verdicts = [ledger.judge(TASK, error_of("killed"), attempts=attempt) for attempt in (1, 2, 3)]

    assert verdicts[:2] == [Retry(wait_s=0.0)] * 2
    assert isinstance(verdicts[2], GiveUp)
    assert verdicts[2].failure.category == "killed"


def test_waits_double_up_to_the_longest_and_then_the_job_stops() -> None:
    ledger = FailureLedger(FailurePolicy(first_wait_s=1.0, longest_wait_s=5.0, max_waits=5))

    verdicts = [ledger.judge(TASK, error_of("environment"), attempts=attempt) for attempt in range(1, 7)]

    assert verdicts[:5] == [Retry(wait_s=wait_s) for wait_s in (1.0, 2.0, 4.0, 5.0, 5.0)]
    assert verdicts[5] == Stop(reason="why (a.Error; still so after 5 waits)")


def test_a_task_that_alone_finds_no_memory_is_given_up_while_the_others_go_on() -> None:
    ledger = FailureLedger(FailurePolicy(max_waits=1))

    first = ledger.judge(TASK, error_of("environment"), attempts=1)
    ledger.note_wait()
    ledger.note_success(ToyTask(task_id="other"))
    second = ledger.judge(TASK, error_of("environment"), attempts=2)

    assert first == Retry(wait_s=1.0)
    assert isinstance(second, GiveUp)
    assert (second.failure.category, second.stop_reason) == ("environment", None)


def test_successes_before_the_first_wait_is_over_do_not_count() -> None:
    ledger = FailureLedger(FailurePolicy(max_waits=1))

    ledger.note_success(ToyTask(task_id="before"))
    ledger.judge(TASK, error_of("environment"), attempts=1)
    ledger.note_success(ToyTask(task_id="under way"))
    ledger.note_wait()

    assert isinstance(ledger.judge(TASK, error_of("environment"), attempts=2), Stop)


def bug_on(ledger: FailureLedger, video_id: str, error: TaskError) -> str | None:
    verdict = ledger.judge(ToyTask(task_id=f"of-{video_id}", video_id=video_id), error, attempts=1)
    assert isinstance(verdict, GiveUp)
    return verdict.stop_reason


def test_the_same_bug_on_enough_videos_stops_the_job() -> None:
    ledger = FailureLedger(FailurePolicy(same_bug_videos=3))

    reasons = [bug_on(ledger, video_id, error_of("bug")) for video_id in ("a", "b", "b", "a", "c")]

    assert reasons == [None] * 4 + ["the same bug on 3 videos: a.Error at module:1: why"]


def test_different_bugs_do_not_add_up() -> None:
    ledger = FailureLedger(FailurePolicy(same_bug_videos=2))

    reasons = [
        bug_on(ledger, "a", error_of("bug", location="module:1")),
        bug_on(ledger, "b", error_of("bug", location="module:2")),
        bug_on(ledger, "c", error_of("bug", error_type="b.Error")),
    ]

    assert reasons == [None] * 3


def test_inputs_never_stop_the_job() -> None:
    ledger = FailureLedger(FailurePolicy(same_bug_videos=1))

    assert bug_on(ledger, "a", error_of("input")) is None
