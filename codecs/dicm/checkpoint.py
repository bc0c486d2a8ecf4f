"""A checkpoint's tensors <-> networks, integer entropy model, and the golden vector that a machine is tried on.

| names | what they hold |
| --- | --- |
| `networks.*` | g_a, g_s, h_a, head, gains: floats |
| `entropy.<layer>.weight`, `.bias`, `.shift` | integer networks: int16, int32, uint8 |
| `tables.<hyper, latent>.<cumulative, lengths, offsets>` | frequency tables: int32 |
| `golden.z`, `golden.latent16`, `golden.stream` | a small frame's symbols (int32) and its stream (uint8) |

With video mode (`temporal` in the configuration is not 0) also what `video_checkpoint.py` lists.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.checkpoint import check_names, check_shapes, check_tensor
from framevault.codecs.dicm.bitstream import Bitstream
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.dicm.networks import DicmNetworks
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.entropy.integer import (
    IntConv2d,
    check_exact_matmul,
    check_layers,
    layer_shapes,
    layer_tensors,
    load_layers,
)
from framevault.codecs.entropy.latents import MEAN_STEPS, NUM_SCALES
from framevault.codecs.entropy.quantisation import convert
from framevault.codecs.entropy.tables import FrequencyTables, read_tables, table_names, table_tensors
from framevault.codecs.errors import CodecError, GoldenMismatchError
from framevault.codecs.hollow import allocate, build_hollow

GOLDEN_GRID = LatentGrid(7, 5)
"""Positions of the golden vector: no multiple of z's stride."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoldenVector:
    """A small frame whose stream is known."""

    z_nchw: Tensor
    """Its hyper-latent, whole numbers in float32 [1, Z, 2, 2]."""
    latent16_nchw: Tensor
    """Its decoded latent in sixteenths, whole numbers in float32 [1, M, 7, 5]."""
    stream: bytes
    """What it is coded as."""


