"""A checkpoint's tensors <-> networks, integer entropy model, limits, and the golden vector to try a machine on.

| names | what they hold |
| --- | --- |
| `networks.*` | inversion encoder, style and feature codec, generator: float32; in float16 what has many values |
| `entropy.<layer>.weight`, `.bias`, `.shift` | integer networks: int16, int32, uint8 |
| `tables.<core, latent>.<cumulative, lengths, offsets>` | frequency tables: int32 |
| `limits.<psnr_db, ssim>` | what the domain's pictures reach at each quality: float32 [8] |
| `golden.core`, `golden.latent16`, `golden.stream` | a picture's symbols (int32) and its stream (uint8) |

Letters in shapes: K core symbols, M latent channels, g the side of the latent's grid.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.checkpoint import check_names, check_shapes, check_tensor
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
from framevault.codecs.hsc.bitstream import Bitstream
from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.distortion import NO_LIMITS, DomainLimits
from framevault.codecs.hsc.entropy_model import HscEntropyNetworks
from framevault.codecs.hsc.networks import NUM_QUALITIES, HscNetworks

HALF_FROM = 4096
"""Values from which a tensor is stored in float16: biases, gains and statistics stay exact at next to no cost."""

LARGEST_FIRST = 4096
"""Frequency that the first symbol may have in the table of some core symbol, at least one.

A state that only ever meets wider first intervals stays what it was, and such a picture's stream would have no bytes:
which stands for another picture.
"""

_MEASURES = ("psnr_db", "ssim")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenVector:
    """A picture whose stream is known."""

    core_nk: Tensor
    """Its core symbols, whole numbers in float32 [1, K]."""
    latent16_nmgg: Tensor
    """Its decoded latent in sixteenths, whole numbers in float32 [1, M, g, g]."""
    stream: bytes
    """What it is coded as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HscParts:
    """What a checkpoint describes, on the CPU."""

    networks: HscNetworks
    """The float networks."""
    bitstream: Bitstream
    """The integer part, at the highest quality, for which the golden vector is."""
    limits: DomainLimits
    """From where on a picture is outside the domain."""
    golden: GoldenVector
    """To try a machine on."""


def export_tensors(
    networks: HscNetworks,
    entropy: HscEntropyNetworks,
    *,
    core_tables: FrequencyTables,
    latent_tables: FrequencyTables,
    limits: DomainLimits = NO_LIMITS,
) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Return a checkpoint's tensors and configuration; `read_tensors` reads them.

    Args:
        networks: The trained networks.
        entropy: The trained entropy model, of `RoundedConv2d`.
        core_tables: Of core symbols; `densities.frequency_tables` makes both.
        latent_tables: Of y.
        limits: From where on a picture is outside the domain; `calibration.find_limits` measures them.

    Raises:
        ValueError: The entropy model's weights can't be made exact; names the layer.
    """
    config = networks.config
    running = HscEntropyNetworks(config, IntConv2d)
    convert(entropy, running)
    bitstream = _make_bitstream(config, running, core_tables, latent_tables)
    tensors = {f"networks.{name}": _stored(tensor.detach().cpu()) for name, tensor in _floats(networks).items()}
    tensors |= layer_tensors(running, "entropy")
    for kind, tables in (("core", core_tables), ("latent", latent_tables)):
        tensors |= table_tensors(kind, tables)
    golden = _make_golden(bitstream, config)
    tensors["golden.core"] = golden.core_nk.int()
    tensors["golden.latent16"] = golden.latent16_nmgg.int()
    tensors["golden.stream"] = torch.from_numpy(np.frombuffer(golden.stream, np.uint8).copy())
    return with_limits(tensors, limits), dataclasses.asdict(config)


def with_limits(tensors: Mapping[str, Tensor], limits: DomainLimits) -> dict[str, Tensor]:
    """Return a checkpoint's tensors with other limits."""
    return {**tensors, **{f"limits.{name}": torch.tensor(getattr(limits, name)) for name in _MEASURES}}


def read_tensors(tensors: Mapping[str, Tensor], config_json: Mapping[str, object]) -> HscParts:
    """Build what a checkpoint describes, on the CPU; nothing larger than the tensors is made unless they fit.

    Raises:
        KeyError, RuntimeError, TypeError, ValueError: Tensors are missing, unknown, of other shapes, no numbers, or so
            large that sums would be inexact; the message names one.
    """
    config = HscConfig.from_json(config_json)
    networks = build_hollow(lambda: HscNetworks(config))
    running = build_hollow(lambda: HscEntropyNetworks(config, IntConv2d))
    _check_tensors(networks, running, tensors)
    _load_floats(allocate(networks), tensors)
    load_layers(allocate(running), "entropy", tensors)
    return HscParts(
        networks=networks,
        bitstream=_make_bitstream(
            config,
            running,
            read_tables("core", tensors),
            read_tables("latent", tensors),
        ),
        limits=_read_limits(tensors),
        golden=_read_golden(tensors, config),
    )


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
    advice = (
        f"on device {device!r} with torch {torch.__version__}: what it encoded could not be decoded elsewhere. Run on "
        "another device (device: cpu), or install the versions that framevault is pinned to"
    )
    try:
        # The cause before the symptom: processors that have bfloat16 products then compute wrong sums, too.
        check_exact_matmul(torch.device(device))
        check_layers(bitstream.networks)
        (stream,) = bitstream.encode(golden.core_nk.to(device), (golden.latent16_nmgg / MEAN_STEPS).to(device))
        decoded = bitstream.decode([golden.stream], device=device)
    except (CodecError, RuntimeError) as error:
        raise GoldenMismatchError(f"the golden vector of {name} can't be coded {advice} ({error})") from error
    if stream != golden.stream:
        raise GoldenMismatchError(f"the golden vector of {name} encodes to another stream {advice}")
    if not (
        torch.equal(decoded.core_nk.cpu(), golden.core_nk)
        and torch.equal(decoded.latent16_nmgg.cpu(), golden.latent16_nmgg)
    ):
        raise GoldenMismatchError(f"the golden vector of {name} decodes to other symbols {advice}")


