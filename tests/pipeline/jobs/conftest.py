"""Fixtures of the tests of whole jobs."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.jobs.job_server import JobServer, run_job_server


@pytest.fixture(scope="session")
def job_server() -> Iterator[JobServer]:
    """One server for all tests of this process, that starts commands in processes of their own at once."""
    with run_job_server() as server:
        yield server


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that other users can reach: outside pytest's own, whose modes other processes set and rely on."""
    folder = Path(tempfile.mkdtemp(prefix="framevault-public-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