def export_tensors(
    networks: DicmNetworks,
    entropy: EntropyNetworks,
    *,
    hyper_tables: FrequencyTables,
    latent_tables: FrequencyTables,
) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Return a checkpoint's tensors and configuration; `read_tensors` reads them.

    Args:
        networks: The trained networks.
        entropy: The trained entropy model, of `RoundedConv2d`.
        hyper_tables: Of z.
        latent_tables: Of y.

    Raises:
        ValueError: The entropy model's weights can't be made exact; names the layer.
    """
    config = networks.config
    running = EntropyNetworks(config, IntConv2d)
    convert(entropy, running)
    bitstream = _make_bitstream(config, running, hyper_tables, latent_tables)
    golden = _make_golden(bitstream, config)
    tensors = {f"networks.{name}": tensor for name, tensor in networks.state_dict().items()}
    tensors |= layer_tensors(running, "entropy")
    for kind, tables in (("hyper", hyper_tables), ("latent", latent_tables)):
        tensors |= table_tensors(kind, tables)
    tensors["golden.z"] = golden.z_nchw.int()
    tensors["golden.latent16"] = golden.latent16_nchw.int()
    tensors["golden.stream"] = torch.from_numpy(np.frombuffer(golden.stream, np.uint8).copy())
    return tensors, dataclasses.asdict(config)


def read_tensors(
    tensors: Mapping[str, Tensor], config_json: Mapping[str, object]
) -> tuple[DicmNetworks, Bitstream, GoldenVector]:
    """Build what a checkpoint describes, on the CPU; nothing larger than the tensors is made unless they fit.

    Raises:
        KeyError, RuntimeError, TypeError, ValueError: Tensors are missing, unknown, of other shapes, no numbers, or so
            large that sums would be inexact; the message names one.
    """
    config = DicmConfig.from_json(config_json)
    networks = build_hollow(lambda: DicmNetworks(config))
    running = build_hollow(lambda: EntropyNetworks(config, IntConv2d))
    _check_tensors(networks, running, tensors)
    allocate(networks).load_state_dict(_below("networks.", tensors))
    load_layers(allocate(running), "entropy", tensors)
    for name, tensor in networks.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"networks.{name} holds values that are no numbers")
    bitstream = _make_bitstream(config, running, read_tables("hyper", tensors), read_tables("latent", tensors))
    return networks, bitstream, _read_golden(tensors, config)


def check_golden(bitstream: Bitstream, golden: GoldenVector, *, name: str, device: str) -> None:
    """Encode and decode the golden vector, and compare.

    Args:
        bitstream: On its device.
        golden: Of the same checkpoint.
        name: The checkpoint's, for messages.
        device: The torch device.

    Raises:
        GoldenMismatchError: Something else came out: what is encoded here could not be decoded elsewhere.
    """
    grid = LatentGrid(*golden.latent16_nchw.shape[2:])
    advice = (
        f"on device {device!r} with torch {torch.__version__}: what it encoded could not be decoded elsewhere. Run on "
        "another device (device: cpu), or install the versions that framevault is pinned to"
    )
    try:
        # The cause before the symptom: processors that have bfloat16 products then compute wrong sums, too.
        check_exact_matmul(torch.device(device))
        check_layers(bitstream.networks)
        (stream,) = bitstream.encode((golden.latent16_nchw / MEAN_STEPS).to(device), golden.z_nchw.to(device))
        decoded_nchw = bitstream.decode([golden.stream], grid, device=device).cpu()
    except (CodecError, RuntimeError) as error:
        raise GoldenMismatchError(f"the golden vector of {name} can't be coded {advice} ({error})") from error
    if stream != golden.stream:
        raise GoldenMismatchError(f"the golden vector of {name} encodes to another stream {advice}")
    if not torch.equal(decoded_nchw, golden.latent16_nchw):
        raise GoldenMismatchError(f"the golden vector of {name} decodes to other symbols {advice}")


def _make_golden(bitstream: Bitstream, config: DicmConfig) -> GoldenVector:
    """Code a frame of random latents, with some so far off that they escape."""
    random = torch.Generator().manual_seed(20251121)
    z_nchw = torch.round(
        3 * torch.randn(1, config.hyper, GOLDEN_GRID.hyper_height, GOLDEN_GRID.hyper_width, generator=random)
    )
    y_nchw = 4 * torch.randn(1, config.latent, GOLDEN_GRID.height, GOLDEN_GRID.width, generator=random)
    y_nchw[:, ::5] *= 30
    (stream,) = bitstream.encode(y_nchw, z_nchw)
    latent16_nchw = bitstream.decode([stream], GOLDEN_GRID, device="cpu")
    # Coded again from what was decoded: rounding a latent that lies on the grid has one result on every machine.
    (stream,) = bitstream.encode(latent16_nchw / MEAN_STEPS, z_nchw)
    return GoldenVector(z_nchw=z_nchw, latent16_nchw=latent16_nchw, stream=stream)


def _read_golden(tensors: Mapping[str, Tensor], config: DicmConfig) -> GoldenVector:
    expected = {
        "z": (torch.int32, (1, config.hyper, GOLDEN_GRID.hyper_height, GOLDEN_GRID.hyper_width)),
        "latent16": (torch.int32, (1, config.latent, GOLDEN_GRID.height, GOLDEN_GRID.width)),
        "stream": (torch.uint8, (tensors["golden.stream"].numel(),)),
    }
    for part, (dtype, shape) in expected.items():
        check_tensor(f"golden.{part}", tensors[f"golden.{part}"], dtype=dtype, shape=shape)
    return GoldenVector(
        z_nchw=tensors["golden.z"].float(),
        latent16_nchw=tensors["golden.latent16"].float(),
        stream=tensors["golden.stream"].numpy().tobytes(),
    )


def _make_bitstream(
    config: DicmConfig, running: EntropyNetworks, hyper_tables: FrequencyTables, latent_tables: FrequencyTables
) -> Bitstream:
    for name, tables, expected in (("hyper", hyper_tables, config.hyper), ("latent", latent_tables, NUM_SCALES)):
        if tables.num_tables != expected:
            raise ValueError(f"tables.{name} must hold {expected} tables, got {tables.num_tables}")
    return Bitstream(
        networks=running,
        hyper_tables=hyper_tables,
        latent_tables=latent_tables,
        num_hyper_channels=config.hyper,
        skip_below=config.skip_below,
        num_coded=len(config.slices),
    )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_tensors(networks: DicmNetworks, running: EntropyNetworks, tensors: Mapping[str, Tensor]) -> None:
    shapes = {f"networks.{name}": tuple(tensor.shape) for name, tensor in networks.state_dict().items()}
    shapes |= layer_shapes(running, "entropy")
    others = table_names("hyper") | table_names("latent") | {"golden.z", "golden.latent16", "golden.stream"}
    check_names(tensors, shapes.keys() | others)
    check_shapes(tensors, shapes)
