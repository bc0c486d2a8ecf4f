"""Fixtures of the tests of storage."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.s3_server import S3Server, run_s3_server

NOBODY = 65534
"""User id without rights, on every Linux."""


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for all tests of this process, whose S3 clients find it by the standard variables."""
    with run_s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """An existing folder that this process may read and not write, even where the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="framevault-read-only-"))
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        shutil.rmtree(folder)
