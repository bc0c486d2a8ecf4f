"""Checkpoints: what was exported is read, what does not fit is named, and machines are tried on a golden vector."""

import copy
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.dicm.bitstream import Bitstream
from framevault.codecs.dicm.checkpoint import GoldenVector, check_golden, export_tensors, read_tensors
from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.video_checkpoint import read_video, video_names
from framevault.codecs.entropy.integer import IntConv2d
from framevault.codecs.entropy.latents import NUM_SCALES
from framevault.codecs.entropy.tables import FrequencyTables
from framevault.codecs.errors import CheckpointError, GoldenMismatchError
from framevault.codecs.spec import CODECS, CodecSpec
from tests.codecs.allocations import LargestTensor
from tests.codecs.dicm.toy import TOY_CONFIG, toy_entropy, toy_networks, toy_tables

Tensors = dict[str, Tensor]

ADVICE = r"Run on another device \(device: cpu\), or install the versions that framevault is pinned to"

GENEROUS_S = 0.25
"""The goal is 50 ms on two cores with nothing else to do, and it takes a tenth of that: this is for a busy machine."""

REFUSED_IN_CPU_S = 1.0
"""The goal is a tenth of it. CPU time, not wall time: the test may share its cores."""


@pytest.fixture
def stored(toy_path: Path) -> tuple[Tensors, dict[str, object]]:
    """The toy's tensors and configuration, to be spoilt."""
    return load_checkpoint(toy_path, codec="dicm")


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


def load_spoilt(folder: Path, tensors: Tensors, config: dict[str, object]) -> DicmCodec:
    path = folder / "spoilt.safetensors"
    save_checkpoint(path, tensors, codec="dicm", config=config)
    return load_dicm(CodecSpec(name="dicm", weights=str(path), bitstream_version=1))


def test_what_is_exported_is_what_is_read(stored: tuple[Tensors, dict[str, object]]) -> None:
    tensors, config = stored
    networks, bitstream, golden = read_tensors(tensors, config)

    assert networks.config == TOY_CONFIG
    for name, tensor in networks.state_dict().items():
        assert torch.equal(tensor, tensors[f"networks.{name}"])
    layers = {name: layer for name, layer in bitstream.networks.named_modules() if isinstance(layer, IntConv2d)}
    assert len(layers) == 2 + 3 * len(TOY_CONFIG.slices)
    for name, layer in layers.items():
        for part, tensor in zip(("weight", "bias", "shift"), layer.to_integers(), strict=True):
            assert torch.equal(tensor, tensors[f"entropy.{name}.{part}"])
            assert tensor.dtype == tensors[f"entropy.{name}.{part}"].dtype
    for kind, tables in (("hyper", bitstream.hyper_tables), ("latent", bitstream.latent_tables)):
        for part, tensor in zip(("cumulative", "lengths", "offsets"), tables.to_tensors(), strict=True):
            assert torch.equal(tensor, tensors[f"tables.{kind}.{part}"])
    assert golden.stream == bytes(tensors["golden.stream"].tolist())


def test_the_same_models_export_the_same_bytes(toy_path: Path, tmp_path: Path) -> None:
    of_z, of_y = toy_tables()
    tensors, config = export_tensors(toy_networks(), toy_entropy(), hyper_tables=of_z, latent_tables=of_y)
    save_checkpoint(tmp_path / "again.safetensors", tensors, codec="dicm", config=config)

    assert (tmp_path / "again.safetensors").read_bytes() == toy_path.read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "networks.g_a.0.weight",
        "networks.feature_mean",
        "entropy.expand_1.weight",
        "entropy.means.2.shift",
        "tables.hyper.offsets",
        "tables.latent.cumulative",
        "golden.z",
        "golden.stream",
    ],
)
def test_a_missing_tensor_is_named(tmp_path: Path, stored: tuple[Tensors, dict[str, object]], name: str) -> None:
    tensors, config = stored
    del tensors[name]

    with pytest.raises(CheckpointError, match=rf"spoilt\.safetensors does not fit .* missing: {name} \(1 in all\)"):
        load_spoilt(tmp_path, tensors, config)


