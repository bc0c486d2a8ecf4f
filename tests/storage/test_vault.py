"""Making and opening vaults."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google_crc32c import value as crc32c

from framevault.storage.documents import seal
from framevault.storage.errors import ChecksumError, NoVaultError, StoreUnavailableError, VaultError
from framevault.storage.vault import open_vault
from tests.storage.s3_server import S3Server

VAULT_OF_VERSION_0 = b'{"crc32c":"f1503c12","format":"framevault","version":0}\n'
"""As framevault 0.1 wrote it before the format was frozen."""


@pytest.fixture(params=["local", "memory", "s3"])
def vault_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "deep" / "vault")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    server: S3Server = request.getfixturevalue("s3_server")
    return f"{server.url}/{uuid.uuid4().hex}"


def test_a_vault_is_made_once_and_opened_again(vault_url: str) -> None:
    made = open_vault(vault_url, create=True)
    again = open_vault(vault_url, create=True)
    opened = open_vault(vault_url, create=False)

    assert list(opened.list()) == ["vault.json"]
    assert made.read("vault.json") == again.read("vault.json") == opened.read("vault.json")
    assert list(opened.list_leftovers()) == []


def test_opening_what_is_not_there_makes_nothing(vault_url: str) -> None:
    with pytest.raises(NoVaultError, match="there is no vault"):
        open_vault(vault_url, create=False)
    with pytest.raises(NoVaultError):
        open_vault(vault_url, create=False)


def test_many_may_make_the_same_vault_at_once(vault_url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: open_vault(vault_url, create=True), range(6)))

    assert len({store.read("vault.json") for store in stores}) == 1


def test_vault_json_says_what_it_is(tmp_path: Path) -> None:
    open_vault(str(tmp_path), create=True)

    stored = json.loads((tmp_path / "vault.json").read_text())

    assert stored == {"format": "framevault", "version": 1, "requires": [], "crc32c": stored["crc32c"]}


@pytest.mark.parametrize("create", [True, False])
def test_a_file_is_no_vault(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "movie.mp4"
    path.write_bytes(b"x")

    for url in (str(path), f"file://{path}"):
        with pytest.raises(VaultError, match="a vault is a folder, this is a file"):
            open_vault(url, create=create)


@pytest.mark.parametrize("create", [True, False])
def test_a_folder_of_other_things_is_no_vault(tmp_path: Path, create: bool) -> None:
    (tmp_path / "letter.txt").write_text("dear")

    with pytest.raises(VaultError, match=r"not a vault: it holds 'letter\.txt' but no vault\.json"):
        open_vault(str(tmp_path), create=create)

    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("create", [True, False])
def test_a_vault_of_another_version_is_refused(tmp_path: Path, create: bool) -> None:
    (tmp_path / "vault.json").write_bytes(seal({}, kind="framevault", version=7))

    with pytest.raises(VaultError, match="is of version 7, this framevault reads version 1; use a newer one"):
        open_vault(str(tmp_path), create=create)


@pytest.mark.parametrize("create", [True, False])
def test_a_vault_of_version_0_is_refused_and_told_what_to_do(tmp_path: Path, create: bool) -> None:
    (tmp_path / "vault.json").write_bytes(VAULT_OF_VERSION_0)

    with pytest.raises(
        VaultError, match=r"vault\.json: is of version 0, .*: compress the sources again, .* or use framevault 0\.1"
    ):
        open_vault(str(tmp_path), create=create)


@pytest.mark.parametrize("create", [True, False])
def test_a_vault_that_requires_something_unknown_is_refused(tmp_path: Path, create: bool) -> None:
    document = seal({}, kind="framevault", version=1)
    rest = document[20:].replace(b'"requires":[]', b'"requires":["time-travel"]')
    (tmp_path / "vault.json").write_bytes(b'{"crc32c":"%08x"' % crc32c(rest) + rest)

    with pytest.raises(VaultError, match=r"vault\.json: needs 'time-travel', which this framevault does not know"):
        open_vault(str(tmp_path), create=create)


@pytest.mark.parametrize("create", [True, False])
def test_a_vault_that_came_to_require_something_later_is_refused(vault_url: str, create: bool) -> None:
    store = open_vault(vault_url, create=True)
    store.create("requires/time-travel.json", b"whatever")

    with pytest.raises(VaultError, match="needs 'time-travel', which this framevault does not know; use a newer one"):
        open_vault(vault_url, create=create)


def test_a_vault_json_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vault.json").write_bytes(seal({}, kind="hashicorp", version=1))

    with pytest.raises(VaultError, match="format must be 'framevault', is 'hashicorp'"):
        open_vault(str(tmp_path), create=True)


def test_a_damaged_vault_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "vault.json").write_bytes(b'{"format":"framev')

    with pytest.raises(ChecksumError, match=r"vault\.json: must start with the checksum"):
        open_vault(str(tmp_path), create=True)


def test_a_read_only_folder_can_not_become_a_vault(read_only_folder: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="PermissionError"):
        open_vault(str(read_only_folder), create=True)


def test_what_a_kill_left_of_the_first_write_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "1-x").write_bytes(b"{")

    open_vault(str(tmp_path), create=True)
