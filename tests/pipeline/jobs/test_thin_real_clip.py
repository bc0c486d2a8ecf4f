"""`framevault thin` on a real clip: killed at any moment, and by every executor."""

import shutil
import signal
from pathlib import Path

import pytest

from framevault.pipeline.jobs.demo import find_clip
from tests.pipeline.command_line import run_command, vault_contents
from tests.pipeline.jobs.job_server import JobServer, Stroke


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault of a few frames of ten seconds, in segments enough for two workers."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "job.yaml").write_text("quality: 5\nslices: 4\nfps: 1\nsegment_frames: 2\n")
    ended = run_command("compress", find_clip(), folder / "vault", "--config", folder / "job.yaml")
    assert ended.code == 0, ended.stderr
    return folder / "vault"


@pytest.mark.slow
def test_killed_at_any_moment_a_vault_is_clean_and_the_same_in_the_end(
    template: Path, tmp_path: Path, job_server: JobServer
) -> None:
    vault = Path(shutil.copytree(template, tmp_path / "vault"))
    command = ("thin", vault, "--slices", "2", "--workers", "1", "--json")
    whole = job_server.run(*command)
    assert whole.code == 0, whole.stderr
    expected = vault_contents(vault)
    killed = 0

    for line in range(1, len(whole.stdout.splitlines()), 3):
        shutil.rmtree(vault)
        shutil.copytree(template, vault)
        ended = job_server.run(*command, stroke=Stroke(signal_number=signal.SIGKILL, at_line=line, after_s=0.01))
        killed += ended.code == -signal.SIGKILL
        verified = run_command("verify", vault)
        assert (verified.code, verified.stdout.splitlines()[-1][:7]) == (0, "clean: "), verified.stdout
        assert job_server.run(*command).code == 0
        assert vault_contents(vault) == expected

    assert killed >= 2


@pytest.mark.ray
@pytest.mark.slow
def test_ray_thins_to_the_same_vault(ray_cluster: None, template: Path, tmp_path: Path) -> None:
    contents = []

    for executor in ("local", "ray"):
        vault = Path(shutil.copytree(template, tmp_path / executor))
        # The cluster's GPUs exist in its books only.
        settings = ("--executor", executor, "--device", "cpu", "--workers", "2")
        ended = run_command("thin", vault, "--slices", "1", *settings)
        assert ended.code == 0, ended.stderr
        contents.append(vault_contents(vault))

    assert contents[0] == contents[1]
