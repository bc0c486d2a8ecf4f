"""`make fuzz`: decodes damaged streams of every codec by the hundred thousand, and says what came of them.

    python -m tests.fuzz [--first SEED] [--number N] [--case SEED]

Each stream is made from a seed (`codecs/hostile.py`), so a run can go on where another stopped, and `--case` decodes
one alone, in this process. The decoding is done in a child process with limits on memory and on a case's time: a seed
at which compiled code crashes, hangs or wants too much memory is told, and another child goes on behind it. The exit
code is 1 if there was any such seed.
"""

import argparse
import json
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec
from tests.codecs.dicm.moving_toy import save_moving_toy
from tests.codecs.dicm.toy import save_toy
from tests.codecs.hostile import Target, decode_case, make_case, make_target
from tests.codecs.hsc.toy import save_toy as save_toy_hsc

NUM_CASES = 100_000
"""Unless told otherwise."""

MOST_BYTES = 1 << 30
"""That the child may take beyond what it has when all is loaded: the largest frames of the cases take a tenth."""

LONGEST_CASE_S = 60.0
"""After which a case hangs: it takes some milliseconds, the largest a second."""

START_S = 300.0
"""For a child to load everything."""

REPORT_EVERY = 10_000
"""Cases between two lines."""

READY = "ready"


def main(arguments: list[str]) -> int:
    """Run as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Decode damaged streams of every codec.")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--number", type=int, default=NUM_CASES, help="how many cases")
    parser.add_argument("--case", type=int, help="decode this seed's case alone, in this process")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.case is not None:
        return _show_case(options.case)
    if options.child:
        return _work(range(options.first, options.first + options.number))
    return _drive(range(options.first, options.first + options.number))


def _load_targets() -> dict[str, Target]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="framevault-fuzz-") as folder:
        toy = str(save_toy(Path(folder) / "toy.safetensors"))
        moving = str(save_moving_toy(Path(folder) / "moving.safetensors"))
        toy_hsc = str(save_toy_hsc(Path(folder) / "hsc.safetensors"))
        specs = {
            "raw": CodecSpec(name="raw"),
            "dicm": CodecSpec(name="dicm", bitstream_version=1),
            "video": CodecSpec(name="dicm", bitstream_version=2),
            "motion": CodecSpec(name="dicm", bitstream_version=9),
            "moving": CodecSpec(name="dicm", bitstream_version=9, weights=moving),
            "thin motion": CodecSpec(name="dicm", bitstream_version=10, weights=moving, slices=1),
            "background": CodecSpec(name="dicm", bitstream_version=13),
            "settling": CodecSpec(name="dicm", bitstream_version=13, weights=moving),
            "thin background": CodecSpec(name="dicm", bitstream_version=14, weights=moving, slices=1),
            "toy": CodecSpec(name="dicm", bitstream_version=1, weights=toy),
            "hsc": CodecSpec(name="hsc", weights=toy_hsc),
            "faces": CodecSpec(name="dicm+hsc", bitstream_version=1, weights=toy),
            "moving faces": CodecSpec(name="dicm+hsc", bitstream_version=9, weights=moving),
            "settling faces": CodecSpec(name="dicm+hsc", bitstream_version=13, weights=moving),
        }
        return {name: make_target(load_codec(spec)) for name, spec in specs.items()}


def _show_case(seed: int) -> int:
    targets = _load_targets()
    case = make_case(seed, targets)
    _say(f"seed {seed}: {case.target}, {case.damage}, {len(case.stream)} bytes, declared {case.size}")
    _say(decode_case(case, targets[case.target]))
    return 0


def _work(seeds: range) -> int:
    """Decode cases in the child, and tell the parent each one's outcome."""
    targets = _load_targets()
    for target in targets.values():
        for size, streams in target.streams.items():
            for stream in streams:
                target.codec.decoder(height=size[0], width=size[1]).decode([*target.leads[size], stream])
    _limit_memory()
    _say(READY)
    for seed in seeds:
        case = make_case(seed, targets)
        try:
            outcome = decode_case(case, targets[case.target])
        except Exception:  # noqa: BLE001  # the one place that turns any error into a finding
            outcome = f"FAILED: {traceback.format_exc()}"
        _say(json.dumps([case.target, outcome]))
    return 0


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _drive(seeds: range) -> int:
    """Run children until all cases are done; a child that ends early is followed by another."""
    counts: Counter[tuple[str, str]] = Counter()
    failures: list[tuple[int, str]] = []
    start, seed = time.monotonic(), seeds.start
    while seed < seeds.stop:
        for line in _child_lines(range(seed, seeds.stop)):
            target, outcome = json.loads(line)
            if outcome.startswith(("FAILED", "CHILD")):
                failures.append((seed, outcome))
                _say(f"seed {seed}: {outcome}")
            counts[target, outcome.splitlines()[0].removesuffix(" (most recent call last):")] += 1
            seed += 1
            if (seed - seeds.start) % REPORT_EVERY == 0:
                _say(f"{seed - seeds.start} of {len(seeds)} after {time.monotonic() - start:.0f} s")
    _say(f"seeds {seeds.start} to {seeds.stop - 1}: {len(seeds)} streams in {time.monotonic() - start:.0f} s")
    for (target, outcome), count in sorted(counts.items()):
        _say(f"{count:8}  {target:12} {outcome}")
    _say("seeds that failed: " + (", ".join(str(failed) for failed, _ in failures) or "none"))
    return 1 if failures else 0


def _child_lines(seeds: range) -> Iterator[str]:
    """Yield a line a case, as the child says; at its end, if it ended or was ended early, one that says so."""
    child = subprocess.Popen(_child_command(seeds), stdout=subprocess.PIPE, text=True)
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read_lines, args=(child, lines), daemon=True)
    reader.start()
    num_cases = -1
    try:
        while (line := lines.get(timeout=START_S if num_cases < 0 else LONGEST_CASE_S)) is not None:
            if num_cases >= 0:
                yield line
            num_cases += 1
    except queue.Empty:
        child.kill()
        yield json.dumps(["?", f"CHILD hung for {LONGEST_CASE_S:.0f} s"])
        return
    finally:
        exit_code = child.wait()
        reader.join()
    if num_cases < 0:
        raise RuntimeError(f"a child could not start: exit code {exit_code}")
    if num_cases < len(seeds):
        yield json.dumps(["?", f"CHILD ended with {exit_code}"])


def _child_command(seeds: range) -> list[str]:
    interpreter = [sys.executable, "-W", "ignore"]
    return [*interpreter, "-m", "tests.fuzz", "--child", "--first", str(seeds.start), "--number", str(len(seeds))]


def _read_lines(child: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            lines.put(line)
    lines.put(None)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
