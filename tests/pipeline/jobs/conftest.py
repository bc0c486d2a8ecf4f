"""Fixtures of the tests of whole jobs."""

from collections.abc import Iterator

import pytest

from tests.pipeline.jobs.job_server import JobServer, run_job_server


@pytest.fixture(scope="session")
def job_server() -> Iterator[JobServer]:
    """One server for the whole run, that starts commands in processes of their own at once."""
    with run_job_server() as server:
        yield server
