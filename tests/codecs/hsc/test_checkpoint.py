"""Hsc's checkpoints: what was exported is read, what does not fit is named, machines are tried on a golden vector."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.entropy.densities import frequency_tables
from framevault.codecs.entropy.integer import layer_tensors
from framevault.codecs.entropy.tables import tables_from_pmf
from framevault.codecs.errors import CheckpointError, GoldenMismatchError
from framevault.codecs.hsc.checkpoint import HALF_FROM, check_golden, export_tensors, read_tensors, with_limits
from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.hsc.distortion import NO_LIMITS, DomainLimits
from framevault.codecs.hsc.domains import DOMAINS
from framevault.codecs.spec import CodecSpec
from tests.codecs.allocations import LargestTensor
from tests.codecs.hsc.toy import TOY_CONFIG, save_toy, toy_entropy, toy_networks, toy_tables

Tensors = dict[str, Tensor]

REFUSED_IN_CPU_S = 1.0
"""The goal is a tenth of it. CPU time, not wall time: the test may share its cores."""


@pytest.fixture
def stored(toy_hsc_path: Path) -> tuple[Tensors, dict[str, object]]:
    """The toy's tensors and configuration, to be spoilt."""
    return load_checkpoint(toy_hsc_path, codec="hsc")


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


def load_spoilt(folder: Path, tensors: Tensors, config: dict[str, object]) -> HscCodec:
    path = folder / "spoilt.safetensors"
    save_checkpoint(path, tensors, codec="hsc", config=config)
    return load_hsc(CodecSpec(name="hsc", weights=str(path)))


def test_what_is_exported_is_what_is_read(stored: tuple[Tensors, dict[str, object]]) -> None:
    tensors, config = stored
    parts = read_tensors(tensors, config)

    assert parts.networks.config == TOY_CONFIG
    for name, tensor in parts.networks.state_dict().items():
        if tensor.is_floating_point():
            assert torch.equal(tensor, tensors[f"networks.{name}"].float())
    assert layer_tensors(parts.bitstream.networks, "entropy").keys() <= tensors.keys()
    for name, tensor in layer_tensors(parts.bitstream.networks, "entropy").items():
        assert torch.equal(tensor, tensors[name])
    for kind, tables in (("core", parts.bitstream.core_tables), ("latent", parts.bitstream.latent_tables)):
        for part, tensor in zip(("cumulative", "lengths", "offsets"), tables.to_tensors(), strict=True):
            assert torch.equal(tensor, tensors[f"tables.{kind}.{part}"])
    assert parts.limits == NO_LIMITS
    assert parts.golden.stream == bytes(tensors["golden.stream"].tolist())


def test_only_large_tensors_are_stored_in_half_precision(stored: tuple[Tensors, dict[str, object]]) -> None:
    floats = {name: tensor for name, tensor in stored[0].items() if name.startswith("networks.")}

    assert {tensor.dtype for tensor in floats.values() if tensor.numel() >= HALF_FROM} == {torch.float16}
    assert {tensor.dtype for tensor in floats.values() if tensor.numel() < HALF_FROM} == {torch.float32}


def test_a_tensor_that_half_precision_can_not_hold_is_stored_as_it_is() -> None:
    networks, (of_core, of_y) = toy_networks(), toy_tables()
    with torch.no_grad():
        networks.inversion.styles.weight[0, 0] = 1e6

    tensors, _ = export_tensors(networks, toy_entropy(), core_tables=of_core, latent_tables=of_y)

    assert torch.equal(tensors["networks.inversion.styles.weight"], networks.inversion.styles.weight)


def test_the_same_models_export_the_same_bytes(toy_hsc_path: Path, tmp_path: Path) -> None:
    assert save_toy(tmp_path / "again.safetensors").read_bytes() == toy_hsc_path.read_bytes()


def test_a_trained_density_becomes_tables() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        of_core, of_y = frequency_tables(EntropyBottleneck(TOY_CONFIG.core))

    tensors, config = export_tensors(toy_networks(), toy_entropy(), core_tables=of_core, latent_tables=of_y)

    assert read_tensors(tensors, config).bitstream.core_tables.num_tables == TOY_CONFIG.core


def test_limits_can_be_set_later(stored: tuple[Tensors, dict[str, object]]) -> None:
    limits = DomainLimits(psnr_db=tuple(float(q) for q in range(8)), ssim=(0.5,) * 8)
    tensors, config = stored

    assert read_tensors(with_limits(tensors, limits), config).limits == limits


@pytest.mark.parametrize(
    "name",
    [
        "networks.inversion.stem.0.weight",
        "networks.generator.constant",
        "entropy.spread.weight",
        "entropy.means.2.shift",
        "tables.core.offsets",
        "tables.latent.cumulative",
        "limits.ssim",
        "golden.core",
        "golden.stream",
    ],
)
def test_a_missing_tensor_is_named(tmp_path: Path, stored: tuple[Tensors, dict[str, object]], name: str) -> None:
    tensors, config = stored
    del tensors[name]

    with pytest.raises(CheckpointError, match=rf"spoilt\.safetensors does not fit .* missing: {name} \(1 in all\)"):
        load_spoilt(tmp_path, tensors, config)


