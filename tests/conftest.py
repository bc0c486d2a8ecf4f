"""What all tests share: options, markers, the threads of the numeric libraries, and a Ray cluster a process."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# One thread a process: two spinning pools on two cores run ten times slower. Must be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test may reach a real cloud, nor read a developer's own keys.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ.pop("AWS_PROFILE", None)

# A busy machine is no failure.
hypothesis.settings.register_profile("framevault", deadline=None)
hypothesis.settings.load_profile("framevault")

NUM_LOGICAL_CPUS = 4
"""CPUs that the test cluster believes to have: enough for two workers of two."""

NUM_LOGICAL_GPUS = 2
"""GPUs that the test cluster believes to have."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--slow`."""
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this run or this machine leaves out."""
    if not config.getoption("--slow") and "slow" not in config.option.markexpr:
        _skip(items, marker="slow", reason="slow: runs with --slow")
    if any(item.get_closest_marker("gpu") for item in items) and not _has_cuda():
        _skip(items, marker="gpu", reason="no CUDA device")


def _skip(items: list[pytest.Item], *, marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session", autouse=True)
def checkpoint_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where commands put the checkpoints that they fetch from vaults: never into a developer's own folder."""
    folder = tmp_path_factory.mktemp("checkpoint_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMEVAULT_CHECKPOINT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray cluster for all tests of this process, its GPUs in its books only; it starts in some five seconds."""
    from framevault.pipeline.executors.ray_cluster import connect, import_ray

    connect(None, num_cpus=NUM_LOGICAL_CPUS, num_gpus=NUM_LOGICAL_GPUS)
    yield
    import_ray().shutdown()
