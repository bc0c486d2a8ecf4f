"""What each stage begins with: an earlier stage's networks, a checkpoint's, or random ones around a given generator.

| there is | networks |
| --- | --- |
| an earlier stage of this training | as it left them |
| `init`, or the shipped checkpoint and no `from_scratch` | the checkpoint's, its entropy model in the trainable form |
| else | random ones; the generator is that of `generator`, if it is given |
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.checkpoint_header import read_config
from framevault.codecs.entropy.quantisation import RoundedConv2d
from framevault.codecs.errors import CheckpointError
from framevault.codecs.hsc.checkpoint import read_tensors
from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.domains import DOMAINS
from framevault.codecs.hsc.entropy_model import HscEntropyNetworks
from framevault.codecs.hsc.importing.generators import CHECKPOINT_KIND as GENERATOR_KIND
from framevault.codecs.hsc.importing.generators import GeneratorParts, import_generator, load_generator
from framevault.codecs.hsc.mapping import MappingNetwork
from framevault.codecs.hsc.networks import HscNetworks
from framevault.codecs.hsc.training import TrainedModels
from framevault.codecs.spec import CodecSpec
from framevault.configs.train_hsc import USUAL_DOMAIN, TrainHscJob
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.codec_start import (
    HIDDEN_BIAS,
    MIDDLE_SCALE,
    fit_density,
    make_density,
    restore_floats,
    start_ends,
    start_layer,
)
from framevault.pipeline.jobs.train.stages import StageSetup

PARTS_CODEC = "hsc-parts"
"""Stands in a file where a codec's checkpoint has the codec's name: what stages before the codecs export."""

BATCHES_SEEN = "networks.inversion.stem.1.num_batches_tracked"
"""Tells a trained inversion encoder from a random one."""

STYLES_STD = 0.02
"""Of random weights before the styles: the first pictures are then nearly one picture, as the first core symbols are
nearly none."""

DIFFERENCE_STD = 0.01
"""Of random weights before f^ - F(S^): f^ begins as the generator's own feature."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HscStart:
    """All that a stage begins with, on the CPU."""

    models: TrainedModels
    """The codec's networks."""
    is_codec: bool
    """Whether they are a codec's that has been trained."""
    has_generator: bool
    """Whether at least the generator has been trained."""
    has_inversion: bool
    """Whether the inversion encoder has been trained."""
    others: Mapping[str, Tensor]
    """Tensors of networks that are no part of a codec, as `mapping.*`; empty where there are none."""
    path: Path | None
    """The checkpoint they come from; None if it is no codec's."""


def choose_sizes(job: TrainHscJob) -> HscConfig:
    """Return the sizes of the networks that are trained: the start's, the given generator's, or the settings'.

    Raises:
        CheckpointError: The start can't be read, is not of this codec, or of other sizes than the settings ask for.
        PreflightError: There is nothing to start from.
    """
    path, chosen = _start_path(job), job.chosen_sizes()
    if path is not None:
        stored = _read_sizes(path)
    elif job.generator is not None:
        path, stored = Path(job.generator), _read_generator(job).config
        if chosen is not None:
            # Other projects' generators have the domain's resolution, but widths of their own.
            chosen = replace(chosen, channels=stored.channels, style=stored.style)
    else:
        return chosen or DOMAINS[USUAL_DOMAIN]
    if chosen is not None and chosen != stored:
        raise CheckpointError(
            f"{path} has {_differences(stored, chosen)}: name another start (--init) or domain, or start from random "
            "networks (--from-scratch)"
        )
    return stored


def check_revival(job: TrainHscJob) -> None:
    """Check that channels that shall be revived can have fallen silent; of the settings, `TrainHscJob` checks it.

    Raises:
        PreflightError: The start is no codec.
    """
    if not job.revive or job.init is None or job.trained_stages[0] != "autoencoder":
        return
    if _kind(Path(job.init)) == PARTS_CODEC:
        raise PreflightError(
            f"revive: should be false where stage autoencoder starts from {job.init}, got true: it holds what a stage "
            "before the codecs exported, and revived are silent channels of a codec's checkpoint"
        )


def make_start(setup: StageSetup[TrainHscJob]) -> HscStart:
    """Load or make the networks of a stage.

    Raises:
        CheckpointError: A file is missing, damaged or another's; names it and the key.
        PreflightError: There is nothing to start from.
    """
    job = setup.job
    if setup.earlier:
        return _read_start(list(setup.earlier.values())[-1])
    if (path := _start_path(job)) is not None:
        return _read_start(path)
    models = random_models(choose_sizes(job))
    if job.generator is None:
        return HscStart(models=models, is_codec=False, has_generator=False, has_inversion=False, others={}, path=None)
    given = _read_generator(job)
    models.networks.generator.load_state_dict(given.generator.state_dict())
    others = {f"mapping.{name}": tensor for name, tensor in given.mapping.state_dict().items()}
    return HscStart(models=models, is_codec=False, has_generator=True, has_inversion=False, others=others, path=None)