@pytest.mark.parametrize("name", ["networks.mapping.0.weight", "entropy.expand.bias", "golden.y", "more"])
def test_an_unknown_tensor_is_named(tmp_path: Path, stored: tuple[Tensors, dict[str, object]], name: str) -> None:
    tensors, config = stored
    tensors[name] = torch.zeros(3)

    with pytest.raises(CheckpointError, match=rf"spoilt\.safetensors does not fit .* unknown: {name} \(1 in all\)"):
        load_spoilt(tmp_path, tensors, config)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "networks.inversion.stem.0.weight",
            lambda t: t[:-1],
            r"networks\.inversion\.stem\.0\.weight must be \[4, 3, 3, 3\], got \[3, ",
        ),
        (
            "networks.feature_codec.log_gain",
            lambda t: t.flatten(),
            r"networks\.feature_codec\.log_gain must be \[8, 8\], got \[64\]",
        ),
        ("networks.generator.constant", lambda t: t * float("nan"), r"networks\.generator\.constant holds values that"),
        (
            "networks.generator.constant",
            lambda t: t.double(),
            r"constant must be torch\.float16 or torch\.float32, got",
        ),
        (
            "entropy.spread.weight",
            lambda t: t[:, :-1],
            r"entropy\.spread\.weight must be \[256, 17, 1, 1\], got \[256, 16, 1, 1\]",
        ),
        ("entropy.scales.1.weight", lambda t: t.float(), r"entropy\.scales\.1: .* got \[torch\.float32"),
        ("entropy.contexts.0.weight", lambda t: t * 0 + 3000, r"entropy\.contexts\.0: weights must be at most 2047"),
        ("entropy.means.0.bias", lambda t: t * 0 - 2**30, r"entropy\.means\.0: .* sums below 2\^24"),
        ("tables.core.cumulative", lambda t: t.flip(1), r"tables\.core: frequency table 0 must"),
        ("tables.core.lengths", lambda t: t[:-1], r"tables\.core: frequency tables must be int32"),
        ("limits.psnr_db", lambda t: t[:-1], r"limits\.psnr_db must be torch\.float32 \[8\], got .* \[7\]"),
        ("limits.ssim", lambda t: t * float("nan"), r"limits\.ssim holds values that are no numbers"),
        ("golden.core", lambda t: t[:, :-1], r"golden\.core must be torch\.int32 \[1, 9\], got .* \[1, 8\]"),
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

    with pytest.raises(CheckpointError, match=rf"(?s)spoilt\.safetensors does not fit the hsc codec: .*{message}"):
        load_spoilt(tmp_path, tensors, config)


def test_a_configuration_of_another_resolution_does_not_fit_its_tensors(
    tmp_path: Path, stored: tuple[Tensors, dict[str, object]]
) -> None:
    tensors, _ = stored
    larger = dataclasses.asdict(
        dataclasses.replace(TOY_CONFIG, resolution=128, split=16, channels=(*TOY_CONFIG.channels, 4))
    )

    with pytest.raises(CheckpointError, match=r"does not fit the hsc codec: tensors are missing: networks\.generator"):
        load_spoilt(tmp_path, tensors, larger)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"core": "9"}, "core must be a whole number"), ({"zebra": 1}, "zebra"), ({"resolution": 65}, "power of two")],
)
def test_a_configuration_that_is_none_is_refused(
    tmp_path: Path, stored: tuple[Tensors, dict[str, object]], change: dict[str, object], message: str
) -> None:
    tensors, config = stored

    with pytest.raises(CheckpointError, match=message):
        load_spoilt(tmp_path, tensors, {**config, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"body": [65_536] * 5}, r"networks\.inversion\.content\.0\.bias must be \[65536\], got \[6\]; "),
        ({"body": [4, 5, 6, 7, 10**6]}, "each of channels and body must be 1 to 65536, got 1000000"),
        ({"channels": [0] * 5}, "each of channels and body must be 1 to 65536, got 0"),
        ({"channels": [65_536] * 5}, r"networks\.generator\.blocks\.0\..* must be \[65536"),
        ({"style": 65_536}, r"networks\.generator\.blocks\..*\.affine\.weight must be \[\d, 65536\], got \[\d, 6\]"),
        ({"style_hidden": 10**12}, f"style_hidden must be 1 to 65536, got {10**12}"),
        ({"context": 65_536}, r"entropy\.contexts\.0\.bias must be \[65536\], got \[8\]"),
        ({"depths": [10**9, 2, 2, 2, 2]}, "the sum of depths must be 1 to 128, got 1000000008"),
        ({"depths": [120, 2, 2, 2, 2]}, r"tensors are missing: networks\.inversion\.stages\.0\.1\.body\.0\.bias, "),
        ({"body": [1] * 10**5, "depths": [1] * 10**5}, "the number of body must be 1 to 128, got 100000"),
        ({"slices": [1] * 10**6}, "the number of slices must be 1 to 128, got 1000000"),
        ({"slices": [1] * 128}, r"tensors are missing: entropy\.contexts\.10\.bias, "),
        ({"slices": [3, 1, 65_532]}, r"entropy\.means\.2\.bias must be \[65532\], got \[4\]"),
        ({"resolution": 2**40, "channels": [1] * 39}, f"resolution must be 1 to 4096, got {2**40}"),
        ({"resolution": 4096, "channels": [8] * 11, "shrink": 64}, r"tensors are missing: networks\.generator\.blocks"),
        ({"resolution": 512, "split": 32, "channels": [8] * 8, "shrink": 2}, "tensors are missing: networks"),
        ({"resolution": 4096, "split": 512, "channels": [8] * 11}, "split must be 1 to 64, got 512"),
        ({"core": 65_536}, r"entropy\.spread\.weight must be \[256, 65544, 1, 1\], got \[256, 17, 1, 1\]"),
        ({"skip_below": 2**70}, f"skip_below must be 0 to 65536, got {2**70}"),
    ],
)
def test_sizes_that_the_file_has_no_tensors_for_cost_nothing(
    tmp_path: Path, stored: tuple[Tensors, dict[str, object]], change: dict[str, object], message: str
) -> None:
    tensors, config = stored
    start = time.process_time()

    with (
        LargestTensor() as largest,
        pytest.raises(CheckpointError, match=rf"spoilt\.safetensors does not fit the hsc codec: .*{message}"),
    ):
        load_spoilt(tmp_path, tensors, {**config, **change})

    assert time.process_time() - start < REFUSED_IN_CPU_S
    assert largest.size_bytes <= 8 * max(tensor.numel() for tensor in tensors.values())