def _make_golden(bitstream: Bitstream, config: HscConfig) -> GoldenVector:
    """Code random symbols, with some so far off that they escape."""
    random = torch.Generator().manual_seed(20251123)
    core_nk = torch.round(3 * torch.randn(1, config.core, generator=random))
    core_nk[:, ::7] *= 60
    y_nmgg = 4 * torch.randn(1, config.latent, config.grid, config.grid, generator=random)
    y_nmgg[:, ::5] *= 30
    decoded = bitstream.decode(bitstream.encode(core_nk, y_nmgg), device="cpu")
    # Coded again from what was decoded: rounding a latent that lies on the grid has one result on every machine.
    (stream,) = bitstream.encode(core_nk, decoded.latent16_nmgg / MEAN_STEPS)
    return GoldenVector(core_nk=core_nk, latent16_nmgg=decoded.latent16_nmgg, stream=stream)


def _read_golden(tensors: Mapping[str, Tensor], config: HscConfig) -> GoldenVector:
    expected = {
        "core": (torch.int32, (1, config.core)),
        "latent16": (torch.int32, (1, config.latent, config.grid, config.grid)),
        "stream": (torch.uint8, (tensors["golden.stream"].numel(),)),
    }
    for part, (dtype, shape) in expected.items():
        check_tensor(f"golden.{part}", tensors[f"golden.{part}"], dtype=dtype, shape=shape)
    return GoldenVector(
        core_nk=tensors["golden.core"].float(),
        latent16_nmgg=tensors["golden.latent16"].float(),
        stream=tensors["golden.stream"].numpy().tobytes(),
    )


def _read_limits(tensors: Mapping[str, Tensor]) -> DomainLimits:
    for name in _MEASURES:
        limits = tensors[f"limits.{name}"]
        check_tensor(f"limits.{name}", limits, dtype=torch.float32, shape=(NUM_QUALITIES,))
        if not bool(torch.isfinite(limits).all()):
            raise ValueError(f"limits.{name} holds values that are no numbers")
    psnr_db, ssim = (tuple(tensors[f"limits.{name}"].tolist()) for name in _MEASURES)
    return DomainLimits(psnr_db=psnr_db, ssim=ssim)


def _make_bitstream(
    config: HscConfig,
    running: HscEntropyNetworks,
    core_tables: FrequencyTables,
    latent_tables: FrequencyTables,
) -> Bitstream:
    if latent_tables.num_tables != NUM_SCALES:
        raise ValueError(f"tables.latent must hold {NUM_SCALES} tables, got {latent_tables.num_tables}")
    if config.core % core_tables.num_tables:
        raise ValueError(
            f"tables.core must hold as many tables as divide the {config.core} core symbols, got "
            f"{core_tables.num_tables}"
        )
    if core_tables.cumulative[:, 1].min() > LARGEST_FIRST:
        raise ValueError(
            f"tables.core: the first interval of some table must be at most {LARGEST_FIRST} wide, so that no picture's "
            f"stream is empty, got {core_tables.cumulative[:, 1].min()} at least"
        )
    return Bitstream(
        networks=running,
        num_core=config.core,
        core_tables=core_tables,
        latent_tables=latent_tables,
        skip_below=config.skip_below,
        num_coded=len(config.slices),
        quality=NUM_QUALITIES,
    )


def _floats(networks: HscNetworks) -> dict[str, Tensor]:
    """Return all that is stored of the float networks: not the batch norms' counters."""
    return {name: tensor for name, tensor in networks.state_dict().items() if tensor.is_floating_point()}


def _stored(tensor: Tensor) -> Tensor:
    """Return a tensor as it is stored; one that float16 can't hold stays as it is."""
    half = tensor.half()
    return half if tensor.numel() >= HALF_FROM and bool(torch.isfinite(half).all()) else tensor.float()


def _load_floats(networks: HscNetworks, tensors: Mapping[str, Tensor]) -> None:
    state = networks.state_dict()
    for name in _floats(networks):
        tensor = tensors[f"networks.{name}"]
        if tensor.dtype not in (torch.float16, torch.float32):
            raise ValueError(f"networks.{name} must be torch.float16 or torch.float32, got {tensor.dtype}")
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"networks.{name} holds values that are no numbers")
        state[name] = tensor.float()
    networks.load_state_dict(state)


def _check_tensors(networks: HscNetworks, running: HscEntropyNetworks, tensors: Mapping[str, Tensor]) -> None:
    shapes = {f"networks.{name}": tuple(tensor.shape) for name, tensor in _floats(networks).items()}
    shapes |= layer_shapes(running, "entropy")
    others = table_names("core") | table_names("latent") | {f"limits.{name}" for name in _MEASURES}
    others |= {"golden.core", "golden.latent16", "golden.stream"}
    check_names(tensors, shapes.keys() | others)
    check_shapes(tensors, shapes)
