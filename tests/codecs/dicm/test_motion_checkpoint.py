"""What a checkpoint holds for moved frames: what does not fit is named, and a machine is tried on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.dicm.layouts import MOVED, VIDEO_LAYOUTS
from framevault.codecs.entropy.coder import SymbolDecoder
from framevault.codecs.errors import CheckpointError, GoldenMismatchError
from framevault.codecs.spec import CodecSpec
from tests.codecs.allocations import LargestTensor
from tests.golden.content import DICM_WEIGHTS, MOTION_WEIGHTS

Tensors = dict[str, Tensor]


@pytest.fixture
def stored() -> tuple[Tensors, dict[str, object]]:
    """The tensors and configuration of the smallest checkpoint that has maps, to be spoilt."""
    return load_checkpoint(MOTION_WEIGHTS, codec="dicm")


def load_spoilt(folder: Path, tensors: Tensors, config: dict[str, object], *, version: int = 9) -> None:
    path = folder / "spoilt.safetensors"
    save_checkpoint(path, tensors, codec="dicm", config=config)
    load_dicm(CodecSpec(name="dicm", weights=str(path), bitstream_version=version))


@pytest.mark.parametrize("version", [1, 2, 9, 13])
def test_what_is_not_spoilt_is_read(tmp_path: Path, stored: tuple[Tensors, dict[str, object]], version: int) -> None:
    load_spoilt(tmp_path, *stored, version=version)


@pytest.mark.parametrize("path", [MOTION_WEIGHTS, CodecSpec(name="dicm").checkpoint_path])
def test_the_golden_frames_move_twice(path: Path) -> None:
    tensors, _ = load_checkpoint(path, codec="dicm")
    lengths = tensors["golden.motion.lengths"].tolist()
    streams = [part.numpy().tobytes() for part in torch.split(tensors["golden.motion.streams"], lengths)]

    kind_table = VIDEO_LAYOUTS[9].kind_table
    kinds = [int(SymbolDecoder(stream).pull(np.zeros(1, np.uint8), kind_table)[0]) for stream in streams]

    assert kinds == [1, MOVED, MOVED]


@pytest.mark.parametrize("name", ["motion.maps", "tables.moved", "tables.choices", "golden.motion.streams"])
def test_a_missing_tensor_is_named(tmp_path: Path, stored: tuple[Tensors, dict[str, object]], name: str) -> None:
    tensors, config = stored
    del tensors[name]

    with pytest.raises(CheckpointError, match=rf"spoilt\.safetensors does not fit .* missing: {name} \(1 in all\)"):
        load_spoilt(tmp_path, tensors, config)


def test_maps_that_the_configuration_does_not_know_are_named(
    tmp_path: Path, stored: tuple[Tensors, dict[str, object]]
) -> None:
    tensors, config = stored

    with pytest.raises(CheckpointError, match=r"spoilt\.safetensors does not fit .*golden\.motion"):
        load_spoilt(tmp_path, tensors, {**config, "motion": 0})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("motion.maps", lambda t: t[:-1], r"motion\.maps must be torch\.int8 \[64, 5, 45\], got .* \[63, 5, 45\]"),
        ("motion.maps", lambda t: t.short(), r"motion\.maps must be torch\.int8 .*, got torch\.int16"),
        ("tables.moved", lambda t: t[:-1], r"flag probabilities must be int32 \[512\], got int32 \(511,\)"),
        ("tables.choices", lambda t: 0 * t, r"flag probability of context 0 must be in 1\.\.65535, got 0"),
        (
            "golden.motion.latent16",
            lambda t: t[:2],
            r"golden\.motion\.latent16 must be .* \[3, 8, 7, 5\], got .* \[2, 8,",
        ),
        ("golden.motion.lengths", lambda t: t + 1, r"golden\.motion\.lengths must sum up to the streams' \d+ bytes"),
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


def test_more_channels_than_the_file_has_maps_for_cost_nothing(
    tmp_path: Path, stored: tuple[Tensors, dict[str, object]]
) -> None:
    tensors, config = stored

    with (
        LargestTensor() as largest,
        pytest.raises(CheckpointError, match=r"motion\.maps must be torch\.int8 \[64, 8, 72\], got .* \[64, 5, 45\]"),
    ):
        load_spoilt(tmp_path, tensors, {**config, "motion": 8})

    assert largest.size_bytes <= 8 * max(tensor.numel() for tensor in tensors.values())


@pytest.mark.parametrize("motion", [9, -1, 2.5, True])
def test_channels_that_can_not_be_carried_are_refused(
    tmp_path: Path, stored: tuple[Tensors, dict[str, object]], motion: object
) -> None:
    tensors, config = stored

    with pytest.raises(CheckpointError, match=rf"spoilt\.safetensors does not fit .*motion must be .*, got {motion}"):
        load_spoilt(tmp_path, tensors, {**config, "motion": motion})


@pytest.mark.parametrize("version", [1, 2, 9, 13])
def test_a_machine_that_carries_otherwise_is_refused(
    tmp_path: Path, stored: tuple[Tensors, dict[str, object]], version: int
) -> None:
    """Whatever it is to be used for."""
    tensors, config = stored
    tensors["motion.maps"] = tensors["motion.maps"] // 2

    with pytest.raises(GoldenMismatchError, match=r"the golden video of .*spoilt\.safetensors "):
        load_spoilt(tmp_path, tensors, config, version=version)


def test_a_checkpoint_from_before_is_read_and_moves_nothing() -> None:
    codec = load_dicm(CodecSpec(name="dicm", weights=str(DICM_WEIGHTS)))

    assert codec.video is not None
    assert codec.video.motion is None
    assert not codec.video.has_moved_frames
