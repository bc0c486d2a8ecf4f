"""The toy codecs, made once a process."""

from pathlib import Path

import pytest

from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.spec import CodecSpec
from tests.codecs.dicm.moving_toy import save_moving_toy
from tests.codecs.dicm.toy import save_toy
from tests.codecs.hsc.toy import save_toy as save_toy_hsc


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's checkpoint; don't change it."""
    return save_toy(tmp_path_factory.mktemp("dicm") / "toy.safetensors")


@pytest.fixture(scope="session")
def toy(toy_path: Path) -> DicmCodec:
    """The toy, on the CPU."""
    return load_dicm(CodecSpec(name="dicm", weights=str(toy_path), bitstream_version=1))


@pytest.fixture(scope="session")
def moving_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the toy with moved frames; don't change it."""
    return save_moving_toy(tmp_path_factory.mktemp("motion") / "toy.safetensors")


@pytest.fixture(scope="session")
def moving(moving_path: Path) -> DicmCodec:
    """The toy with moved frames, on the CPU."""
    return load_dicm(CodecSpec(name="dicm", weights=str(moving_path), bitstream_version=9))


@pytest.fixture(scope="session")
def settling(moving_path: Path) -> DicmCodec:
    """The same with what settles behind what moves."""
    return load_dicm(CodecSpec(name="dicm", weights=str(moving_path), bitstream_version=13))


@pytest.fixture(scope="session")
def toy_hsc_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of hsc's toy; don't change it."""
    return save_toy_hsc(tmp_path_factory.mktemp("hsc") / "toy.safetensors")


@pytest.fixture(scope="session")
def toy_hsc(toy_hsc_path: Path) -> HscCodec:
    """Hsc's toy, on the CPU."""
    return load_hsc(CodecSpec(name="hsc", weights=str(toy_hsc_path)))
