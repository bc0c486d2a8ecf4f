"""How other projects name and scale a StyleGAN2 generator's tensors: tables from their keys to ours.

All of them store weights of unit variance and scale them as they run ("equalised learning rate", Karras et al., ICLR
2018, section 4.1): 1 / sqrt(inputs), and in the mapping network 0.01 on top. Ours are stored as they are used, so the
scale is folded in. Filters that are normalised afterwards would not need it; with it they are of one size in all
layouts. Key names: the public sources of rosinality/stylegan2-pytorch, eladrich/pixel2style2pixel,
omertov/encoder4editing and NVlabs/stylegan2-ada-pytorch. Letters in shapes: I and O channels, D width of a style, s the
side of a layer's output.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from framevault.codecs.hsc.config import HscConfig

GeneratorLayout = Literal["rosinality", "psp", "ada"]
"""Whose keys: `conv1.conv.weight`; the same below `decoder.`, as in pSp and e4e; `synthesis.b4.conv1.weight`."""

PREFIXES: dict[GeneratorLayout, str] = {"rosinality": "", "psp": "decoder.", "ada": ""}
"""What stands before each of the generator's keys."""

MAPPING_SCALE = 0.01
"""Of the mapping network's weights and biases: its learning rate over the others'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """From one of a file's tensors to one of ours."""

    theirs: str
    """Its key, without the layout's prefix."""
    ours: str
    """Ours: `generator.` or `mapping.` and the name in that network."""
    shape: tuple[int, ...]
    """Theirs; ours has the same values in the same order."""
    scale: float = 1.0
    """What it is multiplied with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a file's own keys and shapes say of its generator."""

    channels: tuple[int, ...]
    """At 4, 8, ... the picture's side."""
    style: int
    """D."""
    mapping_widths: tuple[int, ...]
    """Inputs of each layer of the mapping network."""


def find_layout(tensors: Mapping[str, Tensor]) -> GeneratorLayout | None:
    """Return how a file's keys are laid out; None if in none of the known ways."""
    if any(key.startswith("synthesis.b") for key in tensors):
        return "ada"
    if "conv1.conv.weight" in tensors:
        return "rosinality"
    return "psp" if any(key.startswith("decoder.") for key in tensors) else None


def find_resolution(tensors: Mapping[str, Tensor], layout: GeneratorLayout) -> int:
    """Return the side of the pictures that a generator with these keys, without prefix, makes; 0 if they tell none."""
    if layout == "ada":
        return max(
            (int(found[1]) for key in tensors if (found := re.match(r"synthesis\.b(\d{1,5})\.", key))), default=0
        )
    levels = [int(found[1]) for key in tensors if (found := re.match(r"to_rgbs\.(\d{1,2})\.", key))]
    return 8 << max(levels) if levels else 0


def find_sizes(tensors: Mapping[str, Tensor], layout: GeneratorLayout, config: HscConfig) -> Sizes:
    """Return the widths of a generator with these keys, without prefix; where keys are missing, the domain's."""
    is_ada = layout == "ada"
    biases = [
        (f"synthesis.b{4 << level}.conv1.bias" if is_ada else _rosinality_conv(level, second=True) + ".activate.bias")
        for level in range(len(config.channels))
    ]
    affine = "synthesis.b4.conv1.affine.weight" if is_ada else "conv1.conv.modulation.weight"
    pattern = re.compile(r"mapping\.fc(\d{1,2})\.weight" if is_ada else r"style\.(\d{1,2})\.weight")
    layers = sorted(int(found[1]) for key in tensors if (found := pattern.fullmatch(key)))
    style = _last_size(tensors, affine, default=config.style)
    return Sizes(
        channels=tuple(
            _last_size(tensors, key, default=width) for key, width in zip(biases, config.channels, strict=True)
        ),
        style=style,
        mapping_widths=tuple(
            _last_size(tensors, f"mapping.fc{number}.weight" if is_ada else f"style.{number}.weight", default=style)
            for number in layers
        ),
    )


def layout_rules(layout: GeneratorLayout, sizes: Sizes) -> list[Rule]:
    """Return where each of our tensors comes from, but the mean style."""
    return [*_ada(sizes)] if layout == "ada" else [*_rosinality(sizes)]


def _last_size(tensors: Mapping[str, Tensor], key: str, *, default: int) -> int:
    tensor = tensors.get(key)
    return default if tensor is None or tensor.ndim == 0 or tensor.numel() == 0 else tensor.shape[-1]


