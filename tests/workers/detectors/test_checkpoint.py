"""Tests of detectors' checkpoints."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from framevault.workers.detectors.base import DetectorError
from framevault.workers.detectors.checkpoint import DetectorConfig, load_network, save_detector
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork
from framevault.workers.detectors.registry import CONFIG_KEY

CONFIG = DetectorConfig(name="toy", labels=("person", "car"), pyramid_channels=8, map_channels=8, nms_iou=0.6)


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