@pytest.mark.parametrize("name", ["networks.h_s.0.weight", "entropy.expand_3.bias", "golden.y", "more"])
def test_an_unknown_tensor_is_named(tmp_path: Path, stored: tuple[Tensors, dict[str, object]], name: str) -> None:
    tensors, config = stored
    tensors[name] = torch.zeros(3)

    with pytest.raises(CheckpointError, match=rf"spoilt\.safetensors does not fit .* unknown: {name} \(1 in all\)"):
        load_spoilt(tmp_path, tensors, config)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "networks.g_a.0.weight",
            lambda t: t[:-1],
            r"networks\.g_a\.0\.weight must be \[8, 24, 3, 3\], got \[7, 24, 3, 3\] \(1 in all\)",
        ),
        ("networks.log_gain", lambda t: t.flatten(), r"networks\.log_gain must be \[8, 20\], got \[160\]"),
        ("networks.g_s.0.weight", lambda t: t * float("nan"), r"networks\.g_s\.0\.weight holds values that are no"),
        ("networks.feature_std", lambda t: t * float("inf"), r"networks\.feature_std holds values that are no numbers"),
        (
            "entropy.expand_1.weight",
            lambda t: t[:, :-1],
            r"entropy\.expand_1\.weight must be \[384, 6, 3, 3\], got \[384, 5, 3, 3\]",
        ),
        ("entropy.scales.1.weight", lambda t: t.float(), r"entropy\.scales\.1: .* got \[torch\.float32"),
        ("entropy.contexts.0.weight", lambda t: t * 0 + 3000, r"entropy\.contexts\.0: weights must be at most 2047"),
        ("entropy.means.0.bias", lambda t: t * 0 - 2**30, r"entropy\.means\.0: .* sums below 2\^24"),
        ("entropy.means.0.shift", lambda t: t * 0, r"entropy\.means\.0: shifts must be 1 to 20"),
        ("tables.hyper.cumulative", lambda t: t.flip(1), r"tables\.hyper: frequency table 0 must"),
        ("tables.hyper.lengths", lambda t: t[:-1], r"tables\.hyper: frequency tables must be int32"),
        ("tables.latent.cumulative", lambda t: t.double(), r"tables\.latent: frequency tables must be int32"),
        ("golden.z", lambda t: t[:, :-1], r"golden\.z must be torch\.int32 \[1, 6, 2, 2\], got .* \[1, 5, 2, 2\]"),
        ("golden.latent16", lambda t: t[0, 0, 0], r"golden\.latent16 must be torch\.int32 \[1, 20, 7, 5\]"),
        ("golden.latent16", lambda t: t.float() / 3, r"golden\.latent16 must be .* got torch\.float32"),
        ("golden.stream", lambda t: t.int(), r"golden\.stream must be torch\.uint8"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    tmp_path: Path,
    stored: tuple[Tensors, dict[str, object]],
    name: str,
    change: Callable[[Tensor], Tensor],
    message: str,
) -> None:
    tensors, config = stored
    tensors[name] = change(tensors[name])

    with pytest.raises(CheckpointError, match=rf"(?s)spoilt\.safetensors does not fit the dicm codec: .*{message}"):
        load_spoilt(tmp_path, tensors, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent": 19}, r"slices must be positive and sum up to the latent's 19, got \(3, 5, 12\)"),
        ({"slices": "3, 5, 12"}, "slices must be a list of whole numbers, got '3, 5, 12'"),
        ({"hyper": 6.0}, r"hyper must be a whole number, got 6\.0"),
        ({"wide": True}, "wide must be a whole number, got True"),
        ({"depth": 4}, "'depth'"),
        ({"hyper": 7}, r"h_a\.2\.weight|expand_1"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(
    tmp_path: Path, stored: tuple[Tensors, dict[str, object]], change: dict[str, object], message: str
) -> None:
    tensors, config = stored

    with pytest.raises(CheckpointError, match=rf"(?s)spoilt\.safetensors does not fit the dicm codec: .*({message})"):
        load_spoilt(tmp_path, tensors, {**config, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wide": 65_536}, r"networks\.g_a\.0\.bias must be \[65536\], got \[8\]; "),
        ({"wide": 10**6}, "wide must be 1 to 65536, got 1000000"),
        ({"wide": 10**18, "deep": 10**18}, f"wide must be 1 to 65536, got {10**18}"),
        ({"wide": 0}, "wide must be 1 to 65536, got 0"),
        ({"context": 65_536}, r"entropy\.contexts\.0\.bias must be \[65536\], got \[8\]; "),
        ({"slices": [65_517, 1, 1, 17], "latent": 65_536}, "tensors are missing: entropy.contexts.3.bias"),
        ({"slices": [256, 1, 65_279], "latent": 65_536}, r"entropy\.contexts\.0\.weight must be \[8, 65536, 1, 1\]"),
        ({"slices": [1] * 65_536, "latent": 65_536}, "the number of slices must be 1 to 128, got 65536"),
        ({"slices": [1] * 128, "latent": 128}, r"tensors are missing: entropy\.contexts\.10\.bias, .* \(1125 in all\)"),
        ({"hyper": 10**6}, "hyper must be 1 to 65536, got 1000000"),
        ({"temporal": 65_536}, r"tensors are missing: .*golden\.video\.latent16"),
        ({"temporal": 10**9}, "temporal must be 0 to 65536, got 1000000000"),
        ({"skip_below": -1}, "skip_below must be 0 to 65536, got -1"),
    ],
)
def test_sizes_that_the_file_has_no_tensors_for_cost_nothing(
    tmp_path: Path, stored: tuple[Tensors, dict[str, object]], change: dict[str, object], message: str
) -> None:
    tensors, config = stored
    start = time.process_time()

    with (
        LargestTensor() as largest,
        pytest.raises(CheckpointError, match=rf"spoilt\.safetensors does not fit the dicm codec: .*{message}"),
    ):
        load_spoilt(tmp_path, tensors, {**config, **change})

    assert time.process_time() - start < REFUSED_IN_CPU_S
    assert largest.size_bytes <= 8 * max(tensor.numel() for tensor in tensors.values())


def test_a_file_of_a_kilobyte_costs_nothing(tmp_path: Path, stored: tuple[Tensors, dict[str, object]]) -> None:
    widths = dict.fromkeys(("wide", "deep", "latent", "hyper", "context", "temporal"), 65536)
    config = {**stored[1], **widths, "slices": [65_409, *[1] * 127], "blocks": "hornet", "backbone": "resnet50"}

    with LargestTensor() as largest, pytest.raises(CheckpointError, match=r"missing: entropy\.contexts\.0\.bias, "):
        load_spoilt(tmp_path, {}, config)

    assert largest.size_bytes < 1000


@pytest.mark.parametrize("kind", ["hyper", "latent"])
def test_wrong_numbers_of_tables_are_refused(
    tmp_path: Path, stored: tuple[Tensors, dict[str, object]], kind: str
) -> None:
    tensors, config = stored
    for part in ("cumulative", "lengths", "offsets"):
        tensors[f"tables.{kind}.{part}"] = tensors[f"tables.{kind}.{part}"][:-1].contiguous()
    expected = {"hyper": TOY_CONFIG.hyper, "latent": NUM_SCALES}[kind]

    with pytest.raises(CheckpointError, match=rf"tables\.{kind} must hold {expected} tables, got {expected - 1}"):
        load_spoilt(tmp_path, tensors, config)


def test_wrong_numbers_of_tables_are_refused_at_export_too() -> None:
    of_z, of_y = toy_tables()
    with pytest.raises(ValueError, match=r"tables\.hyper must hold 6 tables, got 64"):
        export_tensors(toy_networks(), toy_entropy(), hyper_tables=of_y, latent_tables=of_z)


def test_weights_that_cannot_be_made_exact_are_named_at_export() -> None:
    of_z, of_y = toy_tables()
    entropy = toy_entropy()
    with torch.no_grad():
        entropy.get_parameter("contexts.1.conv.weight")[2].fill_(1e6)

    with pytest.raises(ValueError, match=r"layer contexts\.1: the weights of output channel 2 are too large"):
        export_tensors(toy_networks(), entropy, hyper_tables=of_z, latent_tables=of_y)


def test_the_golden_vector_has_escapes_and_skipped_latents(stored: tuple[Tensors, dict[str, object]]) -> None:
    """So that all of the coder is tried."""
    _, bitstream, golden = read_tensors(*stored)
    symbols = bitstream.find_symbols(golden.latent16_nchw / 16, golden.z_nchw)

    for residual, index in symbols.slices:
        tables = bitstream.latent_tables
        above = residual - (tables.offsets + tables.lengths - 2)[index]
        escapes = (index >= bitstream.skip_below) & ((residual < tables.offsets[index]) | (above >= 0))
        assert escapes.sum() > 5
    assert sum(int((index < bitstream.skip_below).sum()) for _, index in symbols.slices) > 5


def shifted_table(tables: FrequencyTables) -> FrequencyTables:
    """Move one boundary of each table that has one by one."""
    cumulative = tables.cumulative.copy()
    movable = (tables.lengths > 2) & (cumulative[:, 2] - cumulative[:, 1] > 1)
    cumulative[movable, 1] += 1
    assert movable.any()
    return dataclasses.replace(tables, cumulative=cumulative)


def in_bfloat16(bitstream: Bitstream) -> Bitstream:
    """Round weights as a matrix unit for bfloat16 would."""
    networks = copy.deepcopy(bitstream.networks)
    for layer in networks.modules():
        if isinstance(layer, IntConv2d):
            layer.weight.copy_(layer.weight.bfloat16())
    return dataclasses.replace(bitstream, networks=networks)


def with_sums_one_off(bitstream: Bitstream) -> Bitstream:
    """Make every sum of the last layers one too large, as rounding might."""
    networks = copy.deepcopy(bitstream.networks)
    for layer in networks.means.modules():
        if isinstance(layer, IntConv2d):
            layer.bias.add_(1)
    return dataclasses.replace(bitstream, networks=networks)


FAULTS: dict[str, Callable[[Bitstream], Bitstream]] = {
    "bfloat16 products": in_bfloat16,
    "sums one off": with_sums_one_off,
    "other tables of z": lambda b: dataclasses.replace(b, hyper_tables=shifted_table(b.hyper_tables)),
    "other tables of y": lambda b: dataclasses.replace(b, latent_tables=shifted_table(b.latent_tables)),
    "nothing skipped": lambda b: dataclasses.replace(b, skip_below=0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_machine_that_computes_otherwise_is_refused_with_advice(
    stored: tuple[Tensors, dict[str, object]], fault: str
) -> None:
    _, bitstream, golden = read_tensors(*stored)

    with pytest.raises(GoldenMismatchError, match=rf"(?s)golden vector of some\.file .* on device 'cpu' .* {ADVICE}"):
        check_golden(FAULTS[fault](bitstream), golden, name="some.file", device="cpu")


def test_one_weight_that_is_one_off_is_noticed(tmp_path: Path, stored: tuple[Tensors, dict[str, object]]) -> None:
    """In the layers of the means, mostly; elsewhere rounding may swallow it, and only the file's digest shows it."""
    tensors, config = stored
    weight_oikk = tensors["entropy.means.2.weight"]
    noticed = 0

    for position in range(20):
        weight_oikk.view(-1)[position] += 1
        try:
            load_spoilt(tmp_path, tensors, config)
        except GoldenMismatchError:
            noticed += 1
        weight_oikk.view(-1)[position] -= 1

    assert noticed >= 10


def test_a_process_with_inexact_products_is_told_so(tmp_path: Path, stored: tuple[Tensors, dict[str, object]]) -> None:
    torch.set_float32_matmul_precision("medium")

    with pytest.raises(GoldenMismatchError, match=r"(?s)can't be coded .*set_float32_matmul_precision\('highest'\)"):
        load_spoilt(tmp_path, *stored)


def test_a_stream_that_this_machine_decodes_otherwise_is_refused(stored: tuple[Tensors, dict[str, object]]) -> None:
    _, bitstream, golden = read_tensors(*stored)
    latent16_nchw = golden.latent16_nchw + 16
    other = GoldenVector(
        z_nchw=golden.z_nchw,
        latent16_nchw=golden.latent16_nchw,
        stream=bitstream.encode(latent16_nchw / 16, golden.z_nchw)[0],
    )

    with pytest.raises(GoldenMismatchError, match="encodes to another stream"):
        check_golden(bitstream, other, name="file", device="cpu")


def test_a_damaged_golden_stream_is_a_mismatch(tmp_path: Path, stored: tuple[Tensors, dict[str, object]]) -> None:
    tensors, config = stored
    tensors["golden.stream"] = tensors["golden.stream"][:-100].contiguous()

    with pytest.raises(GoldenMismatchError, match=rf"(?s)spoilt\.safetensors can't be coded .* {ADVICE} .*ends early"):
        load_spoilt(tmp_path, tensors, config)


def test_trying_a_machine_on_the_shipped_checkpoint_takes_no_time() -> None:
    """Best of five, frames by themselves, predicted and moved ones: a worker does it once at its start."""
    tensors, config_json = load_checkpoint(CodecSpec(name="dicm").checkpoint_path or Path(), codec="dicm")
    config = DicmConfig.from_json(config_json)
    alone = {name: tensor for name, tensor in tensors.items() if name not in video_names(config)}
    _, bitstream, golden = read_tensors(alone, config_json)
    video = read_video(tensors, config, bitstream)
    seconds = []

    for _ in range(5):
        start = time.perf_counter()
        check_golden(bitstream, golden, name="shipped", device="cpu")
        video.check(name="shipped", device="cpu")
        seconds.append(time.perf_counter() - start)

    assert min(seconds) < GENEROUS_S


def test_the_shipped_checkpoint_fits_its_row() -> None:
    tensors, _ = load_checkpoint(Path(CodecSpec(name="dicm").checkpoint_path or ""), codec="dicm")

    assert CODECS["dicm"].checkpoint is not None
    assert {name.split(".")[0] for name in tensors} == {
        "networks",
        "entropy",
        "temporal",
        "motion",
        "tables",
        "golden",
    }