def _rosinality(sizes: Sizes) -> Iterator[Rule]:
    style, first = sizes.style, sizes.channels[0]
    yield Rule(theirs="input.input", ours="generator.constant", shape=(1, first, 4, 4))
    before = first
    for level, width in enumerate(sizes.channels):
        for is_second in (True,) if level == 0 else (False, True):
            theirs, ours = _rosinality_conv(level, second=is_second), _our_conv(level, second=is_second)
            inputs, side = width if is_second else before, 4 << level
            yield from _modulated(f"{theirs}.conv", f"{ours}.conv", (1, width, inputs, 3, 3), style, "modulation")
            yield Rule(theirs=f"{theirs}.noise.weight", ours=f"{ours}.noise_strength", shape=(1,))
            yield Rule(theirs=f"{theirs}.activate.bias", ours=f"{ours}.bias", shape=(width,))
            number = 0 if level == 0 else 2 * level - 1 + is_second
            yield Rule(theirs=f"noises.noise_{number}", ours=f"{ours}.noise", shape=(1, 1, side, side))
        theirs, ours = "to_rgb1" if level == 0 else f"to_rgbs.{level - 1}", _our_rgb(level)
        yield from _modulated(f"{theirs}.conv", f"{ours}.conv", (1, 3, width, 1, 1), style, "modulation")
        yield Rule(theirs=f"{theirs}.bias", ours=f"{ours}.bias", shape=(1, 3, 1, 1))
        before = width
    for number, inputs in enumerate(sizes.mapping_widths):
        # Number 0 is the normalisation.
        yield from _mapping_layer(f"style.{number + 1}", number, inputs, style)


def _ada(sizes: Sizes) -> Iterator[Rule]:
    style, first = sizes.style, sizes.channels[0]
    yield Rule(theirs="synthesis.b4.const", ours="generator.constant", shape=(first, 4, 4))
    before = first
    for level, width in enumerate(sizes.channels):
        block, side = f"synthesis.b{4 << level}", 4 << level
        for is_second in (True,) if level == 0 else (False, True):
            theirs, ours = f"{block}.conv{int(is_second)}", _our_conv(level, second=is_second)
            inputs = width if is_second else before
            yield from _modulated(theirs, f"{ours}.conv", (width, inputs, 3, 3), style, "affine")
            yield Rule(theirs=f"{theirs}.noise_strength", ours=f"{ours}.noise_strength", shape=())
            yield Rule(theirs=f"{theirs}.noise_const", ours=f"{ours}.noise", shape=(side, side))
            yield Rule(theirs=f"{theirs}.bias", ours=f"{ours}.bias", shape=(width,))
        yield from _modulated(f"{block}.torgb", f"{_our_rgb(level)}.conv", (3, width, 1, 1), style, "affine")
        yield Rule(theirs=f"{block}.torgb.bias", ours=f"{_our_rgb(level)}.bias", shape=(3,))
        before = width
    for number, inputs in enumerate(sizes.mapping_widths):
        yield from _mapping_layer(f"mapping.fc{number}", number, inputs, style)


def _modulated(theirs: str, ours: str, shape: tuple[int, ...], style: int, affine: str) -> Iterator[Rule]:
    inputs, side = shape[-3], shape[-1]
    yield Rule(theirs=f"{theirs}.weight", ours=f"{ours}.weight", shape=shape, scale=(inputs * side**2) ** -0.5)
    yield Rule(
        theirs=f"{theirs}.{affine}.weight", ours=f"{ours}.affine.weight", shape=(inputs, style), scale=style**-0.5
    )
    yield Rule(theirs=f"{theirs}.{affine}.bias", ours=f"{ours}.affine.bias", shape=(inputs,))


def _mapping_layer(theirs: str, number: int, inputs: int, style: int) -> Iterator[Rule]:
    ours, scale = f"mapping.layers.{number}", MAPPING_SCALE * inputs**-0.5
    yield Rule(theirs=f"{theirs}.weight", ours=f"{ours}.weight", shape=(style, inputs), scale=scale)
    yield Rule(theirs=f"{theirs}.bias", ours=f"{ours}.bias", shape=(style,), scale=MAPPING_SCALE)


def _rosinality_conv(level: int, *, second: bool) -> str:
    return "conv1" if level == 0 else f"convs.{2 * level - 2 + second}"


def _our_conv(level: int, *, second: bool) -> str:
    return "generator.first" if level == 0 else f"generator.blocks.{level - 1}.{'conv' if second else 'conv_up'}"


def _our_rgb(level: int) -> str:
    return "generator.first_rgb" if level == 0 else f"generator.blocks.{level - 1}.to_rgb"
