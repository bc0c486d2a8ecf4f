"""What a checkpoint holds for video mode, beside what `checkpoint.py` reads and writes for single frames.

| names | what they hold |
| --- | --- |
| `temporal.<layer>.weight`, `.bias`, `.shift` | integer networks of predicted frames: int16, int32, uint8 |
| `tables.flags` | how likely a position is coded, for each context: int32 [512] |
| `golden.video.latent16` | decoded latents of two small frames, the second predicted: int32 [2, M, 7, 5] |
| `golden.video.streams`, `golden.video.lengths` | their streams, one after the other (uint8), and lengths (int32 [2]) |
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.checkpoint import check_names, check_shapes, check_tensor
from framevault.codecs.dicm.bitstream import Bitstream
from framevault.codecs.dicm.checkpoint import GOLDEN_GRID
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.temporal_model import TemporalNetworks
from framevault.codecs.dicm.video import SegmentState, SkipRule, VideoBitstream, is_intra
from framevault.codecs.entropy.integer import IntConv2d, check_layers, layer_shapes, layer_tensors, load_layers
from framevault.codecs.entropy.quantisation import convert
from framevault.codecs.entropy.tables import FlagTable
from framevault.codecs.errors import CodecError, GoldenMismatchError
from framevault.codecs.hollow import allocate, build_hollow

_OTHERS = {"tables.flags", "golden.video.latent16", "golden.video.lengths", "golden.video.streams"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoldenVideo:
    """Two small frames whose streams are known."""

    latent16_nmhw: Tensor
    """Their decoded latents in sixteenths, whole numbers in float32 [2, M, 7, 5]."""
    streams: tuple[bytes, ...]
    """What they are coded as; the second is coded against the first."""


def export_video(
    bitstream: Bitstream, config: DicmConfig, temporal: TemporalNetworks, flag_table: FlagTable
) -> dict[str, Tensor]:
    """Return the tensors of video mode.

    Args:
        bitstream: The same checkpoint's single frames.
        config: The checkpoint's.
        temporal: The trained networks, of `RoundedConv2d`.
        flag_table: Counted after training.

    Raises:
        ValueError: The networks' weights can't be made exact; names the layer.
    """
    running = TemporalNetworks(config, IntConv2d)
    convert(temporal, running)
    video = VideoBitstream(intra=bitstream, networks=running, flag_table=flag_table)
    golden = _make_golden(video, config)
    return {
        **layer_tensors(running, "temporal"),
        "tables.flags": flag_table.to_tensor(),
        "golden.video.latent16": golden.latent16_nmhw.int(),
        "golden.video.lengths": torch.tensor([len(stream) for stream in golden.streams], dtype=torch.int32),
        "golden.video.streams": torch.from_numpy(np.frombuffer(b"".join(golden.streams), np.uint8).copy()),
    }


def video_names(config: DicmConfig) -> set[str]:
    """Return the names of all tensors of video mode; none without it."""
    if config.temporal == 0:
        return set()
    return layer_shapes(_build_hollow(config), "temporal").keys() | _OTHERS


def read_video(
    tensors: Mapping[str, Tensor], config: DicmConfig, bitstream: Bitstream
) -> tuple[VideoBitstream, GoldenVideo]:
    """Build what a checkpoint describes, on the CPU; nothing larger than the tensors is made unless they fit.

    Args:
        tensors: All of the checkpoint's.
        config: The checkpoint's, with video mode.
        bitstream: Of its single frames.

    Raises:
        RuntimeError, TypeError, ValueError: Tensors are missing, of other shapes, or so large that sums would be
            inexact; the message names one.
    """
    running = _build_hollow(config)
    shapes = layer_shapes(running, "temporal")
    names = shapes.keys() | _OTHERS
    check_names({name: tensor for name, tensor in tensors.items() if name in names}, names)
    check_shapes(tensors, shapes)
    load_layers(allocate(running), "temporal", tensors)
    video = VideoBitstream(intra=bitstream, networks=running, flag_table=FlagTable.from_tensor(tensors["tables.flags"]))
    return video, _read_golden(tensors, config)


def check_golden_video(video: VideoBitstream, golden: GoldenVideo, *, name: str, device: str) -> None:
    """Decode the golden frames, and compare.

    Args:
        video: On its device.
        golden: Of the same checkpoint.
        name: The checkpoint's, for messages.
        device: The torch device.

    Raises:
        GoldenMismatchError: Something else came out: what is encoded here could not be decoded elsewhere.
    """
    grid = LatentGrid(*golden.latent16_nmhw.shape[2:])
    try:
        check_layers(video.networks)
        decoded_nmhw = video.decode(SegmentState(), golden.streams, grid, device=device).cpu()
    except (CodecError, RuntimeError) as error:
        raise GoldenMismatchError(
            f"the golden video of {name} can't be decoded on device {device!r} with torch {torch.__version__}: {error}"
        ) from error
    if not torch.equal(decoded_nmhw, golden.latent16_nmhw):
        raise GoldenMismatchError(
            f"the golden video of {name} decodes to other symbols on device {device!r} with torch {torch.__version__}: "
            "what it encoded could not be decoded elsewhere. Run on another device (device: cpu), or install the "
            "versions that framevault is pinned to"
        )


def _build_hollow(config: DicmConfig) -> TemporalNetworks:
    return build_hollow(lambda: TemporalNetworks(config, IntConv2d))


def _make_golden(video: VideoBitstream, config: DicmConfig) -> GoldenVideo:
    """Code a frame of random latents, and one in which some positions differ."""
    random = torch.Generator().manual_seed(20251122)
    y_nmhw = 4 * torch.randn(2, config.latent, GOLDEN_GRID.height, GOLDEN_GRID.width, generator=random)
    y_nmhw[1, :, :, 1:] = y_nmhw[0, :, :, 1:]
    z_nchw = torch.zeros(2, config.hyper, GOLDEN_GRID.hyper_height, GOLDEN_GRID.hyper_width)
    streams = tuple(video.encode(SegmentState(), y_nmhw, z_nchw, rule=SkipRule(most_coded=1.1)))
    assert [is_intra(stream) for stream in streams] == [True, False]
    return GoldenVideo(latent16_nmhw=video.decode(SegmentState(), streams, GOLDEN_GRID, device="cpu"), streams=streams)


def _read_golden(tensors: Mapping[str, Tensor], config: DicmConfig) -> GoldenVideo:
    expected = {
        "latent16": (torch.int32, (2, config.latent, GOLDEN_GRID.height, GOLDEN_GRID.width)),
        "lengths": (torch.int32, (2,)),
        "streams": (torch.uint8, (tensors["golden.video.streams"].numel(),)),
    }
    for part, (dtype, shape) in expected.items():
        check_tensor(f"golden.video.{part}", tensors[f"golden.video.{part}"], dtype=dtype, shape=shape)
    payload = tensors["golden.video.streams"].numpy().tobytes()
    lengths = tensors["golden.video.lengths"].tolist()
    if min(lengths) < 0 or sum(lengths) != len(payload):
        raise ValueError(f"golden.video.lengths must sum up to the streams' {len(payload)} bytes, got {lengths}")
    starts = [0, *itertools.accumulate(lengths)]
    streams = tuple(payload[start:end] for start, end in itertools.pairwise(starts))
    return GoldenVideo(latent16_nmhw=tensors["golden.video.latent16"].float(), streams=streams)
