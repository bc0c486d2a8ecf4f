"""The parent's side of a decoding child: starts it, talks to it, keeps its time limit, and ends it for certain.

The child is a fresh interpreter (`subprocess`, no shell, no fork of our threads) in a session of its own, so that
Ctrl-C in a terminal does not hit it. The ring is an anonymous file in memory: it has no name, so nothing can be left
behind, whoever is killed when. A child that dies is replaced at the next request.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from framevault.workers.errors import (
    DecodeError,
    DecoderFailedError,
    DecoderKilledError,
    SourceChangedError,
    SourceUnavailableError,
    UnreadableSourceError,
)
from framevault.workers.limits import DecodeLimits
from framevault.workers.messages import Message, MessageError, decode_message, encode_message, get_str

_CHILD_MODULE = "framevault.workers.decoding_child"
_MAX_LINE_BYTES = 1 << 30
_ERRORS: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        DecodeError,
        DecoderFailedError,
        DecoderKilledError,
        SourceChangedError,
        SourceUnavailableError,
        UnreadableSourceError,
    )
}


class GuardedChild:
    """A decoding child that is started when it is needed. Not thread-safe: one user at a time."""

    def __init__(self, *, limits: DecodeLimits, max_ring_bytes: int = 0, num_threads: int = 1) -> None:
        """Starts nothing yet."""
        self.limits = limits
        """What each child may use."""
        self._num_threads = num_threads
        self._max_ring_bytes = max_ring_bytes
        self._ring_fd = _open_anonymous_file()
        self._ring = np.empty(0, np.uint8)
        self._process: _Process | None = None
        self._finalizer = weakref.finalize(self, os.close, self._ring_fd)

    @property
    def process_id(self) -> int | None:
        """The running child's process id, None while there is none."""
        return None if self._process is None else self._process.process_id

    def map_ring(self, num_bytes: int) -> NDArray[np.uint8]:
        """Gives the ring, grown to at least `num_bytes` bytes; views of a smaller one stay valid."""
        if self._ring.size < num_bytes:
            os.ftruncate(self._ring_fd, num_bytes)
            self._ring = np.frombuffer(mmap.mmap(self._ring_fd, num_bytes), np.uint8)
        return self._ring

    def send(self, message: Message) -> None:
        """Sends one message, to a new child if none runs.

        Raises:
            DecoderKilledError: The child is gone, or a new one does not start in time.
        """
        if self._process is None:
            self._process = self._start()
        try:
            self._process.send(message)
        except BrokenPipeError:
            self._fail()

    def receive(self) -> Message:
        """Waits for the next message; signs of life are left out.

        Raises:
            DecoderKilledError: The child died, or gave no sign of life in time and was ended.
            DecodeError, SourceChangedError, UnreadableSourceError, SourceUnavailableError, DecoderFailedError: What the
                child says.
        """
        while True:
            message = self._receive_any(self.limits.wall_s)
            kind = message.get("type")
            if kind == "error":
                raise _ERRORS.get(get_str(message, "kind"), DecoderFailedError)(get_str(message, "text"))
            if kind != "alive":
                return message

    def stop(self) -> None:
        """Ends the child, whatever it does; the next `send` starts another."""
        if self._process is not None:
            self._process.end()
        self._process = None

    def close(self) -> None:
        """Ends the child and gives the ring back; views of it stay valid."""
        self.stop()
        self._finalizer()

    def _start(self) -> _Process:
        process = _Process(self._ring_fd)
        self._process = process
        try:
            process.send(
                {**asdict(self.limits), "num_threads": self._num_threads, "max_ring_bytes": self._max_ring_bytes}
            )
        except BrokenPipeError:
            self._fail()
        if self._receive_any(self.limits.start_s).get("type") != "ready":
            self._fail()
        return process

    def _receive_any(self, timeout_s: float) -> Message:
        if self._process is None:
            raise DecoderKilledError("the decoding child has been stopped")
        try:
            line = self._process.read_line(timeout_s)
            return decode_message(line) if line else self._fail()
        except TimeoutError as error:
            self.stop()
            raise DecoderKilledError(
                f"the decoding child gave no sign of life for {timeout_s:g} s and was ended"
            ) from error
        except MessageError as error:
            self.stop()
            raise DecoderFailedError(f"the decoding child broke the protocol: {error}") from error

    def _fail(self) -> Message:
        assert self._process is not None
        reason = self._process.describe_death()
        self.stop()
        raise DecoderKilledError(reason)


class _Process:
    """One child process with its pipes."""

    def __init__(self, ring_fd: int) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-B", "-m", _CHILD_MODULE, str(ring_fd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=(ring_fd,),
            start_new_session=True,
            env=_child_environment(),
        )
        self._received = bytearray()
        self._scanned = 0
        self._finalizer = weakref.finalize(self, _end_process, self._popen)

    @property
    def process_id(self) -> int:
        return self._popen.pid

    def send(self, message: Message) -> None:
        assert self._popen.stdin is not None
        rest = memoryview(encode_message(message))
        while rest:
            rest = rest[self._popen.stdin.write(rest) :]

    def read_line(self, timeout_s: float) -> bytes:
        """Gives the next line, or nothing at the end; raises TimeoutError."""
        deadline_s = time.monotonic() + timeout_s
        while (end := self._received.find(b"\n", self._scanned)) < 0:
            self._scanned = len(self._received)
            if len(self._received) > _MAX_LINE_BYTES:
                raise MessageError(f"expected a line of at most {_MAX_LINE_BYTES} bytes")
            chunk = self._read_chunk(deadline_s - time.monotonic())
            if not chunk:
                return b""
            self._received += chunk
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        self._scanned = 0
        return line

    def _read_chunk(self, timeout_s: float) -> bytes:
        assert self._popen.stdout is not None
        poll = select.poll()
        poll.register(self._popen.stdout, select.POLLIN | select.POLLHUP)
        if not poll.poll(max(0.0, timeout_s) * 1000):
            raise TimeoutError
        return os.read(self._popen.stdout.fileno(), 1 << 20)

    def describe_death(self) -> str:
        assert self._popen.stderr is not None
        try:
            code = self._popen.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the decoding child closed its output but goes on"
        os.set_blocking(self._popen.stderr.fileno(), False)
        said = (self._popen.stderr.read() or b"")[-2000:].decode(errors="replace").strip()
        how = _name_signal(-code) if code < 0 else f"exit code {code}"
        return f"the decoding child ended by {how}" + (f"; it said: {said}" if said else "")

    def end(self) -> None:
        self._finalizer()


def _end_process(popen: subprocess.Popen[bytes]) -> None:
    # SIGKILL at once: the child has nothing to tidy up, and a hostile input must not be able to ignore it.
    popen.kill()
    popen.wait()
    for pipe in (popen.stdin, popen.stdout, popen.stderr):
        if pipe is not None:
            pipe.close()


def _name_signal(number: int) -> str:
    hints = {signal.SIGXCPU: " (its CPU limit)", signal.SIGKILL: " (perhaps the system was out of memory)"}
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return name + hints.get(signal.Signals(number), "") if number in set(signal.Signals) else name


def _child_environment() -> dict[str, str]:
    """Gives our environment, with our import path and one thread for numpy's linear algebra, which it never uses."""
    path: Sequence[str] = [entry or os.getcwd() for entry in sys.path]
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **single, "PYTHONPATH": os.pathsep.join(path)}


def _open_anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("framevault-ring")
    # Elsewhere (macOS): a file that has no name any more.
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
