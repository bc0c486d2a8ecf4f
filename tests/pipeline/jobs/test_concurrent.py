"""Several jobs on one vault at once need no coordinator: all end well, and the vault is as if one had run."""

import json
from pathlib import Path

import pytest

from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import query_rows, run_command, vault_contents
from tests.pipeline.jobs.job_server import JobServer

NUM_ROUNDS = 2
"""Each round races anew."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of eight segments each, and settings."""
    folder = tmp_path_factory.mktemp("sources")
    for number in range(2):
        make_video(folder / f"{number}.mp4", VideoSpec(width=48, height=32, num_frames=16 - number, gop=2))
    (folder / "job.yaml").write_text("codec: raw\nsegment_frames: 2\nworkers: 1\n")
    return folder


@pytest.fixture(scope="module")
def contents_of_one_run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a single run over the folder stores."""
    vault = tmp_path_factory.mktemp("single") / "vault"
    assert run_command("compress", folder, vault, "--config", folder / "job.yaml").code == 0
    return vault_contents(vault)


@pytest.mark.parametrize("number", range(NUM_ROUNDS))
def test_two_runs_on_the_same_vault_at_once_store_what_one_would(
    folder: Path, tmp_path: Path, job_server: JobServer, contents_of_one_run: dict[str, object], number: int
) -> None:
    ended = job_server.run_together([("compress", folder, tmp_path / "vault", "--config", folder / "job.yaml")] * 2)

    assert [each.code for each in ended] == [0, 0], ended
    assert vault_contents(tmp_path / "vault") == contents_of_one_run
    assert_clean_without_leftovers(tmp_path / "vault")


def test_two_runs_with_different_sources_at_once_store_both(
    folder: Path, tmp_path: Path, job_server: JobServer, contents_of_one_run: dict[str, object]
) -> None:
    settings = (tmp_path / "vault", "--config", folder / "job.yaml")

    ended = job_server.run_together([("compress", folder / f"{number}.mp4", *settings) for number in range(2)])

    assert [each.code for each in ended] == [0, 0], ended
    assert vault_contents(tmp_path / "vault") == contents_of_one_run
    assert_clean_without_leftovers(tmp_path / "vault")


def test_two_runs_with_other_settings_at_once_store_both_beside_each_other(
    folder: Path, tmp_path: Path, job_server: JobServer
) -> None:
    command = ("compress", folder / "0.mp4", tmp_path / "vault", "--config", folder / "job.yaml")

    ended = job_server.run_together([command, (*command, "--fps", "5")])

    assert [each.code for each in ended] == [0, 0], ended
    rows = query_rows(tmp_path / "vault", "select video, sampling, num_frames from videos order by num_frames")
    assert rows == [
        {"video": "0.mp4", "sampling": "fps=5", "num_frames": 4},
        {"video": "0.mp4", "sampling": "all", "num_frames": 16},
    ]
    assert_clean_without_leftovers(tmp_path / "vault")


def test_a_vault_can_be_asked_and_verified_while_it_is_written(
    folder: Path, tmp_path: Path, job_server: JobServer
) -> None:
    vault = tmp_path / "vault"
    first = ("compress", folder / "0.mp4", vault, "--config", folder / "job.yaml")
    assert run_command(*first).code == 0

    writer, verifier, *askers = job_server.run_together(
        [
            ("compress", folder, vault, "--config", folder / "job.yaml"),
            ("verify", vault),
            *[("query", vault, "select count(*) as n from frames", "--format", "json")] * 2,
        ]
    )

    assert (writer.code, verifier.code) == (0, 0), (writer, verifier)
    for asker in askers:
        assert asker.code == 0, asker
        # A video is there whole or not at all.
        assert json.loads(asker.stdout) in ({"n": 16}, {"n": 31})
    assert query_rows(vault, "select count(*) as n from frames") == [{"n": 31}]


def assert_clean_without_leftovers(vault: Path) -> None:
    """Expect no errors, and no part that no manifest names."""
    ended = run_command("verify", vault)
    assert ended.code == 0, ended.stdout
    assert len(ended.stdout.splitlines()) == 1
    assert "orphan" not in ended.stdout
    assert "leftover" not in ended.stdout
