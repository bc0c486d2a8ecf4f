"""The limits that a decoding child sets itself, each tried in a process of its own."""

import os
import signal
import subprocess
import sys

LIMITS = "from framevault.workers.limits import DecodeLimits, bind_process, grant_cpu\n"


def _run(script: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return subprocess.run(
        [sys.executable, "-c", LIMITS + script], capture_output=True, text=True, check=False, env=environment
    )


def test_a_process_that_spins_beyond_its_cpu_grant_is_ended() -> None:
    done = _run("grant_cpu(0.1)\nwhile True:\n    pass")

    assert done.returncode == -signal.SIGXCPU


def test_a_later_grant_counts_from_what_has_been_used() -> None:
    done = _run(
        "import resource, time\ngrant_cpu(5)\ngrant_cpu(100)\nprint(resource.getrlimit(resource.RLIMIT_CPU)[0])"
    )

    assert int(done.stdout) in (101, 102)


def test_memory_beyond_the_limit_is_refused() -> None:
    done = _run("bind_process(DecodeLimits(memory_bytes=1 << 30), ring_bytes=0)\nbytearray(2 << 30)")

    assert "MemoryError" in done.stderr


def test_nothing_can_be_written_to_a_file() -> None:
    done = _run(
        "import tempfile\nfile = tempfile.TemporaryFile(buffering=0)\n"
        "bind_process(DecodeLimits(), ring_bytes=0)\nfile.write(b'x')"
    )

    assert "File too large" in done.stderr
