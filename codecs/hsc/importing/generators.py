"""A generator of another project as ours: every tensor checked, its scale folded in, and stored in our own format."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.errors import CheckpointError
from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.domains import DOMAINS
from framevault.codecs.hsc.generator import Generator
from framevault.codecs.hsc.importing.files import MEAN_KEY, FileContent, name_some, read_content
from framevault.codecs.hsc.importing.layouts import (
    PREFIXES,
    GeneratorLayout,
    Rule,
    Sizes,
    find_layout,
    find_resolution,
    find_sizes,
    layout_rules,
)
from framevault.codecs.hsc.mapping import MappingNetwork
from framevault.codecs.hsc.modulated import BLUR_TAPS

CHECKPOINT_KIND = "hsc-generator"
"""What stands for the codec's name in a stored generator's metadata."""

FILTER_KEYS = re.compile(r".*\.(blur\.kernel|upsample\.kernel|resample_filter)")
"""Constant filters that other projects store; ours has them in its code."""

ADA_MEAN_KEY = "mapping.w_avg"
"""The mean style in the layout `ada`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeneratorParts:
    """A generator and what makes styles for it, on the CPU."""

    config: HscConfig
    """The domain's, with the generator's own channels and width of styles."""
    generator: Generator
    """Styles to pictures."""
    mapping: MappingNetwork
    """Random vectors to styles; its mean is set."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportedGenerator:
    """What came of an import."""

    parts: GeneratorParts
    """The networks."""
    layout: GeneratorLayout
    """How the file's keys are laid out."""
    unused: tuple[str, ...]
    """Keys of the file that are no part of a generator: an encoder's, a discriminator's, an optimiser's."""
    has_mean: bool
    """Whether the file had a mean style; else it was measured."""


def import_generator(path: Path, *, domain: str, layout: GeneratorLayout | None = None) -> ImportedGenerator:
    """Read a generator from another project's checkpoint.

    Args:
        path: torch's format, without code in it, or safetensors.
        domain: A key of `DOMAINS`, whose resolution the generator must have; its channels may differ.
        layout: Whose keys the file has; None finds out.

    Raises:
        CheckpointError: The file can't be read, or is not such a generator's: names every wrong key, or the resolution.
    """
    content = read_content(path)
    layout = layout or _detect(content, path)
    own, unused = _split(content, layout)
    config = _check_resolution(own, layout, domain=domain, path=path)
    _check_architecture(own, path)
    sizes = find_sizes(own, layout, config)
    tensors = _take(own, layout_rules(layout, sizes), prefix=PREFIXES[layout], path=path)
    tensors["mapping.mean"] = torch.zeros(sizes.style)
    parts = _build(tensors, sizes, config, path=path)
    mean = own.get(ADA_MEAN_KEY) if layout == "ada" else content.mean
    if mean is None:
        parts.mapping.measure_mean()
    else:
        parts.mapping.mean.copy_(_one_style(mean, sizes.style, path))
    return ImportedGenerator(parts=parts, layout=layout, unused=unused, has_mean=mean is not None)


def save_generator(parts: GeneratorParts, path: Path) -> None:
    """Store a generator in our own format, float32; `load_generator` reads it."""
    tensors = {f"generator.{name}": tensor for name, tensor in parts.generator.state_dict().items()}
    tensors |= {f"mapping.{name}": tensor for name, tensor in parts.mapping.state_dict().items()}
    save_checkpoint(path, tensors, codec=CHECKPOINT_KIND, config=dataclasses.asdict(parts.config))


def load_generator(path: Path) -> GeneratorParts:
    """Read what `save_generator` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, or something else.
    """
    tensors, config_json = load_checkpoint(path, codec=CHECKPOINT_KIND)
    try:
        config = HscConfig.from_json(config_json)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has a configuration that can't be read: {error}") from error
    pattern = re.compile(r"mapping\.layers\.\d+\.weight")
    widths = tuple(tensor.shape[-1] for name, tensor in sorted(tensors.items()) if pattern.fullmatch(name))
    sizes = Sizes(channels=config.channels, style=config.style, mapping_widths=widths)
    return _build(tensors, sizes, config, path=path)


def _detect(content: FileContent, path: Path) -> GeneratorLayout:
    layout = find_layout(content.tensors)
    if layout is None:
        raise CheckpointError(
            f"{path} must have keys as rosinality's (conv1.conv.weight), pSp's and e4e's (decoder.conv1.conv.weight), "
            f"or stylegan2-ada's (synthesis.b4.conv1.weight), got {name_some(sorted(content.tensors))}; beside them "
            f"{name_some(list(content.others)) or 'nothing'}"
        )
    return layout


def _split(content: FileContent, layout: GeneratorLayout) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the generator's tensors without prefix, and the names of what is not its."""
    prefix = PREFIXES[layout]
    own = {key.removeprefix(prefix): value for key, value in content.tensors.items() if key.startswith(prefix)}
    return own, (*(key for key in content.tensors if not key.startswith(prefix)), *content.others)


