"""What the world does to a job: sources change under it, disks fill up, children die, vaults can't be written."""

import dataclasses
import errno
import functools
import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from framevault.pipeline import events, placement, planning
from framevault.pipeline.executors.base import EventSink, Outcome
from framevault.pipeline.executors.policy import FailurePolicy
from framevault.pipeline.jobs import compress
from framevault.pipeline.jobs.ledger import Ledger
from framevault.pipeline.planning import PlanSettings
from framevault.pipeline.probing import ProbedSource
from framevault.storage import backends
from framevault.storage.documents import seal
from framevault.workers import encode
from framevault.workers.frames import FrameBatches, FrameReader
from framevault.workers.limits import DecodeLimits
from framevault.workers.tasks import Receipt, Segment
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import query_rows, run_command, vault_contents

SPEC = VideoSpec(width=48, height=32, num_frames=16, gop=2)
"""Eight segments under the settings below."""

NOBODY = 65534
"""User id without rights, on every Linux."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings under which `SPEC` gives eight segments."""
    path = tmp_path / "job.yaml"
    path.write_text("codec: raw\nsegment_frames: 2\nworkers: 1\n")
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Eight segments."""
    return make_video(tmp_path / "clip.mp4", SPEC)


@pytest.fixture
def undisturbed(tmp_path: Path, clip: Path, config: Path) -> dict[str, object]:
    """What a run stores that meets no trouble."""
    assert run_command("compress", clip, tmp_path / "undisturbed", "--config", config).code == 0
    return vault_contents(tmp_path / "undisturbed")


@pytest.fixture
def other_video(tmp_path: Path) -> bytes:
    """Another video's bytes."""
    return make_video(tmp_path / "other.mp4", dataclasses.replace(SPEC, num_frames=12)).read_bytes()


def rewrite_in_place(clip: Path, data: bytes) -> None:
    clip.write_bytes(data)


def put_another_in_its_place(clip: Path, data: bytes) -> None:
    (clip.parent / "new").write_bytes(data)
    (clip.parent / "new").rename(clip)


