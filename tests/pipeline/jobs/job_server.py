"""Runs framevault's commands in processes of their own that start at once, and can be killed at any moment.

A server process imports everything once; each command runs in a fork of it, in a process group of its own. The server
adopts what its forks leave behind (decoding children), and answers only when all of it has ended, so that nothing of
one round disturbs the next.

The client is `JobServer`; `python -m tests.pipeline.jobs.job_server` is the server.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

ROOT = Path(__file__).parents[3]
"""The repository; the server imports `tests` from it."""

LONGEST_ROUND_S = 120
"""No round takes this long; it keeps a broken test from hanging."""

PR_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h: orphans of this process's children become its own children."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnded:
    """How one command of a round ended."""

    code: int
    """Exit code; negative: minus the number of the signal that ended it."""
    stdout: str
    """What it printed."""
    stderr: str
    """What it complained of."""
    elapsed_s: float
    """Seconds from its start to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stroke:
    """A signal that a job gets in the midst of its work."""

    signal_number: int
    """SIGKILL or SIGINT."""
    at_line: int = 0
    """The moment is counted from the job's printing of so many lines; 0: from its start."""
    after_s: float = 0.0
    """Seconds from there to the signal; a job that has ended by then gets none."""


class JobServer:
    """A running server; for one thread."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Take a server that was started by `run_job_server`."""
        self._process = process

    def run(self, *arguments: str | Path, stroke: Stroke | None = None) -> JobEnded:
        """Run one command; arguments as of `run_together`."""
        (ended,) = self.run_together([arguments], stroke=stroke)
        return ended

    def run_together(
        self,
        commands: Sequence[Sequence[str | Path]],
        *,
        stroke: Stroke | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> list[JobEnded]:
        """Run commands at the same time, each in a process of its own, and wait for their ends.

        Args:
            commands: Arguments of `framevault`, for each.
            stroke: What the first one gets.
            environment: Variables to set besides.
        """
        request = {
            "commands": [[str(argument) for argument in command] for command in commands],
            "stroke": None if stroke is None else asdict(stroke),
            "environment": dict(environment or {}),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the job server has died; its own stderr says why"
        return [JobEnded(**members) for members in json.loads(answer)]


@contextmanager
def run_job_server() -> Iterator[JobServer]:
    """Start a server, and end it when its standard input is closed: it never outlives the test run."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.jobs.job_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            yield JobServer(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=LONGEST_ROUND_S)
            except subprocess.TimeoutExpired:
                process.kill()


def serve() -> None:
    """Answer one line of JSON with another until standard input ends."""
    # What a job imports on its way, so that a fork need not.
    import framevault.pipeline.cli
    import framevault.pipeline.jobs.compress
    import framevault.pipeline.jobs.detect
    import framevault.pipeline.jobs.verify  # noqa: F401

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
    signal.signal(signal.SIGALRM, _complain)
    # A shell starts what runs in its background with Ctrl-C ignored, and forks inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_run_round(**json.loads(line))) + "\n")
        sys.stdout.flush()


@dataclass(slots=True)
class _Job:
    """A command that runs, as the server sees it."""

    process: int
    """Its process id, and its process group's."""
    output: int
    """Descriptor that the server reads what it prints from."""
    errors: BinaryIO
    """What it complains of."""


def _run_round(
    commands: list[list[str]], *, stroke: dict[str, float] | None, environment: dict[str, str]
) -> list[dict[str, object]]:
    signal.alarm(LONGEST_ROUND_S)
    started_s = time.monotonic()
    jobs = [_fork_job(command, environment=environment) for command in commands]
    printed = b""
    if stroke is not None:
        printed = _strike(
            jobs[0],
            signal_number=int(stroke["signal_number"]),
            at_line=int(stroke["at_line"]),
            after_s=stroke["after_s"],
        )
    ended = [_see_end(job, printed=b"" if number else printed, started_s=started_s) for number, job in enumerate(jobs)]
    # What is left now are decoding children of killed jobs, which must end by themselves.
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    signal.alarm(0)
    return ended


def _fork_job(command: list[str], *, environment: dict[str, str]) -> _Job:
    """Start a command in a fork, in a process group of its own."""
    readable, writable = os.pipe()
    errors = tempfile.TemporaryFile()  # noqa: SIM115 # closed when the job has ended
    process = os.fork()
    if process == 0:
        os.close(readable)
        _become_job(command, output=writable, errors=errors.fileno(), environment=environment)
    os.close(writable)
    os.setpgid(process, process)
    return _Job(process=process, output=readable, errors=errors)


def _become_job(command: list[str], *, output: int, errors: int, environment: dict[str, str]) -> NoReturn:
    """Be a process that runs a command, to the end of the interpreter: `main` raises SystemExit."""
    from framevault.pipeline.cli import main

    os.setpgid(0, 0)
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    sys.argv[1:] = command
    main()


def _strike(job: _Job, *, signal_number: int, at_line: int, after_s: float) -> bytes:
    """Send a job a signal at its moment, and return what it has printed by then."""
    printed = b""
    while printed.count(b"\n") < at_line:
        chunk = os.read(job.output, 1 << 16)
        if not chunk:
            return printed
        printed += chunk
    descriptor = os.pidfd_open(job.process)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    # Not reaped yet, so the number can't be another process's.
    if not poll.poll(after_s * 1000):
        os.killpg(job.process, signal_number)
    os.close(descriptor)
    return printed


def _see_end(job: _Job, *, printed: bytes, started_s: float) -> dict[str, object]:
    """Read what else a job prints until it ends."""
    while chunk := os.read(job.output, 1 << 16):
        printed += chunk
    os.close(job.output)
    _, status = os.waitpid(job.process, 0)
    elapsed_s = time.monotonic() - started_s
    with job.errors:
        job.errors.seek(0)
        complained = job.errors.read()
    return {
        "code": os.waitstatus_to_exitcode(status),
        "stdout": printed.decode(),
        "stderr": complained.decode(),
        "elapsed_s": elapsed_s,
    }


def _complain(number: int, frame: object) -> NoReturn:
    raise TimeoutError(f"a job, or what it has started, still runs after {LONGEST_ROUND_S} s")


if __name__ == "__main__":
    serve()
