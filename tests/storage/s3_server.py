"""An S3 server of moto's on this machine, in a process of its own, for tests that need a real HTTP store."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""
"""Takes a free port, says which, and serves until its standard input is closed: it never outlives the test run."""

BUCKET = "raw-and-vaults"
"""A bucket that exists in every server."""

STOP_TIMEOUT_S = 20
"""Seconds in which a server must have stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server."""

    endpoint_url: str
    """Where it listens."""

    @property
    def url(self) -> str:
        """URL of an existing, empty bucket."""
        return f"s3://{BUCKET}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What leads every S3 client of a process to this server: the standard variables, nothing of framevault's."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextlib.contextmanager
def run_s3_server() -> Iterator[S3Server]:
    """Run a server with one empty bucket, and stop it at the end. The caller sets `environment` where it is needed."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            server = S3Server(endpoint_url=f"http://127.0.0.1:{int(process.stdout.readline())}")
            _make_bucket(server)
            _forget_clients()
            yield server
        finally:
            _forget_clients()
            process.stdin.close()
            try:
                process.wait(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _forget_clients() -> None:
    """Make s3fs forget its clients: it would give one that was made for another server's environment."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def _make_bucket(server: S3Server) -> None:
    import botocore.session

    client = botocore.session.Session().create_client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()