@pytest.mark.parametrize("change", [rewrite_in_place, put_another_in_its_place])
def test_a_source_that_changes_keeps_what_decoded_whole_and_later_both_versions_can_be_stored(
    tmp_path: Path,
    clip: Path,
    config: Path,
    undisturbed: dict[str, object],
    other_video: bytes,
    change: Callable[[Path, bytes], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vault = tmp_path / "vault"
    command = ("compress", clip, vault, "--config", config)
    old_video = clip.read_bytes()
    after_first_segment(monkeypatch, lambda: change(clip, other_video))

    ended = run_command(*command)
    monkeypatch.undo()

    assert ended.code == 3
    (video,) = query_rows(vault, "select is_complete, num_frames, num_missing_frames, num_missing_segments from videos")
    assert video["is_complete"] is False
    assert (int(str(video["num_frames"])) + int(str(video["num_missing_frames"]))) == 16
    assert 0 < int(str(video["num_missing_segments"])) < 8
    failures = query_rows(vault, "select category, reason from failures")
    assert len(failures) == video["num_missing_segments"]
    assert {failure["category"] for failure in failures} == {"input"}
    assert all("clip.mp4" in str(failure["reason"]) for failure in failures)
    stored = {key: value for key, value in vault_contents(vault).items() if key.startswith(("packs/", "frames/"))}
    assert stored.items() <= undisturbed.items()
    assert run_command("verify", vault).code == 0

    # The new bytes are another video, under the same name.
    assert run_command(*command).code == 0
    rows = query_rows(vault, "select video, num_frames, is_complete from videos order by is_complete")
    assert rows[1] == {"video": "clip.mp4", "num_frames": 12, "is_complete": True}
    # The old ones, once they are back, fill the gap.
    clip.write_bytes(old_video)
    assert run_command(*command, "--retry-failed").code == 0
    rows = query_rows(vault, "select num_frames, is_complete from videos order by 1")
    assert rows == [{"num_frames": 12, "is_complete": True}, {"num_frames": 16, "is_complete": True}]
    assert {
        key: vault_contents(vault)[key] for key in undisturbed if key.startswith(("packs/", "frames/"))
    }.items() <= (undisturbed.items())
    assert run_command("verify", vault).code == 0


def test_a_source_that_changes_right_after_planning_stores_nothing_of_it(
    tmp_path: Path, clip: Path, config: Path, other_video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = tmp_path / "vault"
    after_planning(monkeypatch, lambda: clip.write_bytes(other_video))

    ended = run_command("compress", clip, vault, "--config", config)

    assert ended.code == 3
    assert query_rows(vault, "select * from videos") == []
    reasons = query_rows(vault, "select distinct category, reason from failures")
    assert len(query_rows(vault, "select * from failures")) == 8
    assert all(row["category"] == "input" and "expected version" in str(row["reason"]) for row in reasons)
    assert run_command("verify", vault).code == 0


def test_a_source_that_is_taken_away_is_waited_for_then_the_job_stops_and_goes_on_when_it_is_back(
    tmp_path: Path, clip: Path, config: Path, undisturbed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("compress", clip, tmp_path / "vault", "--config", config)
    with monkeypatch.context() as patch:
        be_patient(patch, max_waits=2)
        after_first_segment(patch, lambda: clip.rename(tmp_path / "away.mp4"))

        ended = run_command(*command)

    assert ended.code == 1
    assert "clip.mp4" in ended.stderr
    assert "still so after 2 waits" in ended.stderr
    assert run_command("verify", tmp_path / "vault").code == 0
    (tmp_path / "away.mp4").rename(clip)
    assert run_command(*command).code == 0
    assert vault_contents(tmp_path / "vault") == undisturbed


def test_the_command_in_the_failures_table_tries_the_very_same_again(
    tmp_path: Path, clip: Path, other_video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = tmp_path / "vault"
    old_video = clip.read_bytes()
    with monkeypatch.context() as patch:
        after_planning(patch, lambda: clip.write_bytes(other_video))
        assert run_command("compress", clip, vault, "--codec", "raw", "--quality", "2", "--fps", "12.5").code == 3
    (failure,) = query_rows(vault, "select command from failures")
    clip.write_bytes(old_video)

    program, *arguments = shlex.split(str(failure["command"]))
    again = run_command(*arguments)

    assert program == "framevault"
    assert again.code == 0, again.stderr
    assert query_rows(vault, "select quality, sampling, is_resolved from videos, failures") == [
        {"quality": 2, "sampling": "fps=12.5", "is_resolved": True}
    ]


def test_a_full_disk_is_waited_for_and_the_job_goes_on_when_there_is_space(
    tmp_path: Path, clip: Path, config: Path, undisturbed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient(monkeypatch, max_waits=8)
    fill_disk(monkeypatch, after_writes=6, until_writes=12)

    ended = run_command("compress", clip, tmp_path / "vault", "--config", config, "--json")

    assert ended.code == 0, ended.stderr
    retries = [event for event in json_lines(ended.stdout) if event["event"] == "task_retried"]
    assert retries
    assert {event["category"] for event in retries} == {"environment"}
    assert all("No space left on device" in str(event["reason"]) for event in retries)
    assert vault_contents(tmp_path / "vault") == undisturbed
    assert "leftovers" not in run_command("verify", tmp_path / "vault").stdout


@pytest.mark.parametrize("after_writes", [0, 1, 2, 7, 18])
def test_a_disk_that_stays_full_stops_the_job_and_the_same_command_goes_on_later(
    tmp_path: Path,
    clip: Path,
    config: Path,
    undisturbed: dict[str, object],
    after_writes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ("compress", clip, tmp_path / "vault", "--config", config)
    with monkeypatch.context() as patch:
        be_patient(patch, max_waits=2)
        fill_disk(patch, after_writes=after_writes)

        ended = run_command(*command)

    assert ended.code == 1
    assert "No space left on device" in ended.stderr
    assert str(tmp_path / "vault") in ended.stderr
    if (tmp_path / "vault" / "vault.json").exists():
        verified = run_command("verify", tmp_path / "vault")
        assert verified.code == 0, verified.stdout
    assert run_command(*command).code == 0
    assert vault_contents(tmp_path / "vault") == undisturbed


def test_a_source_whose_decoding_child_dies_each_time_is_given_up_after_three_tries_and_the_rest_goes_on(
    tmp_path: Path, clip: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = tmp_path / "vault"
    deadly = make_video(tmp_path / "a.mp4", dataclasses.replace(SPEC, num_frames=4, gop=4))
    monkeypatch.setattr(encode, "FrameReader", MortalFrameReader)

    ended = run_command("compress", deadly, clip, vault, "--config", config, "--json")

    assert ended.code == 3
    tries = [event["attempt"] for event in json_lines(ended.stdout) if event["event"] == "task_retried"]
    assert tries == [2, 3]
    assert query_rows(vault, "select video, category, attempts, num_frames from failures") == [
        {"video": "a.mp4", "category": "killed", "attempts": 3, "num_frames": 4}
    ]
    (failure,) = query_rows(vault, "select reason from failures")
    assert "SIGKILL" in str(failure["reason"])
    rows = query_rows(vault, "select video, num_frames, is_complete from videos")
    assert rows == [{"video": "clip.mp4", "num_frames": 16, "is_complete": True}]
    assert run_command("verify", vault).code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_vault_that_can_be_read_only_is_read_and_refuses_a_job_at_once(
    clip: Path, config: Path, public_folder: Path
) -> None:
    vault = public_folder / "vault"
    assert run_command("compress", clip, vault, "--config", config).code == 0
    other = make_video(public_folder / "second.mp4", dataclasses.replace(SPEC, num_frames=2))
    settings = shutil.copy(config, public_folder)
    for path in (vault, *vault.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)

    os.seteuid(NOBODY)
    try:
        refused = run_command("compress", other, vault, "--config", settings)
        asked = run_command("query", vault, "select count(*) as n from frames", "--format", "json")
        verified = run_command("verify", vault)
    finally:
        os.seteuid(0)

    assert refused.code == 1
    assert "Permission denied" in refused.stderr
    assert str(vault) in refused.stderr
    assert json.loads(asked.stdout) == {"n": 16}
    assert (verified.code, verified.stdout[:7]) == (0, "clean: ")


def test_a_vault_where_nothing_can_be_made_is_refused(clip: Path) -> None:
    ended = run_command("compress", clip, "/sys/vault", "--codec", "raw")

    assert ended.code in {1, 2}
    assert "/sys/vault" in ended.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("compress", "{clip}", "{vault}", "--codec", "raw"),
        ("plan", "{clip}", "{vault}", "--codec", "raw"),
        ("info", "{vault}"),
        ("detect", "{vault}"),
        ("query", "{vault}", "select * from videos"),
        ("verify", "{vault}"),
    ],
)
def test_every_command_refuses_a_vault_of_another_version_and_what_is_none(
    tmp_path: Path, clip: Path, command: tuple[str, ...]
) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "vault.json").write_bytes(seal({}, kind="framevault", version=2))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("mine")
    file = tmp_path / "file"
    file.write_text("no vault")

    for vault, message in (
        (newer, "is of version 2, this framevault reads version 1; use a newer one"),
        (foreign, "letter.txt"),
        (file, "a vault is a folder, this is a file"),
    ):
        before = read_all(vault)
        ended = run_command(*(word.format(clip=clip, vault=vault) for word in command))

        assert ended.code == 2, ended
        assert ended.stdout == ""
        assert str(vault) in ended.stderr
        assert message in ended.stderr
        assert read_all(vault) == before


def test_a_document_of_a_newer_version_in_a_vault_is_refused_and_named(tmp_path: Path, clip: Path) -> None:
    vault = tmp_path / "vault"
    assert run_command("compress", clip, vault, "--codec", "raw").code == 0
    (path,) = vault.glob("manifests/*/*.json")
    members = json.loads(path.read_bytes())
    del members["crc32c"]
    path.write_bytes(seal(members, kind="framevault manifest", version=2))

    for command in (("info", vault), ("query", vault, "select * from frames"), ("verify", vault)):
        ended = run_command(*command)

        assert ended.code == 1
        assert path.relative_to(vault).as_posix() in ended.stdout + ended.stderr


def test_events_are_json_lines_with_the_names_and_fields_of_the_events_module(
    tmp_path: Path, clip: Path, config: Path
) -> None:
    (tmp_path / "letter.mp4").write_text("Dear archive,\n" * 50)
    fields = {
        event_name(kind): {"event", "at_s", *(field.name for field in dataclasses.fields(kind))}
        for kind in get_args(events.Event)
    }

    compressed = run_command(
        "compress", clip, tmp_path / "letter.mp4", tmp_path / "vault", "--config", config, "--json"
    )
    detected = run_command("detect", tmp_path / "vault", "--json")

    for ended, code in ((compressed, 3), (detected, 0)):
        *lines, summary = json_lines(ended.stdout)
        assert ended.code == code
        assert ended.stderr == ""
        assert summary["event"] == "summary"
        for line in lines:
            assert line.keys() == fields[str(line["event"])]
        names = [line["event"] for line in lines]
        assert (names[0], names[-1]) == ("job_started", "job_done")
        assert names.count("task_started") == names.count("task_done") == 8
    assert sum(line["event"] == "task_failed" for line in json_lines(compressed.stdout)) == 1


def after_planning(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something between the planning of a source and its decoding."""
    plan_source = planning.plan_source

    def plan_and_act(probed: ProbedSource, *, settings: PlanSettings) -> list[Segment]:
        segments = plan_source(probed, settings=settings)
        act()
        return segments

    monkeypatch.setattr(compress, "plan_source", plan_and_act)


def after_first_segment(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something when the job books its first segment."""
    book = compress._book
    is_first = True

    def book_and_act(outcome: Outcome[Segment, Receipt], ledger: Ledger, on_event: EventSink) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            act()
        book(outcome, ledger, on_event)

    monkeypatch.setattr(compress, "_book", book_and_act)


def be_patient(monkeypatch: pytest.MonkeyPatch, *, max_waits: int) -> None:
    """Have the job wait for its environment as often as told, but hardly long."""
    policy = functools.partial(FailurePolicy, first_wait_s=0.001, longest_wait_s=0.001, max_waits=max_waits)
    monkeypatch.setattr(placement, "FailurePolicy", policy)


def fill_disk(monkeypatch: pytest.MonkeyPatch, *, after_writes: int, until_writes: int | None = None) -> None:
    """Let so many files be written whole; then only half of each, until space is back."""
    write_synced = backends._write_synced
    num_writes = 0

    def write_half(path: Path, payload: bytes) -> None:
        nonlocal num_writes
        num_writes += 1
        if num_writes <= after_writes or (until_writes is not None and num_writes > until_writes):
            write_synced(path, payload)
        else:
            path.write_bytes(payload[: len(payload) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(backends, "_write_synced", write_half)


class MortalFrameReader(FrameReader):
    """Its child is killed in the midst of a segment of `a.mp4`."""

    def __init__(self, *, limits: DecodeLimits | None = None) -> None:
        # A ring of two frames: a segment of four is never decoded to its end before the blow.
        super().__init__(limits=limits, ring_bytes=1)

    def batches(self, segment: Segment, *, batch_size: int = 16) -> FrameBatches:
        batches = super().batches(segment, batch_size=batch_size)
        if segment.source.name == "a.mp4":
            assert self.process_id is not None
            os.kill(self.process_id, signal.SIGKILL)
        return batches


def json_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def event_name(kind: type) -> str:
    """Give `task_done` for TaskDone."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("_")


def read_all(path: Path) -> dict[Path, bytes]:
    return {each: each.read_bytes() for each in (path, *path.rglob("*")) if each.is_file()}