def random_models(config: HscConfig) -> TrainedModels:
    """Return networks with random weights, their entropy model's activations within their range."""
    networks, entropy = HscNetworks(config), HscEntropyNetworks(config, RoundedConv2d)
    with torch.no_grad():
        for layer in (entropy.mix, *entropy.contexts):
            start_layer(layer, size=1.0, bias=HIDDEN_BIAS)
        # Core symbols are a few units large, hidden activations ten times that.
        start_layer(entropy.spread, size=HIDDEN_BIAS / 3, bias=HIDDEN_BIAS)
        start_ends(entropy.scales, entropy.means, scale=MIDDLE_SCALE)
        nn.init.normal_(networks.inversion.styles.weight, std=STYLES_STD)
        last = networks.feature_codec.merge[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.normal_(last.weight, std=DIFFERENCE_STD)
        nn.init.zeros_(last.bias)
    return TrainedModels(networks=networks, entropy=entropy, core=make_density(config.core))


def export_parts(path: Path, networks: HscNetworks, others: Mapping[str, Tensor]) -> None:
    """Write networks that are no codec yet, for the next stage: `networks.*`, and what else is given."""
    tensors = {f"networks.{name}": tensor for name, tensor in networks.state_dict().items()} | dict(others)
    on_cpu = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    save_checkpoint(path, on_cpu, codec=PARTS_CODEC, config=asdict(networks.config))


def make_mapping(others: Mapping[str, Tensor]) -> MappingNetwork | None:
    """Build the mapping network of a start, frozen; None if it has none."""
    prefix = "mapping."
    tensors = {name.removeprefix(prefix): t for name, t in others.items() if name.startswith(prefix)}
    if not tensors:
        return None
    style, width = tensors["layers.0.weight"].shape
    depth = sum(name.endswith("weight") for name in tensors)
    mapping = MappingNetwork(width=width, style=style, depth=depth)
    mapping.load_state_dict(tensors)
    return mapping.eval().requires_grad_(False)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Give a module the tensors of a file.

    Raises:
        CheckpointError: They are not the module's.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the {type(module).__name__} of this domain: {error}") from error


def _start_path(job: TrainHscJob) -> Path | None:
    """Return the file of ours that gives the networks; None for random ones, and for another project's generator."""
    if job.init is not None:
        return Path(job.init)
    if job.generator is not None:
        path = Path(job.generator)
        return path if _kind(path) == PARTS_CODEC else None
    if job.from_scratch:
        return None
    shipped = CodecSpec(name="hsc").checkpoint_path
    if shipped is None or not shipped.exists():
        raise PreflightError(
            "this installation ships no weights of codec 'hsc' to start from: name a checkpoint (--init) or a "
            "generator (--generator), or start from random networks (--from-scratch)"
        )
    return shipped


def _read_generator(job: TrainHscJob) -> GeneratorParts:
    """Read a generator that stands by itself: as `importing` stores it, or another project's."""
    path = Path(job.generator or "")
    if _kind(path) == GENERATOR_KIND:
        return load_generator(path)
    return import_generator(path, domain=job.domain or USUAL_DOMAIN).parts


def _differences(stored: HscConfig, chosen: HscConfig) -> str:
    mine, theirs = asdict(chosen), asdict(stored)
    return ", ".join(f"{name} {theirs[name]} instead of {mine[name]}" for name in mine if mine[name] != theirs[name])


def _read_sizes(path: Path) -> HscConfig:
    try:
        return HscConfig.from_json(read_config(path, codec=_kind(path)))
    except (TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} does not fit the hsc codec: {error}") from error


def _kind(path: Path) -> str:
    """Return what stands in a file as its codec; "hsc" for any other, of which `load_checkpoint` says what is wrong."""
    for kind in (PARTS_CODEC, GENERATOR_KIND):
        try:
            read_config(path, codec=kind)
        except CheckpointError:
            continue
        return kind
    return "hsc"


def _read_start(path: Path) -> HscStart:
    if _kind(path) == PARTS_CODEC:
        return _read_parts(path)
    tensors, config_json = load_checkpoint(path, codec="hsc")
    try:
        parts = read_tensors(tensors, config_json)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the hsc codec: {error}") from error
    entropy = HscEntropyNetworks(parts.networks.config, RoundedConv2d)
    restore_floats(parts.bitstream.networks, entropy)
    core = make_density(parts.networks.config.core)
    fit_density(core, parts.bitstream.core_tables)
    models = TrainedModels(networks=parts.networks, entropy=entropy, core=core)
    return HscStart(models=models, is_codec=True, has_generator=True, has_inversion=True, others={}, path=path)


def _read_parts(path: Path) -> HscStart:
    tensors, _ = load_checkpoint(path, codec=PARTS_CODEC)
    models = random_models(_read_sizes(path))
    own = {name.removeprefix("networks."): t for name, t in tensors.items() if name.startswith("networks.")}
    fill(models.networks, own, path=path)
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith("networks.")}
    # A stage after the encoder's counts the batches that its norms have seen.
    has_inversion = int(tensors[BATCHES_SEEN]) > 0
    return HscStart(
        models=models, is_codec=False, has_generator=True, has_inversion=has_inversion, others=others, path=None
    )
