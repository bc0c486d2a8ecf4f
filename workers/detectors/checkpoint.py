"""Detectors' checkpoints: safetensors files whose metadata holds the labels and the sizes of the network."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from framevault.codecs.checkpoint import check_names, check_shapes
from framevault.codecs.hollow import allocate, build_hollow
from framevault.codecs.sizes import MOST_PARTS, check_size
from framevault.workers.detectors.base import DetectorError
from framevault.workers.detectors.latents import LatentNetwork, LatentShape
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork, NetworkShape
from framevault.workers.detectors.registry import CONFIG_KEY

NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """What a checkpoint of a detector on features says beside its tensors."""

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

    def __post_init__(self) -> None:
        """Check that a network of these sizes can be built."""
        check_size("the number of labels", len(self.labels))
        for name in ("pyramid_channels", "map_channels"):
            check_size(name, getattr(self, name))

    def network_shape(self) -> NetworkShape:
        """Return the sizes of the network."""
        return NetworkShape(
            num_labels=len(self.labels), pyramid_channels=self.pyramid_channels, map_channels=self.map_channels
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentDetectorConfig:
    """What a checkpoint of a detector on latents says beside its tensors."""

    name: str
    """The detector's name in the registry."""
    labels: tuple[str, ...]
    """Name of each channel of the heat map."""
    codec_weights: str
    """SHA-256 in hex of the codec checkpoint whose latents it reads: another's mean something else."""
    latent_channels: int
    """See `LatentShape`."""
    deep_channels: int
    """See `LatentShape`."""
    num_blocks: int
    """See `LatentShape`."""
    num_context_blocks: int
    """See `LatentShape`."""
    num_fine_blocks: int
    """See `LatentShape`."""
    num_map_blocks: int
    """See `LatentShape`."""
    pyramid_channels: int
    """See `LatentShape`."""
    nms_iou: float
    """Of two objects of one label that overlap more than this, only the better is kept."""

    def __post_init__(self) -> None:
        """Check that a network of these sizes can be built."""
        check_size("the number of labels", len(self.labels))
        for name in ("latent_channels", "deep_channels", "pyramid_channels"):
            check_size(name, getattr(self, name))
        for name in ("num_blocks", "num_context_blocks", "num_fine_blocks", "num_map_blocks"):
            check_size(name, getattr(self, name), least=0, most=MOST_PARTS)

    def network_shape(self) -> LatentShape:
        """Return the sizes of the network."""
        return LatentShape(
            num_labels=len(self.labels),
            latent_channels=self.latent_channels,
            deep_channels=self.deep_channels,
            num_blocks=self.num_blocks,
            num_context_blocks=self.num_context_blocks,
            num_fine_blocks=self.num_fine_blocks,
            num_map_blocks=self.num_map_blocks,
            pyramid_channels=self.pyramid_channels,
        )


ConfigT = TypeVar("ConfigT", DetectorConfig, LatentDetectorConfig)


def save_detector(path: Path, network: nn.Module, config: DetectorConfig | LatentDetectorConfig) -> None:
    """Write a folded network as float16; the same network gives the same bytes."""
    tensors = {name: tensor.half().contiguous() for name, tensor in sorted(network.state_dict().items())}
    path.write_bytes(save(tensors, {CONFIG_KEY: json.dumps(asdict(config), sort_keys=True)}))


def load_network(path: Path, *, name: str) -> tuple[DetectorNetwork, DetectorConfig]:
    """Read a checkpoint into a network in evaluation mode, float32 on the CPU.

    Raises:
        DetectorError: The file is missing, damaged or another detector's.
    """
    tensors, config = _read(path, DetectorConfig, name=name)
    return _fill(path, lambda: DetectorNetwork(config.network_shape()), tensors, name=name), config


def load_latent_network(path: Path, *, name: str) -> tuple[LatentNetwork, LatentDetectorConfig]:
    """Read a checkpoint of a detector on latents; as `load_network`.

    Raises:
        DetectorError: The file is missing, damaged or another detector's.
    """
    tensors, config = _read(path, LatentDetectorConfig, name=name)
    return _fill(path, lambda: LatentNetwork(config.network_shape()), tensors, name=name), config


def _read(path: Path, kind: type[ConfigT], *, name: str) -> tuple[dict[str, Tensor], ConfigT]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError) as error:
        raise DetectorError(f"{path} can't be read as a safetensors checkpoint: {error}") from error
    config = _parse_config(path, kind, metadata.get(CONFIG_KEY), name=name)
    return tensors, config


def _fill(path: Path, build: Callable[[], NetworkT], tensors: dict[str, Tensor], *, name: str) -> NetworkT:
    try:
        network = build_hollow(build)
        shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        check_names(tensors, shapes.keys())
        check_shapes(tensors, shapes)
    except (RuntimeError, TypeError, ValueError) as error:
        raise DetectorError(f"{path} does not hold the tensors of {name!r}: {error}") from error
    allocate(network).load_state_dict(tensors)
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DetectorError(f"{path}: {key} holds values that are no numbers")
    filled: NetworkT = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return filled


def _parse_config(path: Path, kind: type[ConfigT], text: str | None, *, name: str) -> ConfigT:
    if text is None:
        raise DetectorError(f"{path} must have the metadata entry {CONFIG_KEY!r}, it has none")
    try:
        row = json.loads(text)
        found = row["name"]
        if found != name:
            raise DetectorError(f"{path} must be a checkpoint of detector {name!r}, got {found!r}")
        return kind(**{**row, "labels": tuple(row["labels"])})
    except DetectorError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise DetectorError(f"{path}: {CONFIG_KEY} must be a detector's configuration: {error!r}") from error