def test_a_file_of_a_kilobyte_costs_nothing(tmp_path: Path) -> None:
    config = {**dataclasses.asdict(DOMAINS["face"]), "wide": 65_536, "deep": 65_536, "channels": [65_536] * 9}

    with LargestTensor() as largest, pytest.raises(CheckpointError, match=r"missing: entropy\.contexts\.0\.bias, "):
        load_spoilt(tmp_path, {}, config)

    assert largest.size_bytes < 1000


def test_tables_that_make_streams_of_no_bytes_are_refused() -> None:
    """No bytes are another picture's stream."""
    _, of_y = toy_tables()
    certain = tables_from_pmf([[0.9]] * TOY_CONFIG.core, [0] * TOY_CONFIG.core)

    with pytest.raises(ValueError, match=r"tables\.core: the first interval of some table must be at most 4096 wide"):
        export_tensors(toy_networks(), toy_entropy(), core_tables=certain, latent_tables=of_y)


def test_tables_of_another_number_are_refused() -> None:
    of_core, of_y = toy_tables()
    two = tables_from_pmf([[0.01, 0.9]] * 2, [0, 0])

    with pytest.raises(ValueError, match=r"tables\.core must hold as many tables as divide the 9 core symbols, got 2"):
        export_tensors(toy_networks(), toy_entropy(), core_tables=two, latent_tables=of_y)
    with pytest.raises(ValueError, match=r"tables\.latent must hold 64 tables, got 9"):
        export_tensors(toy_networks(), toy_entropy(), core_tables=of_core, latent_tables=of_core)


def test_a_weight_that_is_one_off_is_noticed(tmp_path: Path, stored: tuple[Tensors, dict[str, object]]) -> None:
    tensors, config = stored
    tensors["entropy.means.2.weight"][0, 0] += 40

    with pytest.raises(GoldenMismatchError, match=r"(?s)golden vector of .*spoilt\.safetensors .* Run on another"):
        load_spoilt(tmp_path, tensors, config)


def test_a_stream_that_decodes_otherwise_is_refused(stored: tuple[Tensors, dict[str, object]]) -> None:
    parts = read_tensors(*stored)
    other = dataclasses.replace(parts.golden, core_nk=parts.golden.core_nk + 1)

    with pytest.raises(GoldenMismatchError, match="golden vector of file encodes to another stream"):
        check_golden(parts.bitstream, other, name="file", device="cpu")


def test_a_damaged_golden_stream_is_a_mismatch(tmp_path: Path, stored: tuple[Tensors, dict[str, object]]) -> None:
    tensors, config = stored
    tensors["golden.stream"] = tensors["golden.stream"][:-40].contiguous()

    with pytest.raises(GoldenMismatchError, match=r"(?s)spoilt\.safetensors can't be coded .*ends early"):
        load_spoilt(tmp_path, tensors, config)


def test_a_process_with_inexact_products_is_told_so(tmp_path: Path, stored: tuple[Tensors, dict[str, object]]) -> None:
    torch.set_float32_matmul_precision("medium")

    with pytest.raises(GoldenMismatchError, match=r"(?s)can't be coded .*set_float32_matmul_precision\('highest'\)"):
        load_spoilt(tmp_path, *stored)
