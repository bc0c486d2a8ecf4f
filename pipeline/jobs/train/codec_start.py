"""What the stage `codec` begins with: networks of a checkpoint, or random ones, around a frozen backbone.

A checkpoint holds the integer form of the entropy models and tables instead of densities. The integers are exact values
of the trainable form; a density is fitted to the tables. What video mode has beside them is handed on as it is: any
integers decode, and those of networks that were a good start stay a good guess. So do its maps of motion, until those
of the codec that came of it are fitted (`motion_maps.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor, nn

from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.dicm.bitstream import Bitstream
from framevault.codecs.dicm.checkpoint import read_tensors
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.dicm.motion import Motion
from framevault.codecs.dicm.networks import DicmNetworks
from framevault.codecs.dicm.temporal_model import TemporalNetworks
from framevault.codecs.dicm.training import TrainedModels
from framevault.codecs.dicm.video_checkpoint import read_video, video_names
from framevault.codecs.entropy.integer import IntConv2d
from framevault.codecs.entropy.quantisation import RoundedConv2d
from framevault.codecs.entropy.tables import FlagTable, FrequencyTables
from framevault.codecs.errors import CheckpointError
from framevault.configs.train import TrainDicmJob
from framevault.pipeline.jobs.train.frozen_backbone import FrozenTail, make_backbone, start_path
from framevault.pipeline.jobs.train.stages import StageSetup

FIT_STEPS = 400
"""Steps that fit the density of z to a checkpoint's tables: a second, for 1e-4 bits a value."""

FIT_RATE = 0.05
"""Their learning rate; twice as much, and some end a twentieth of a bit off."""


HIDDEN_BIAS = 30.0
"""Of random networks' hidden layers."""

MIDDLE_SCALE = 31.0
"""Position in the table of scales where random networks begin: 2.6."""

SMALL_SCALE = 20.0
"""Where those of predicted frames begin: 0.8, as most of what is left is one step or none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoParts:
    """What a checkpoint has for frames that are coded against the frame before."""

    networks: TemporalNetworks
    """In the trainable form, with the integers' values."""
    flag_table: FlagTable
    """How likely positions are coded."""
    motion: Motion | None
    """What carries latents along, on the CPU; None if no frame is moved."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodecStart:
    """All that the stage begins with."""

    models: TrainedModels
    """On the CPU."""
    tail: FrozenTail
    """On the device."""
    knows_statistics: bool
    """Whether the networks' feature statistics are those of their head."""
    comparable: Path | None
    """The checkpoint that they come from, if its features are those that are trained."""
    video: VideoParts | None
    """What its video mode has; None without one, and with random networks."""


def make_start(setup: StageSetup[TrainDicmJob]) -> CodecStart:
    """Load or make networks and backbone.

    Raises:
        CheckpointError: A file is missing, damaged or another's; names it and the key.
    """
    job, path = setup.job, start_path(setup.job)
    if job.from_scratch or path is None:
        models, video = _random_models(DicmConfig.usual(job.architecture, blocks=job.blocks)), None
    else:
        stored = read_start(path)
        models, video = stored.models, stored.video
    backbone = make_backbone(setup)
    models.networks.head.load_state_dict(backbone.head.state_dict())
    models.networks.head.requires_grad_(False)
    is_known = backbone.is_starts and not job.from_scratch
    return CodecStart(
        models=models,
        tail=backbone.tail.to(setup.device, memory_format=torch.channels_last),  # type: ignore[call-overload]  # torch's stub lacks this form
        knows_statistics=is_known,
        comparable=path if is_known else None,
        video=video,
    )


def _random_models(config: DicmConfig) -> TrainedModels:
    entropy = EntropyNetworks(config, RoundedConv2d)
    spread_activations(entropy)
    return TrainedModels(networks=DicmNetworks(config), entropy=entropy, hyper=make_density(config.hyper))


@torch.no_grad()
def spread_activations(entropy: EntropyNetworks) -> None:
    """Give random networks activations within their range of 0 to 255, and scales in the middle of the table.

    Outside, rounding and clamping leave no gradient.
    """
    for layer in (entropy.expand_1, entropy.expand_2, *entropy.contexts):
        start_layer(layer, size=1.0, bias=HIDDEN_BIAS)
    # z is a few units large, hidden activations ten times that.
    start_layer(entropy.expand_1, size=HIDDEN_BIAS / 3, bias=HIDDEN_BIAS)
    start_ends(entropy.scales, entropy.means, scale=MIDDLE_SCALE)


@torch.no_grad()
def spread_temporal(networks: TemporalNetworks) -> None:
    """Give random networks of predicted frames activations within their range, and small scales: little changes."""
    for layer in (networks.temporal, *networks.contexts):
        start_layer(layer, size=1.0, bias=HIDDEN_BIAS)
    start_ends(networks.scales, networks.means, scale=SMALL_SCALE)


@torch.no_grad()
def start_ends(scales: Iterable[nn.Module], means: Iterable[nn.Module], *, scale: float) -> None:
    """Give the layers that end in scale indices and means small random weights, and a scale to begin with."""
    for layer in scales:
        start_layer(layer, size=0.1, bias=scale)
    for layer in means:
        start_layer(layer, size=0.05, bias=0.0)


