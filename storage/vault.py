"""Making and opening a vault: the folder or prefix whose vault.json says so."""

from __future__ import annotations

import os

from framevault.storage.documents import check_requires, seal, unseal
from framevault.storage.errors import (
    AlreadyExistsError,
    NotFoundError,
    NoVaultError,
    UnsupportedError,
    VaultError,
)
from framevault.storage.store import Store, open_store

VAULT_KEY = "vault.json"
"""The object that makes a folder a vault."""

VAULT_FORMAT = "framevault"
"""What vault.json says about itself."""

VAULT_VERSION = 1
"""Of the layout: which keys there are and what they mean. Documents, packs and bitstreams have their own versions."""

REQUIRES_FOLDER = "requires"
"""Its keys `<feature>.json` name what a reader must know; vault.json itself can never get a name more."""


def open_vault(url: str, *, create: bool) -> Store:
    """Open a vault.

    Args:
        url: A folder or any fsspec URL.
        create: Make a vault where nothing is yet, and make sure that it can be written.

    Raises:
        NoVaultError: Nothing is there, and `create` is false.
        VaultError: It is a file, holds other things than a vault, or a vault of another version.
        ChecksumError: vault.json is damaged.
        StoreUnavailableError: It can't be read, or with `create` not written.
    """
    store = open_store(url)
    _refuse_file(url)
    if create:
        if not store.exists(VAULT_KEY):
            _create(store)
        else:
            _check(store)
        store.check_writable()
    else:
        _check(store)
    return store


def check_vault_document(key: str, payload: bytes) -> None:
    """Check the content of vault.json.

    Raises:
        VaultError: It belongs to something else or to another version.
        ChecksumError: It is damaged.
    """
    try:
        fields = unseal(key, payload)
        if (kind := fields.text("format")) != VAULT_FORMAT:
            raise VaultError(f"{key}: format must be {VAULT_FORMAT!r}, is {kind!r}")
        fields.check_version(VAULT_VERSION)
    except UnsupportedError as error:
        raise VaultError(str(error)) from error


def _check(store: Store) -> None:
    try:
        payload = store.read(VAULT_KEY)
    except NotFoundError as error:
        _refuse_other_content(store)
        raise NoVaultError(f"{store.url}: there is no vault") from error
    check_vault_document(f"{store.url}: {VAULT_KEY}", payload)
    names = [key.rpartition("/")[2].removesuffix(".json") for key in store.list(REQUIRES_FOLDER)]
    try:
        check_requires(store.url, names)
    except UnsupportedError as error:
        raise VaultError(str(error)) from error


def _create(store: Store) -> None:
    _refuse_other_content(store)
    try:
        store.create(VAULT_KEY, seal({}, kind=VAULT_FORMAT, version=VAULT_VERSION))
    except AlreadyExistsError:
        _check(store)


def _refuse_other_content(store: Store) -> None:
    first = next(store.list(), None)
    # Another writer may have made the vault just now.
    if first is not None and not store.exists(VAULT_KEY):
        raise VaultError(f"{store.url}: not a vault: it holds {first!r} but no {VAULT_KEY}; name an empty place")


def _refuse_file(url: str) -> None:
    path = url.removeprefix("file://").removeprefix("local://")
    if "://" not in path and os.path.lexists(path) and not os.path.isdir(path):
        raise VaultError(f"{url}: a vault is a folder, this is a file")
