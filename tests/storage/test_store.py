"""Stores of every kind, and what happens when one fails."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path
from typing import NoReturn

import pytest

from framevault.storage.backends import TEMPORARY_FOLDER
from framevault.storage.errors import NotFoundError, StoreError, StoreUnavailableError, VaultError
from framevault.storage.store import Store, open_store
from framevault.storage.testing import StoreTests
from tests.storage.s3_server import S3Server

WRITE_WITH_SMALL_FILE_LIMIT = """
import resource, sys
from framevault.storage.errors import StoreUnavailableError
from framevault.storage.store import open_store
store = open_store(sys.argv[1])
store.create("small", b"x" * 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    store.create("packs/large.fvp", b"x" * 1_000_000)
except StoreUnavailableError as error:
    print(error)
print([*store.list()], [*store.list_leftovers()])
"""
"""The kernel itself refuses to let a file grow, in the middle of a write."""


class TestLocalStore(StoreTests):
    @pytest.fixture
    def store_url(self, tmp_path: Path) -> str:
        return str(tmp_path / "vault")


class TestFileUrlStore(StoreTests):
    @pytest.fixture
    def store_url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/vault"


class TestMemoryStore(StoreTests):
    @pytest.fixture
    def store_url(self) -> str:
        return f"memory://{uuid.uuid4().hex}"


class TestS3Store(StoreTests):
    @pytest.fixture
    def store_url(self, s3_server: S3Server) -> str:
        return f"{s3_server.url}/{uuid.uuid4().hex}"


class TestOtherStore(StoreTests):
    """fsspec's `dir` file system stands for all that are not known to have a conditional write."""

    allows_concurrent_writers = False

    @pytest.fixture
    def store_url(self, tmp_path: Path) -> str:
        (tmp_path / "vault").mkdir()
        return f"dir::file://{tmp_path}/vault"


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "vault"))


def fail_with(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("call", ["write", "fsync", "link"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_or_broken_disk_is_the_environments_fault_and_leaves_nothing(
    local_store: Store, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    local_store.create("packs/before", b"kept")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, lambda *_: fail_with(number))
        with pytest.raises(StoreUnavailableError, match=r"vault: packs/a\.fvp: OSError: \[Errno"):
            local_store.create("packs/a.fvp", b"x" * 1000)

    assert list(local_store.list()) == ["packs/before"]
    assert list(local_store.list_leftovers()) == []
    local_store.create("packs/a.fvp", b"there is space again")


def test_a_write_that_the_kernel_cuts_off_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE_WITH_SMALL_FILE_LIMIT, str(tmp_path / "vault")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    error, listed = done.stdout.splitlines()
    assert "packs/large.fvp: OSError: [Errno 27] File too large" in error
    assert listed == "['small'] []"


def test_a_file_system_without_hard_links_is_refused_in_words(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", lambda *_: fail_with(errno.EPERM))

    with pytest.raises(StoreUnavailableError, match="no hard links"):
        local_store.create("x", b"x")

    assert list(local_store.list()) == []


def test_a_read_only_folder_is_the_environments_fault(read_only_folder: Path) -> None:
    store = open_store(str(read_only_folder))

    with pytest.raises(StoreUnavailableError, match="PermissionError"):
        store.create("x", b"x")
    with pytest.raises(StoreUnavailableError, match="PermissionError"):
        store.check_writable()


def test_what_a_killed_writer_left_is_no_object(local_store: Store, tmp_path: Path) -> None:
    local_store.create("x", b"x")
    (tmp_path / "vault" / TEMPORARY_FOLDER / "17-abc").write_bytes(b"half an obj")

    assert list(local_store.list()) == ["x"]
    assert list(local_store.list_leftovers()) == [f"{TEMPORARY_FOLDER}/17-abc"]


def test_memory_is_not_shared_and_all_others_are(tmp_path: Path) -> None:
    assert not open_store("memory://x").is_shared
    assert open_store(str(tmp_path)).is_shared


def test_a_relative_path_stays_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("vault")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    store.create("x", b"x")
    pickle.loads(pickle.dumps(store)).create("y", b"y")

    assert store.url == str(tmp_path / "vault")
    assert {path.name for path in (tmp_path / "vault").iterdir()} == {".tmp", "x", "y"}


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(VaultError, match=r"nonsense://x: not a path or URL of a known kind"):
        open_store("nonsense://x")


def test_a_missing_s3_library_is_named_with_the_extra_that_brings_it() -> None:
    # In a process of its own: fsspec keeps what it has imported.
    code = "import sys\nsys.modules['s3fs'] = None\nfrom framevault.storage.store import open_store\n"

    done = subprocess.run(
        [sys.executable, "-c", code + "open_store('s3://bucket/vault')"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("framevault.storage.errors.VaultError: s3://bucket/vault: what serves s3://")
    assert last_line.endswith("pip install 'framevault[s3]'")


def test_a_missing_bucket_is_the_environments_fault(s3_server: S3Server) -> None:
    store = open_store("s3://no-such-bucket/vault")

    with pytest.raises(StoreUnavailableError, match="there is no such bucket"):
        store.read("vault.json")
    with pytest.raises(StoreUnavailableError, match="there is no such bucket"):
        store.create("vault.json", b"{}")


def test_an_s3_server_that_does_not_answer_is_the_environments_fault() -> None:
    # In a process of its own: s3fs keeps clients, and this one shall try only once.
    code = "import sys\nfrom framevault.storage.store import open_store\nopen_store('s3://b/v').read('vault.json')"
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_MAX_ATTEMPTS": "1",
    }

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60, env=environment
    )

    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("framevault.storage.errors.StoreUnavailableError: s3://b/v: vault.json: Endpoint")


def test_every_store_error_is_an_os_error_and_a_missing_object_no_unavailable_store() -> None:
    assert issubclass(StoreError, OSError)
    assert not issubclass(NotFoundError, StoreUnavailableError)
