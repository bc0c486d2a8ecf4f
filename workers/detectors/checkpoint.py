"""Detectors' checkpoints: safetensors files whose metadata holds the labels and the sizes of the network."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from framevault.workers.detectors.base import DetectorError
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork, NetworkShape

CONFIG_KEY = "framevault_detector"
"""Metadata entry with a `DetectorConfig` as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """What a checkpoint says beside its tensors."""

    name: str
    """The detector's name in the registry."""
    labels: tuple[str, ...]
    """Name of each channel of the heat map."""
    pyramid_channels: int
    """See `NetworkShape`."""
    map_channels: int
    """See `NetworkShape`."""
    nms_iou: float
    """Of two objects of one label that overlap more than this, only the better is kept."""

    def network_shape(self) -> NetworkShape:
        """Return the sizes of the network."""
        return NetworkShape(
            num_labels=len(self.labels), pyramid_channels=self.pyramid_channels, map_channels=self.map_channels
        )


def save_detector(path: Path, network: DetectorNetwork, config: DetectorConfig) -> None:
    """Write a folded network as float16; the same network gives the same bytes."""
    tensors = {name: tensor.half().contiguous() for name, tensor in sorted(network.state_dict().items())}
    path.write_bytes(save(tensors, {CONFIG_KEY: json.dumps(asdict(config), sort_keys=True)}))


def load_network(path: Path, *, name: str) -> tuple[DetectorNetwork, DetectorConfig]:
    """Read a checkpoint into a network in evaluation mode, float32 on the CPU.

    Raises:
        DetectorError: The file is missing, damaged or another detector's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError) as error:
        raise DetectorError(f"{path} can't be read as a safetensors checkpoint: {error}") from error
    config = _parse_config(path, metadata.get(CONFIG_KEY))
    if config.name != name:
        raise DetectorError(f"{path} must be a checkpoint of detector {name!r}, got {config.name!r}")
    network = DetectorNetwork(config.network_shape())
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise DetectorError(f"{path} does not hold the tensors of {name!r}: {error}") from error
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last), config


def _parse_config(path: Path, text: str | None) -> DetectorConfig:
    if text is None:
        raise DetectorError(f"{path} must have the metadata entry {CONFIG_KEY!r}, it has none")
    try:
        row = json.loads(text)
        return DetectorConfig(**{**row, "labels": tuple(row["labels"])})
    except (ValueError, TypeError, KeyError) as error:
        raise DetectorError(f"{path}: {CONFIG_KEY} must be a detector's configuration: {error!r}") from error
