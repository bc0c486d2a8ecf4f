"""What a checkpoint holds for video mode: what does not fit is named, before anything large is made."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.errors import CheckpointError
from framevault.codecs.spec import CodecSpec
from tests.codecs.allocations import LargestTensor

Tensors = dict[str, Tensor]

REFUSED_IN_CPU_S = 1.0
"""The goal is a tenth of it. CPU time, not wall time: the test may share its cores."""


@pytest.fixture
def stored() -> tuple[Tensors, dict[str, object]]:
    """The tensors and configuration of the smallest checkpoint that has video mode, to be spoilt."""
    return load_checkpoint(Path(__file__).parents[2] / "golden" / "dicm.safetensors", codec="dicm")


def load_spoilt(folder: Path, tensors: Tensors, config: dict[str, object]) -> None:
    path = folder / "spoilt.safetensors"
    save_checkpoint(path, tensors, codec="dicm", config=config)
    load_dicm(CodecSpec(name="dicm", weights=str(path)))


def test_what_is_not_spoilt_is_read(tmp_path: Path, stored: tuple[Tensors, dict[str, object]]) -> None:
    load_spoilt(tmp_path, *stored)


@pytest.mark.parametrize("name", ["temporal.temporal.shift", "tables.flags", "golden.video.lengths"])
def test_a_missing_tensor_is_named(tmp_path: Path, stored: tuple[Tensors, dict[str, object]], name: str) -> None:
    tensors, config = stored
    del tensors[name]

    with pytest.raises(CheckpointError, match=rf"spoilt\.safetensors does not fit .* missing: {name} \(1 in all\)"):
        load_spoilt(tmp_path, tensors, config)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "temporal.contexts.0.weight",
            lambda t: t[:-1],
            r"temporal\.contexts\.0\.weight must be \[4, 4, 1, 1\], got \[3, ",
        ),
        ("tables.flags", lambda t: t[:-1], r"flag probabilities must be int32 \[512\], got int32 \(511,\)"),
        (
            "golden.video.latent16",
            lambda t: t[:, :-1],
            r"golden\.video\.latent16 must be torch\.int32 \[2, 8, 7, 5\], got .* \[2, 7, 7, 5\]",
        ),
        (
            "golden.video.latent16",
            lambda t: t.repeat(1, 1, 100, 100),
            r"golden\.video\.latent16 must be .* \[2, 8, 7, 5\], got torch\.int32 \[2, 8, 700, 500\]",
        ),
        ("golden.video.latent16", lambda t: t.to(torch.int8), "latent16 must be torch.int32 .*, got torch.int8"),
        ("golden.video.lengths", lambda t: t.repeat(1000), r"golden\.video\.lengths must be .* \[2\], got .* \[2000\]"),
        ("golden.video.lengths", lambda t: t + 1, r"golden\.video\.lengths must sum up to the streams' \d+ bytes, got"),
        ("golden.video.lengths", lambda t: torch.stack([-t[:1], 2 * t[0:1] + t[1:]]).flatten(), "lengths must sum up"),
        ("golden.video.streams", lambda t: t[None], r"golden\.video\.streams must be torch\.uint8 \[\d+\], got"),
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

    with pytest.raises(CheckpointError, match=rf"spoilt\.safetensors does not fit the dicm codec: .*{message}"):
        load_spoilt(tmp_path, tensors, config)


def test_a_width_that_the_file_has_no_tensors_for_costs_nothing(
    tmp_path: Path, stored: tuple[Tensors, dict[str, object]]
) -> None:
    tensors, config = stored
    start = time.process_time()

    with (
        LargestTensor() as largest,
        pytest.raises(
            CheckpointError, match=r"temporal\.contexts\.0\.weight must be \[4, 65536, 1, 1\], got \[4, 4, 1, 1\]"
        ),
    ):
        load_spoilt(tmp_path, tensors, {**config, "temporal": 65_536})

    assert time.process_time() - start < REFUSED_IN_CPU_S
    assert largest.size_bytes <= 8 * max(tensor.numel() for tensor in tensors.values())