def _check_resolution(own: Mapping[str, Tensor], layout: GeneratorLayout, *, domain: str, path: Path) -> HscConfig:
    if domain not in DOMAINS:
        raise CheckpointError(f"domain must be one of {', '.join(DOMAINS)}, got {domain!r}")
    config = DOMAINS[domain]
    side = find_resolution(own, layout)
    if side != config.resolution:
        fitting = [name for name, row in DOMAINS.items() if row.resolution == side]
        raise CheckpointError(
            f"{path} makes pictures of {side} x {side} pixels, domain {domain!r} has {config.resolution} x "
            f"{config.resolution}; domains of {side}: {', '.join(fitting) or 'none'}"
        )
    return config


def _check_architecture(own: Mapping[str, Tensor], path: Path) -> None:
    """Refuse what would be another network with the same names."""
    if conditional := sorted(key for key in own if key.startswith("mapping.embed.")):
        raise CheckpointError(f"{path} is a generator with class labels, which can't be used: {name_some(conditional)}")
    if residual := sorted(key for key in own if re.fullmatch(r"synthesis\.b\d+\.skip\.weight", key)):
        raise CheckpointError(f"{path} is a generator of the residual kind, not with RGB skips: {name_some(residual)}")
    taps = torch.tensor(BLUR_TAPS)
    filter_kk = torch.outer(taps, taps) / taps.sum() ** 2
    for key, value in own.items():
        if not FILTER_KEYS.fullmatch(key):
            continue
        gain = 1.0 if key.endswith("resample_filter") else 4.0
        if value.shape != filter_kk.shape or not torch.allclose(value.float(), gain * filter_kk, atol=1e-5):
            raise CheckpointError(f"{path}: {key} must be the filter {list(BLUR_TAPS)} both ways, got another")


def _take(own: Mapping[str, Tensor], rules: list[Rule], *, prefix: str, path: Path) -> dict[str, Tensor]:
    """Return our tensors, each in its shape of the file, scaled."""
    known = {rule.theirs for rule in rules} | {ADA_MEAN_KEY, MEAN_KEY}
    missing = [prefix + rule.theirs for rule in rules if rule.theirs not in own]
    unknown = [prefix + key for key in own if key not in known and not FILTER_KEYS.fullmatch(key)]
    found = [(rule, own[rule.theirs]) for rule in rules if rule.theirs in own]
    other = [
        f"{prefix}{rule.theirs} must be {list(rule.shape)}, is {list(value.shape)}"
        for rule, value in found
        if value.shape != rule.shape
    ]
    faulty = [prefix + rule.theirs for rule, value in found if not bool(torch.isfinite(value).all())]
    named = (("missing", missing), ("unknown", unknown), ("of another shape", other), ("no finite numbers", faulty))
    if problems := [f"{what}: {name_some(names)}" for what, names in named if names]:
        raise CheckpointError(f"{path} is no generator of this layout: {'; '.join(problems)}")
    return {rule.ours: rule.scale * value.float() for rule, value in found}


def _build(tensors: Mapping[str, Tensor], sizes: Sizes, config: HscConfig, *, path: Path) -> GeneratorParts:
    try:
        config = dataclasses.replace(config, channels=sizes.channels, style=sizes.style)
    except ValueError as error:
        raise CheckpointError(f"{path} does not fit the domain: {error}") from error
    if not sizes.mapping_widths:
        raise CheckpointError(f"{path} has no mapping network")
    generator = Generator(config)
    mapping = MappingNetwork(width=sizes.mapping_widths[0], style=sizes.style, depth=len(sizes.mapping_widths))
    _fill(generator, tensors, "generator.", path)
    _fill(mapping, tensors, "mapping.", path)
    return GeneratorParts(config=config, generator=generator.eval(), mapping=mapping.eval())


def _fill(module: torch.nn.Module, tensors: Mapping[str, Tensor], prefix: str, path: Path) -> None:
    """Give a network its tensors; their shapes may differ by ones."""
    state = module.state_dict()
    given = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if wrong := sorted(given.keys() ^ state.keys()):
        raise CheckpointError(f"{path}: tensors are missing or unknown: {name_some([prefix + key for key in wrong])}")
    for key, tensor in given.items():
        if tensor.numel() != state[key].numel() or not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{path}: {prefix}{key} must be {list(state[key].shape)} finite numbers, got {list(tensor.shape)}"
            )
        state[key] = tensor.reshape(state[key].shape)
    module.load_state_dict(state)


def _one_style(mean: Tensor, style: int, path: Path) -> Tensor:
    """Return the mean style [D] of a tensor that may repeat it for each layer."""
    rows = mean.detach().float().reshape(-1, mean.shape[-1] if mean.ndim else 1)
    if rows.shape[-1] != style or not bool(torch.isfinite(rows).all()):
        raise CheckpointError(f"{path}: the mean style must be {style} numbers, got {list(mean.shape)}")
    if not torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-5):
        raise CheckpointError(f"{path}: the mean style must be the same for all layers, they differ")
    return rows[0]
