"""What a checkpoint holds for video mode, beside what `checkpoint.py` reads and writes for single frames.

| names | what they hold |
| --- | --- |
| `temporal.<layer>.weight`, `.bias`, `.shift` | integer networks of predicted frames: int16, int32, uint8 |
| `tables.flags` | how likely a position is coded, for each context: int32 [512] |
| `golden.video.latent16` | decoded latents of two small frames, the second predicted: int32 [2, M, 7, 5] |
| `golden.video.streams`, `golden.video.lengths` | their streams, one after the other (uint8), and lengths (int32 [2]) |
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from framevault.codecs.checkpoint import check_names, check_shapes
from framevault.codecs.dicm.bitstream import Bitstream
from framevault.codecs.dicm.checkpoint import GOLDEN_GRID
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.golden_streams import GoldenVideo, check_golden_video, golden_tensors, read_golden
from framevault.codecs.dicm.layouts import MOTION_VERSION, VIDEO_LAYOUTS, VIDEO_VERSION
from framevault.codecs.dicm.motion import Motion
from framevault.codecs.dicm.motion_checkpoint import export_motion, motion_names, read_motion
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.temporal_model import TemporalNetworks
from framevault.codecs.dicm.video import SegmentState, VideoBitstream
from framevault.codecs.entropy.integer import IntConv2d, layer_shapes, layer_tensors, load_layers
from framevault.codecs.entropy.quantisation import convert
from framevault.codecs.entropy.tables import FlagTable
from framevault.codecs.hollow import allocate, build_hollow

_OTHERS = {"tables.flags", "golden.video.latent16", "golden.video.lengths", "golden.video.streams"}


class StoredVideo(NamedTuple):
    """What a checkpoint holds for video mode."""

    bitstream: VideoBitstream
    """Codes frames of version 2; with another layout, of others."""
    golden: GoldenVideo
    """Two small frames, the second predicted."""
    golden_motion: GoldenVideo | None = None
    """Three small frames, the second and third moved; None if the checkpoint has nothing for it."""

    def to(self, device: str) -> "StoredVideo":
        """Return it on a device; the networks themselves go there."""
        self.bitstream.networks.to(device)
        motion = self.bitstream.motion
        return self._replace(bitstream=replace(self.bitstream, motion=None if motion is None else motion.to(device)))

    def check(self, *, name: str, device: str) -> None:
        """Decode the golden frames, and compare; see `golden_streams.check_golden_video`."""
        check_golden_video(self.bitstream, self.golden, name=name, device=device)
        if self.golden_motion is not None:
            moving = replace(self.bitstream, layout=VIDEO_LAYOUTS[MOTION_VERSION])
            check_golden_video(moving, self.golden_motion, name=name, device=device)


def export_video(
    bitstream: Bitstream,
    config: DicmConfig,
    temporal: TemporalNetworks,
    flag_table: FlagTable,
    *,
    motion: Motion | None = None,
) -> dict[str, Tensor]:
    """Return the tensors of video mode, with those of moved frames if there are any.

    Args:
        bitstream: The same checkpoint's single frames.
        config: The checkpoint's.
        temporal: The trained networks, of `RoundedConv2d`.
        flag_table: Counted after training.
        motion: On the CPU, of as many channels as the configuration says; None where it says none.

    Raises:
        ValueError: The networks' weights can't be made exact; names the layer.
    """
    assert config.motion == (0 if motion is None else motion.num_channels)
    running = TemporalNetworks(config, IntConv2d)
    convert(temporal, running)
    layout = VIDEO_LAYOUTS[VIDEO_VERSION]
    video = VideoBitstream(intra=bitstream, networks=running, flag_table=flag_table, layout=layout)
    golden = _make_golden(video, config)
    return {
        **layer_tensors(running, "temporal"),
        "tables.flags": flag_table.to_tensor(),
        **golden_tensors("golden.video", golden),
        **({} if motion is None else export_motion(video, config, motion)),
    }


def video_names(config: DicmConfig) -> set[str]:
    """Return the names of all tensors of video mode, with those of moved frames; none without it."""
    if config.temporal == 0:
        return set()
    return layer_shapes(_build_hollow(config), "temporal").keys() | _OTHERS | motion_names(config)


def read_video(tensors: Mapping[str, Tensor], config: DicmConfig, bitstream: Bitstream) -> StoredVideo:
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
    video = VideoBitstream(
        intra=bitstream,
        networks=running,
        flag_table=FlagTable.from_tensor(tensors["tables.flags"]),
        layout=VIDEO_LAYOUTS[VIDEO_VERSION],
    )
    golden = read_golden("golden.video", tensors, config, num_frames=2)
    if not config.motion:
        return StoredVideo(video, golden)
    motion, golden_motion = read_motion(tensors, config)
    return StoredVideo(replace(video, motion=motion), golden, golden_motion)


def _build_hollow(config: DicmConfig) -> TemporalNetworks:
    return build_hollow(lambda: TemporalNetworks(config, IntConv2d))


def _make_golden(video: VideoBitstream, config: DicmConfig) -> GoldenVideo:
    """Code a frame of random latents, and one in which some positions differ."""
    random = torch.Generator().manual_seed(20251122)
    y_nmhw = 4 * torch.randn(2, config.latent, GOLDEN_GRID.height, GOLDEN_GRID.width, generator=random)
    y_nmhw[1, :, :, 1:] = y_nmhw[0, :, :, 1:]
    z_nchw = torch.zeros(2, config.hyper, GOLDEN_GRID.hyper_height, GOLDEN_GRID.hyper_width)
    streams = tuple(video.encode(SegmentState(), y_nmhw, z_nchw, rule=SkipRule(most_coded=1.1)))
    assert [video.is_intra(stream) for stream in streams] == [True, False]
    return GoldenVideo(latent16_nmhw=video.decode(SegmentState(), streams, GOLDEN_GRID, device="cpu"), streams=streams)
