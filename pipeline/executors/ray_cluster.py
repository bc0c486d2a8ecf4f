"""Getting at Ray: the import, and the connection to a cluster or a small one on this machine."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import socket
from pathlib import Path
from types import ModuleType
from typing import Any

from framevault.pipeline.executors.base import ExecutorError

LOCAL_CLUSTER_SETTINGS: dict[str, Any] = {
    "include_dashboard": False,
    "log_to_driver": False,
    "configure_logging": False,
    "logging_level": logging.ERROR,
    # Only specs and receipts pass through the object store; Ray's own default is 30 % of the machine's memory.
    "object_store_memory": 128 << 20,
}
"""How a cluster on this machine is started: quiet and small."""


REACH_S = 5.0
"""Seconds that a cluster's head may take to accept a connection."""


def import_ray() -> ModuleType:
    """Import Ray, or say how to get it.

    Raises:
        ExecutorError: It is not installed.
    """
    # Nothing leaves the machine.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without GPUs of its own, a worker sees what the machine has: Ray's coming default, and a warning less.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray prints what its daemons say of dead workers to stdout, between a job's JSON lines; we report deaths ourselves.
    # It reads this when it is imported.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ExecutorError(
            f"the ray executor needs Ray, and module {error.name!r} is missing: pip install 'framevault[ray]'"
        ) from error
    return ray


def connect(address: str | None, *, num_cpus: int | None = None, num_gpus: int | None = None) -> None:
    """Connect this process to a cluster, or start one on this machine.

    Workers get this package with the job if it is not installed (`PYTHONPATH=.src`); else every node has it installed.

    Args:
        address: The cluster's address; None starts one.
        num_cpus: CPUs of the one that is started; None for those that there are.
        num_gpus: GPUs of the one that is started; None for those that there are.

    Raises:
        ExecutorError: The cluster can't be reached or started.
    """
    ray = import_ray()
    if address is not None:
        _check_reachable(address)
    # `local`, since without an address Ray would look into the environment for one.
    where: dict[str, Any] = (
        {"address": "local", **LOCAL_CLUSTER_SETTINGS, "num_cpus": num_cpus, "num_gpus": num_gpus}
        if address is None
        else {"address": address, "log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}
    )
    try:
        ray.init(**where, runtime_env=_package_env())
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise ExecutorError(f"Ray cluster {address or 'on this machine'}: {error}") from error


def _check_reachable(address: str) -> None:
    """Try a TCP connection first: Ray itself waits for minutes, and then ends the process."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator:
        return  # `auto` and the like: Ray finds out by itself
    if not port.isdecimal():
        raise ExecutorError(f"a Ray address must be host:port or auto, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise ExecutorError(f"Ray cluster {address} can't be reached: {error}") from error


def _package_env() -> dict[str, str]:
    try:
        importlib.metadata.distribution("framevault")
    except importlib.metadata.PackageNotFoundError:
        # seen through its link, this file is .src/framevault/pipeline/executors/ray_cluster.py
        return {"working_dir": str(Path(__file__).absolute().parents[3])}
    return {}
