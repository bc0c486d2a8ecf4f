"""Whole jobs against an S3 server on this machine: sources, vault and several writers at once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from framevault.storage.store import open_store
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import query_rows, run_command, vault_contents
from tests.pipeline.jobs.job_server import JobServer
from tests.storage.s3_server import S3Server, run_s3_server

SETTINGS = "codec: raw\nsegment_frames: 2\nworkers: 1\n"
"""Four segments a clip."""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """A server of this module's own, found by the standard variables."""
    import s3fs

    # fsspec keeps its file systems, with the endpoint that they were made for: neither may see another module's server.
    s3fs.S3FileSystem.clear_instance_cache()
    with run_s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos and settings."""
    folder = tmp_path_factory.mktemp("sources")
    for number in range(2):
        make_video(folder / f"{number}.mp4", VideoSpec(width=64, height=64, num_frames=8 - number, gop=2))
    (folder / "job.yaml").write_text(SETTINGS)
    return folder


def test_two_writers_at_once_fill_a_bucket_as_one_fills_a_folder(
    s3: S3Server, folder: Path, tmp_path: Path, job_server: JobServer
) -> None:
    vault = f"{s3.url}/two/writers"
    command = ("compress", folder, vault, "--config", folder / "job.yaml")

    ended = job_server.run_together([command, command], environment=s3.environment)
    again = run_command(*command)
    detected = run_command("detect", vault)

    assert [each.code for each in ended] == [0, 0], ended
    assert again.code == 0
    assert "0 segments (0 frames) encoded now, 8 were there" in again.stdout
    assert detected.code == 0, detected.stderr
    assert "15 frames of 8 segments" in detected.stdout
    rows = query_rows(vault, "select video, count(*) as n from frames group by 1 order by 1")
    assert rows == [{"video": "0.mp4", "n": 8}, {"video": "1.mp4", "n": 7}]
    verified = run_command("verify", vault)
    assert (verified.code, verified.stdout[:7]) == (0, "clean: ")
    for local_command in (("compress", folder), ("detect",)):
        settings = ("--config", folder / "job.yaml") if local_command[0] == "compress" else ()
        assert run_command(*local_command, tmp_path / "vault", *settings).code == 0
    assert bucket_contents(vault) == vault_contents(tmp_path / "vault")


def test_sources_in_a_bucket_are_the_same_videos_as_on_disk(s3: S3Server, folder: Path, tmp_path: Path) -> None:
    sources = open_store(f"{s3.url}/sources")
    for path in folder.glob("*.mp4"):
        sources.create(f"2026/{path.name}", path.read_bytes())
    settings = ("--config", folder / "job.yaml")

    remote = run_command("compress", f"{s3.url}/sources", f"{s3.url}/of-bucket", *settings)
    local = run_command("compress", folder, tmp_path / "vault", *settings)

    assert (remote.code, local.code) == (0, 0), remote.stderr
    names = query_rows(f"{s3.url}/of-bucket", "select video, source_url from videos order by 1")
    assert names == [
        {"video": f"2026/{number}.mp4", "source_url": f"{s3.url}/sources/2026/{number}.mp4"} for number in range(2)
    ]
    parts = {key: value for key, value in bucket_contents(f"{s3.url}/of-bucket").items() if isinstance(value, bytes)}
    assert parts == {
        key: value for key, value in vault_contents(tmp_path / "vault").items() if isinstance(value, bytes)
    }


def test_a_flipped_byte_in_a_bucket_is_found_and_named(s3: S3Server, folder: Path) -> None:
    vault = f"{s3.url}/flipped"
    assert run_command("compress", folder / "0.mp4", vault, "--config", folder / "job.yaml").code == 0
    key = next(key for key in bucket_contents(vault) if key.startswith("frames/"))
    damaged = bytearray(open_store(vault).read(key))
    damaged[len(damaged) // 2] ^= 1
    overwrite(f"{vault}/{key}", bytes(damaged))

    verified = run_command("verify", vault)
    asked = run_command("query", vault, "select pts from frames")

    assert (verified.code, key in verified.stdout) == (1, True)
    assert (asked.code, asked.stdout, key in asked.stderr) == (1, "", True)


def test_a_bucket_that_is_not_there_is_named(s3: S3Server, folder: Path) -> None:
    for command in (("compress", folder, "s3://no-such-bucket/vault"), ("info", "s3://no-such-bucket/vault")):
        ended = run_command(*command)

        assert ended.code in {1, 2}
        assert "s3://no-such-bucket/vault: there is no such bucket" in ended.stderr


def bucket_contents(url: str) -> dict[str, object]:
    """As `vault_contents`, of a vault in a bucket."""
    store = open_store(url)
    contents: dict[str, object] = {}
    for key in store.list():
        payload = store.read(key)
        contents[key] = payload
        if key.endswith(".json"):
            members = json.loads(payload)
            contents[key] = {name: members[name] for name in members.keys() - {"created_at", "crc32c"}}
    return contents


def overwrite(url: str, payload: bytes) -> None:
    """Put other bytes under a key, which framevault itself never does."""
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    filesystem.pipe_file(path, payload)
