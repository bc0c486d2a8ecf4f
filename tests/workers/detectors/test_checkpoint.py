"""Tests of detectors' checkpoints."""

import dataclasses
import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from framevault.workers.detectors.base import DetectorError
from framevault.workers.detectors.checkpoint import (
    DetectorConfig,
    LatentDetectorConfig,
    load_latent_network,
    load_network,
    save_detector,
)
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork
from framevault.workers.detectors.registry import CONFIG_KEY
from tests.codecs.allocations import LargestTensor

CONFIG = DetectorConfig(name="toy", labels=("person", "car"), pyramid_channels=8, map_channels=8, nms_iou=0.6)

LATENT_CONFIG = LatentDetectorConfig(
    name="toy",
    labels=("person", "car"),
    codec_weights="ab" * 32,
    latent_channels=6,
    deep_channels=8,
    num_blocks=1,
    num_context_blocks=1,
    num_fine_blocks=1,
    num_map_blocks=1,
    pyramid_channels=8,
    nms_iou=0.6,
)

REFUSED_IN_CPU_S = 1.0
"""The goal is a tenth of it. CPU time, not wall time: the test may share its cores."""


def write_toy(path: Path) -> DetectorNetwork:
    torch.manual_seed(0)
    network = DetectorNetwork(CONFIG.network_shape())
    save_detector(path, network, CONFIG)
    return network


def test_a_checkpoint_gives_back_network_and_configuration(tmp_path: Path) -> None:
    network = write_toy(tmp_path / "toy.safetensors")

    loaded, config = load_network(tmp_path / "toy.safetensors", name="toy")

    assert config == CONFIG
    for name, tensor in network.state_dict().items():
        # Stored as float16.
        assert torch.equal(loaded.state_dict()[name], tensor.half().float())


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_toy(tmp_path / name)

    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=r"nowhere\.safetensors can't be read"):
        load_network(tmp_path / "nowhere.safetensors", name="toy")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    write_toy(path)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(DetectorError, match="can't be read as a safetensors checkpoint"):
        load_network(path, name="toy")


def test_another_detectors_checkpoint_is_refused(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.safetensors")

    with pytest.raises(DetectorError, match="must be a checkpoint of detector 'other', got 'toy'"):
        load_network(tmp_path / "toy.safetensors", name="other")


@pytest.mark.parametrize("config", [None, "not json", "[]", '{"name": "toy"}', '{"labels": ["a"], "unknown": 1}'])
def test_a_checkpoint_without_a_proper_configuration_is_refused(tmp_path: Path, config: str | None) -> None:
    path = tmp_path / "toy.safetensors"
    save_file({"x": torch.zeros(1)}, path, None if config is None else {CONFIG_KEY: config})

    with pytest.raises(DetectorError, match=CONFIG_KEY):
        load_network(path, name="toy")


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "toy.safetensors"
    network = write_toy(path)
    with path.open("rb") as file:
        assert CONFIG_KEY.encode() in file.read(2000)
    tensors = load_file(path)
    name = next(iter(network.state_dict()))
    if change == "missing":
        del tensors[name]
    elif change == "unknown":
        tensors["surplus"] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(1)
    config = '{"name":"toy","labels":["person","car"],"pyramid_channels":8,"map_channels":8,"nms_iou":0.6}'
    save_file(tensors, path, {CONFIG_KEY: config})

    with pytest.raises(DetectorError, match="does not hold the tensors of 'toy'"):
        load_network(path, name="toy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pyramid_channels": 65_536}, r"context\.0\.0\.conv\.bias must be \[65536\], got \[8\]; "),
        ({"map_channels": 10**6}, "map_channels must be 1 to 65536, got 1000000"),
        ({"map_channels": 8.0}, "does not hold the tensors"),
        ({"pyramid_channels": "8"}, "TypeError"),
        ({"labels": []}, "the number of labels must be 1 to 65536, got 0"),
        ({"labels": ["car"] * 3}, r"heat\.2\.bias must be \[3\], got \[2\]"),
    ],
)
def test_sizes_that_the_file_has_no_tensors_for_cost_nothing(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "toy.safetensors"
    write_toy(path)
    tensors = load_file(path)
    save_file(tensors, path, {CONFIG_KEY: json.dumps({**dataclasses.asdict(CONFIG), **change})})
    start = time.process_time()

    with LargestTensor() as largest, pytest.raises(DetectorError, match=rf"toy\.safetensors.*{message}"):
        load_network(path, name="toy")

    assert time.process_time() - start < REFUSED_IN_CPU_S
    assert largest.size_bytes <= 4 * max(tensor.numel() for tensor in tensors.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"deep_channels": 65_536}, "tensors are missing: context"),
        ({"num_blocks": 10**9}, "num_blocks must be 0 to 128, got 1000000000"),
        ({"num_blocks": 128, "num_fine_blocks": 128, "num_context_blocks": 128}, "tensors are missing: context"),
        ({"num_map_blocks": -1}, "num_map_blocks must be 0 to 128, got -1"),
        ({"latent_channels": 10**12}, f"latent_channels must be 1 to 65536, got {10**12}"),
    ],
)
def test_a_file_of_a_kilobyte_costs_nothing(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "toy.safetensors"
    config = {**dataclasses.asdict(LATENT_CONFIG), **change}
    save_file({"entry.bias": torch.zeros(64)}, path, {CONFIG_KEY: json.dumps(config)})
    start = time.process_time()

    with LargestTensor() as largest, pytest.raises(DetectorError, match=rf"toy\.safetensors.*{message}"):
        load_latent_network(path, name="toy")

    assert time.process_time() - start < REFUSED_IN_CPU_S
    assert largest.size_bytes <= 1000
