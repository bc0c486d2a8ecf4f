"""What a checkpoint says of itself may be anything: a vault's own comes from whoever wrote the vault."""

import json
from pathlib import Path

import pytest

from framevault.codecs.checkpoint_header import CODEC_KEY, CONFIG_KEY, read_config
from framevault.codecs.errors import CheckpointError

DEEP = b"[" * 100_000


def write(path: Path, header: bytes) -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


def with_config(config: object) -> bytes:
    return json.dumps({"__metadata__": {CODEC_KEY: "dicm", CONFIG_KEY: config}}).encode()


def test_the_configuration_is_read(tmp_path: Path) -> None:
    assert read_config(write(tmp_path / "x", with_config('{"slices": [1]}')), codec="dicm") == {"slices": [1]}


@pytest.mark.parametrize("header", [b"", b"{", b"[]", DEEP, b'{"__metadata__": 1}', b"\xff"])
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(CheckpointError, match="can't be read as a safetensors checkpoint"):
        read_config(write(tmp_path / "x", header), codec="dicm")


@pytest.mark.parametrize("config", ["", "{", DEEP.decode(), 5, "[]"])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, config: object) -> None:
    with pytest.raises(CheckpointError, match=f"{CONFIG_KEY} must be"):
        read_config(write(tmp_path / "x", with_config(config)), codec="dicm")
