"""What a command may import: heavy libraries stay out of the commands that don't need them."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from framevault.storage.vault import open_vault
from tests.media import make_video

PROBE = """
import json, sys, time
from framevault.pipeline.cli import main
sys.argv = ["framevault", *sys.argv[1:]]
code = 0
try:
    main()
except SystemExit as end:
    code = end.code or 0
heavy = [name for name in ("torch", "torchvision", "av", "ray", "compressai") if name in sys.modules]
print(json.dumps({"code": code, "heavy": heavy, "cpu_s": time.process_time()}), file=sys.stderr)
"""
"""Runs the command line in this process, and says at the end what is loaded and how much CPU time went by."""

LONGEST_START_CPU_S = 1.0
"""The promise of the design. CPU time, not wall time: the test may share its cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    code: int
    heavy: set[str]
    cpu_s: float
    output: str


def run_command(*arguments: str) -> Footprint:
    """Run the command line in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stderr.splitlines()[-1])
    return Footprint(code=said["code"], heavy=set(said["heavy"]), cpu_s=said["cpu_s"], output=done.stdout + done.stderr)


@pytest.fixture(scope="module")
def empty_vault(tmp_path_factory: pytest.TempPathFactory) -> str:
    vault = str(tmp_path_factory.mktemp("vaults") / "empty")
    open_vault(vault, create=True)
    return vault


def imports_of(module: str) -> set[str]:
    """Return the heavy libraries that importing one module pulls in."""
    code = f"import sys, {module}; print(*({{'torch', 'torchvision', 'av', 'ray'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_help_imports_nothing_heavy_and_answers_within_a_second() -> None:
    footprint = run_command("--help")

    assert footprint.code == 0, footprint.output
    assert footprint.heavy == set()
    assert footprint.cpu_s < LONGEST_START_CPU_S


def test_info_imports_nothing_heavy_and_answers_within_a_second(empty_vault: str) -> None:
    footprint = run_command("info", empty_vault)

    assert footprint.code == 0, footprint.output
    assert footprint.heavy == set()
    assert footprint.cpu_s < LONGEST_START_CPU_S


def test_query_imports_nothing_heavy_and_answers_within_a_second(empty_vault: str) -> None:
    footprint = run_command("query", empty_vault, "select count(*) from videos")

    assert footprint.code == 0, footprint.output
    assert footprint.heavy == set()
    assert footprint.cpu_s < LONGEST_START_CPU_S


def test_plan_imports_neither_torch_nor_ray_and_writes_nothing(tmp_path: Path) -> None:
    video = make_video(tmp_path / "clip.mp4")

    footprint = run_command("plan", str(video), str(tmp_path / "vault"))

    assert footprint.code == 0, footprint.output
    assert footprint.heavy <= {"av"}
    assert not (tmp_path / "vault").exists()


@pytest.mark.parametrize(
    "module",
    [
        "framevault.configs.run",
        "framevault.configs.train",
        "framevault.codecs.spec",
        "framevault.pipeline.events",
        "framevault.pipeline.executors.base",
        "framevault.pipeline.executors.local",
        "framevault.pipeline.executors.policy",
        "framevault.pipeline.executors.ray",
        "framevault.pipeline.jobs.train.errors",
        "framevault.pipeline.progress",
        "framevault.storage.query",
        "framevault.storage.store",
        "framevault.storage.verify",
        "framevault.workers.tasks",
    ],
)
def test_a_light_module_imports_nothing_heavy(module: str) -> None:
    assert imports_of(module) == set()