@torch.no_grad()
def start_layer(layer: nn.Module, *, size: float, bias: float) -> None:
    """Give a layer random weights, times `size`, that keep its input's size, and a bias."""
    assert isinstance(layer, RoundedConv2d)
    assert layer.conv.bias is not None
    nn.init.kaiming_uniform_(layer.conv.weight, nonlinearity="linear")
    layer.conv.weight.mul_(size)
    nn.init.constant_(layer.conv.bias, bias)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredCodec:
    """A checkpoint's contents."""

    models: TrainedModels
    """In the trainable form."""
    bitstream: Bitstream
    """In the form that runs."""
    video: VideoParts | None
    """Its video mode; None without one."""


def read_start(path: Path) -> StoredCodec:
    """Read a checkpoint to train on from.

    Raises:
        CheckpointError: It is missing, damaged, or not of this codec.
    """
    tensors, config_json = load_checkpoint(path, codec="dicm")
    try:
        config = DicmConfig.from_json(config_json)
        of_video = video_names(config)
        networks, bitstream, _ = read_tensors({k: t for k, t in tensors.items() if k not in of_video}, config_json)
        video = read_video(tensors, config, bitstream).bitstream if of_video else None
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the dicm codec: {error}") from error
    entropy = EntropyNetworks(networks.config, RoundedConv2d)
    restore_floats(bitstream.networks, entropy)
    hyper = make_density(networks.config.hyper)
    fit_density(hyper, bitstream.hyper_tables)
    models = TrainedModels(networks=networks, entropy=entropy, hyper=hyper)
    if video is None:
        return StoredCodec(models=models, bitstream=bitstream, video=None)
    temporal = TemporalNetworks(config, RoundedConv2d)
    restore_floats(video.networks, temporal)
    parts = VideoParts(networks=temporal, flag_table=video.flag_table, motion=video.motion)
    return StoredCodec(models=models, bitstream=bitstream, video=parts)


def make_density(num_channels: int) -> EntropyBottleneck:
    """Return a density of so many channels that learns by gradients alone."""
    hyper = EntropyBottleneck(num_channels)
    # The quantiles are for compressai's own tables; nothing here is trained by them.
    hyper.quantiles.requires_grad_(False)
    return hyper


@torch.no_grad()
def restore_floats(running: nn.Module, trained: nn.Module) -> None:
    """Fill every `RoundedConv2d` of a network with what the `IntConv2d` of the same name computes."""
    layers = dict(running.named_modules())
    for name, layer in trained.named_modules():
        if isinstance(layer, RoundedConv2d):
            source = layers[name]
            assert isinstance(source, IntConv2d)
            assert layer.conv.bias is not None
            weight_oikk, bias_o, shift_o = source.to_integers()
            step_o = 2.0 ** -shift_o.double()
            layer.conv.weight.copy_(weight_oikk * step_o[:, None, None, None])
            layer.conv.bias.copy_(bias_o * step_o)


def fit_density(hyper: EntropyBottleneck, tables: FrequencyTables) -> float:
    """Train a density until its probabilities are those of the tables that were once made of one.

    Returns:
        What is left of the difference: bits that a value of z costs more on the average.
    """
    target_kl, symbols_kl, used_kl = _probabilities(tables)
    optimiser = torch.optim.Adam([p for p in hyper.parameters() if p.requires_grad], lr=FIT_RATE)
    entropy = float(-(target_kl * target_kl.clamp_min(1e-12).log2()).sum(dim=1).mean())
    excess = float("inf")
    for step in range(FIT_STEPS):
        for options in optimiser.param_groups:
            options["lr"] = FIT_RATE * (1 - step / FIT_STEPS)
        likelihood_k1l, _, _ = hyper._likelihood(symbols_kl[:, None])
        bits = -(target_kl * likelihood_k1l[:, 0].clamp_min(1e-9).log2() * used_kl).sum(dim=1).mean()
        optimiser.zero_grad()
        bits.backward()
        optimiser.step()
        excess = float(bits.detach()) - entropy
    return excess


def _probabilities(tables: FrequencyTables) -> tuple[Tensor, Tensor, Tensor]:
    """Return each table's probabilities, the symbols that they belong to, and 1 where there is a symbol; all [K, L]."""
    cumulative_kl, lengths_k, offsets_k = (tensor.double() for tensor in tables.to_tensors())
    # Boundaries 0..L-1; the last interval of a row escapes, and stands for no symbol.
    frequency_kl = cumulative_kl.diff(dim=1)
    position_l = torch.arange(frequency_kl.shape[1])
    used_kl = (position_l[None] < lengths_k[:, None] - 2).double()
    target_kl = frequency_kl * used_kl
    # A row of nothing but the escape has no symbols.
    target_kl = target_kl / target_kl.sum(dim=1, keepdim=True).clamp_min(1)
    return target_kl.float(), (offsets_k[:, None] + position_l).float(), used_kl.float()
