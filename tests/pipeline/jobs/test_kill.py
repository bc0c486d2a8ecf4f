"""A job may be killed at any moment: the vault stays clean, and running the same command again finishes it."""

import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.media import VideoSpec, make_pictures, make_video
from tests.pipeline.command_line import run_command, vault_contents
from tests.pipeline.jobs.job_server import JobServer, Stroke

NUM_KILLS = 20
"""Kills that hit a running job."""

SEED = 2026
"""Of the moments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A job, and what must come of it."""

    command: tuple[str | Path, ...]
    """The whole command."""
    vault: Path
    """Where the vault will be: always in the same place, since failures tell it."""
    contents: dict[str, object]
    """The vault of a run that nobody disturbs."""
    elapsed_s: float
    """Seconds that it takes."""
    num_lines: int
    """Lines that it prints."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, job_server: JobServer) -> Work:
    """Three videos of many short segments, one of them under two names, pictures, and something that is no video."""
    folder = tmp_path_factory.mktemp("sources")
    sources = [
        make_video(folder / f"{number}.mp4", VideoSpec(width=48, height=32, num_frames=12 + number, gop=2))
        for number in range(3)
    ]
    (folder / "again.mp4").write_bytes(sources[0].read_bytes())
    (folder / "letter.mp4").write_text("Dear archive,\n" * 50)
    make_pictures(folder / "pictures", sizes=[(32, 24)] * 3)
    config = tmp_path_factory.mktemp("settings") / "job.yaml"
    config.write_text("codec: raw\nsegment_frames: 2\nworkers: 1\n")
    vault = tmp_path_factory.mktemp("vaults") / "vault"
    command = ("compress", folder, vault, "--config", config, "--json")

    ended = job_server.run(*command)

    assert ended.code == 3, ended.stderr
    contents = vault_contents(vault)
    assert len([key for key in contents if key.startswith("packs/")]) == 6 + 7 + 7 + 2
    num_lines = len(ended.stdout.splitlines())
    return Work(command=command, vault=vault, contents=contents, elapsed_s=ended.elapsed_s, num_lines=num_lines)


@pytest.fixture
def work(undisturbed: Work) -> Work:
    """The job, with nothing done yet."""
    shutil.rmtree(undisturbed.vault)
    return undisturbed


@pytest.mark.slow
def test_killed_at_random_moments_a_vault_is_clean_each_time_and_the_same_in_the_end(
    work: Work, job_server: JobServer
) -> None:
    num_objects_left = []

    for stroke in draw_strokes(work):
        ended = job_server.run(*work.command, stroke=stroke)
        assert_clean(work.vault)
        while ended.code != -signal.SIGKILL:
            # It was done before the blow fell, which now falls on the next vault.
            assert_finished(ended.code, work)
            shutil.rmtree(work.vault)
            stroke = replace(stroke, after_s=stroke.after_s / 2)
            ended = job_server.run(*work.command, stroke=stroke)
            assert_clean(work.vault)
        num_objects_left.append(len(vault_contents(work.vault)))
    assert_finished(job_server.run(*work.command).code, work)

    assert len(num_objects_left) == NUM_KILLS
    # The moments are worth something: several fell between the first object and the last.
    assert sum(1 < num_objects < len(work.contents) for num_objects in num_objects_left) >= NUM_KILLS // 4, (
        num_objects_left
    )


def draw_strokes(work: Work) -> Iterator[Stroke]:
    """Give random moments: a quarter while the job starts, when it makes the vault; the others while it writes."""
    moments = random.Random(SEED)
    for number in range(NUM_KILLS):
        if number % 4 == 0:
            yield Stroke(signal_number=signal.SIGKILL, after_s=moments.uniform(0, work.elapsed_s / 2))
        else:
            at_line = moments.randint(2, work.num_lines // 3)
            yield Stroke(signal_number=signal.SIGKILL, at_line=at_line, after_s=moments.uniform(0, 0.02))


def test_ctrl_c_ends_with_code_130_and_the_same_command_goes_on(work: Work, job_server: JobServer) -> None:
    at_line = work.num_lines // 2
    interrupted = job_server.run(*work.command, stroke=Stroke(signal_number=signal.SIGINT, at_line=at_line))
    while interrupted.code == 3 and at_line > 2:
        # It was done before the signal fell: a quick run prints fewer lines than the one that was counted.
        assert_finished(interrupted.code, work)
        shutil.rmtree(work.vault)
        at_line //= 2
        interrupted = job_server.run(*work.command, stroke=Stroke(signal_number=signal.SIGINT, at_line=at_line))

    assert interrupted.code == 130
    assert interrupted.stderr == "framevault: interrupted; the same command goes on where it stopped\n"
    assert_clean(work.vault)
    assert 1 < len(vault_contents(work.vault)) < len(work.contents)
    again = job_server.run(*work.command)
    assert '"segments_kept": 0' not in again.stdout
    assert_finished(again.code, work)


def assert_clean(vault: Path) -> None:
    """Expect a vault without errors; or nothing at all, before vault.json is there."""
    ended = run_command("verify", vault)
    if (vault / "vault.json").exists():
        assert (ended.code, ended.stdout.splitlines()[-1][:7]) == (0, "clean: "), ended.stdout
    else:
        assert ended.code == 2
        assert vault_contents(vault) == {}


def assert_finished(code: int, work: Work) -> None:
    """Expect what comes of a run that nobody disturbs, which has one source in quarantine."""
    assert code == 3
    assert vault_contents(work.vault) == work.contents
    assert run_command("verify", work.vault).code == 0
