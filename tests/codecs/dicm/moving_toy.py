"""The toy with video mode and maps of motion, both random, and motion that no encoder would find.

Letters in shapes: C channels that are carried, h and w positions of the latent grid.
"""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.dicm.bitstream import Bitstream
from framevault.codecs.dicm.codec import DicmCodec
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.dicm.motion import LONGEST_VECTOR, STEPS, Motion, MotionField
from framevault.codecs.dicm.motion_checkpoint import export_motion
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.temporal_model import TemporalNetworks
from framevault.codecs.dicm.video import DecodedFrame, SegmentState
from framevault.codecs.dicm.video_checkpoint import export_video, read_video
from framevault.codecs.entropy.integer import IntConv2d
from framevault.codecs.entropy.quantisation import RoundedConv2d, convert
from framevault.codecs.entropy.tables import FlagTable
from tests.codecs.dicm.toy import TOY_CONFIG, random_latents, toy_entropy, toy_tables, toy_tensors

NUM_CARRIED = 7
"""C: all of the first slice, and some of the second."""


def save_video_toy(path: Path) -> Path:
    """Write a toy whose networks of predicted frames are random too."""
    tensors, config = _video_tensors()
    save_checkpoint(path, tensors, codec="dicm", config=asdict(config))
    return path


def save_moving_toy(path: Path) -> Path:
    """Write the same with maps, of which some make latents as large as they may be."""
    tensors, config = _video_tensors()
    video, _, _ = read_video(tensors, config, _intra(config))
    config = replace(config, motion=NUM_CARRIED)
    motion = export_motion(video, config, random_motion(NUM_CARRIED))
    save_checkpoint(path, {**tensors, **motion}, codec="dicm", config=asdict(config))
    return path


def _video_tensors() -> tuple[dict[str, Tensor], DicmConfig]:
    config = replace(TOY_CONFIG, temporal=6)
    tensors, _ = toy_tensors()
    random = torch.Generator().manual_seed(3)
    temporal = TemporalNetworks(config, RoundedConv2d)
    with torch.no_grad():
        for name, layer in temporal.named_modules():
            if isinstance(layer, RoundedConv2d):
                layer.conv.weight.normal_(0, 1.5 / layer.conv.weight[0].numel() ** 0.5, generator=random)
                assert layer.conv.bias is not None
                layer.conv.bias.normal_(0.0 if name.startswith("means") else 30.0, 10, generator=random)
    return {**tensors, **export_video(_intra(config), config, temporal, _random_flags(random))}, config


def _intra(config: DicmConfig) -> Bitstream:
    of_z, of_y = toy_tables()
    running = EntropyNetworks(config, IntConv2d)
    convert(toy_entropy(), running)
    return Bitstream(
        networks=running,
        hyper_tables=of_z,
        latent_tables=of_y,
        num_hyper_channels=config.hyper,
        skip_below=1,
        num_coded=len(config.slices),
    )


def _random_flags(random: torch.Generator) -> FlagTable:
    return FlagTable(probabilities=torch.randint(1, 65536, (512,), generator=random).int().numpy())


def random_motion(num_channels: int) -> Motion:
    """Return maps that mostly take over what is in the middle, and some of the largest and smallest numbers."""
    random = torch.Generator().manual_seed(5)
    maps = 6 * torch.randn(STEPS * STEPS, num_channels, num_channels, 9, generator=random)
    maps[:, range(num_channels), range(num_channels), 4] += 64
    maps[::7] *= 10
    maps[::9] *= 100
    maps = maps.round().clamp(-128, 127).flatten(2).to(torch.float64)
    return Motion(maps=maps, moved_table=_random_flags(random), choice_table=_random_flags(random))


def random_field(grid: LatentGrid, random: np.random.Generator, *, most_vectors: int) -> MotionField:
    """Return a field of vectors of all lengths, also of none, alike or unused; seldom nothing moves."""
    count = int(random.integers(1, most_vectors + 1))
    reach = random.choice([0, 5, 40, LONGEST_VECTOR], (count, 1))
    vectors_k2 = np.rint(reach * random.uniform(-1, 1, (count, 2))).astype(np.int32)
    number_hw = random.integers(1, count + 1, (grid.height, grid.width)).astype(np.uint8)
    number_hw[random.random(number_hw.shape) < random.random()] = 0
    return MotionField(vectors_k2=vectors_k2, number_hw=number_hw)


def random_segment(codec: DicmCodec, num_frames: int, *, grid: LatentGrid, seed: int) -> tuple[list[bytes], Tensor]:
    """Code frames of all kinds, the first an intra one, in which some positions change seldom and some always.

    Returns:
        Their streams, and what they decode to as the encoder has it: whole numbers in float32 [N, M, h, w].
    """
    assert codec.video is not None
    random = np.random.default_rng(seed)
    y_nchw, z_nchw = random_latents(codec.networks.config, num_frames, grid=grid, seed=seed)
    activity_hw = random.choice([0.05, 0.2, 1.0], (grid.height, grid.width))
    state, streams = SegmentState(), []
    latents: list[Tensor] = []
    for number in range(num_frames):
        kind = "intra" if number == 0 else random.choice(["intra", "predicted", "moved"], p=[0.1, 0.3, 0.6])
        is_active_hw = random.random(activity_hw.shape) < activity_hw
        device, motion = codec.spec.device, None
        latent16_mhw = (16 * y_nchw[number]).round().to(device)
        if kind != "intra":
            latent16_mhw = torch.where(torch.from_numpy(is_active_hw).to(device), latent16_mhw, latents[-1])
        if kind == "moved":
            motion = random_field(grid, random, most_vectors=codec.video.layout.most_vectors)
            motion = replace(motion, number_hw=np.where(is_active_hw, motion.number_hw, np.uint8(0)))
        frame = DecodedFrame(
            latent16_mhw=latent16_mhw,
            z_nchw=z_nchw[number : number + 1].to(device) if kind == "intra" else None,
            motion=motion,
        )
        # Some positions are left alone in one frame, most or none in others.
        gain = 10 ** random.uniform(-1, 8)
        rule = SkipRule(least_gain=gain, largest_change=1e9, moved_gain=gain, moved_change=1e9)
        streams.append(codec.video.encode_again(state, frame, rule=rule))
        assert state.latent16_mhw is not None
        latents.append(state.latent16_mhw)
    return streams, torch.stack(latents)
