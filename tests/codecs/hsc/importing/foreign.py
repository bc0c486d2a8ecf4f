"""Generators as other projects store them, and their forwards from those tensors: scales applied as they run.

Each forward reads the keys and applies the scales by itself, as the projects' public sources do; the layers are those
of `plain_generator`. Letters in shapes: L styles of D values, H and W positions.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from framevault.codecs.hsc.generator import Generator
from framevault.codecs.hsc.mapping import MappingNetwork
from tests.codecs.hsc import plain_generator as plain

BLUR = (4 * plain.LOW_PASS).float()


def to_rosinality(generator: Generator, mapping: MappingNetwork) -> dict[str, Tensor]:
    """Store as rosinality's `g_ema`."""
    mine = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    theirs = {"input.input": mine["constant"]}
    for level in range(len(generator.config.channels)):
        names = [("conv1", "first")] if level == 0 else [
            (f"convs.{2 * level - 2}", f"blocks.{level - 1}.conv_up"),
            (f"convs.{2 * level - 1}", f"blocks.{level - 1}.conv"),
        ]  # fmt: skip
        for their, our in names:
            weight = mine[f"{our}.conv.weight"]
            theirs[f"{their}.conv.weight"] = weight[None] * (weight.shape[1] * 9) ** 0.5
            affine = mine[f"{our}.conv.affine.weight"]
            theirs[f"{their}.conv.modulation.weight"] = affine * affine.shape[1] ** 0.5
            theirs[f"{their}.conv.modulation.bias"] = mine[f"{our}.conv.affine.bias"]
            theirs[f"{their}.noise.weight"] = mine[f"{our}.noise_strength"][None]
            theirs[f"{their}.activate.bias"] = mine[f"{our}.bias"]
            number = sum(key.startswith("noises.") for key in theirs)
            theirs[f"noises.noise_{number}"] = mine[f"{our}.noise"]
            if our.endswith("conv_up"):
                theirs[f"{their}.conv.blur.kernel"] = BLUR
        their, our = ("to_rgb1", "first_rgb") if level == 0 else (f"to_rgbs.{level - 1}", f"blocks.{level - 1}.to_rgb")
        weight = mine[f"{our}.conv.weight"]
        theirs[f"{their}.conv.weight"] = weight[None] * weight.shape[1] ** 0.5
        affine = mine[f"{our}.conv.affine.weight"]
        theirs[f"{their}.conv.modulation.weight"] = affine * affine.shape[1] ** 0.5
        theirs[f"{their}.conv.modulation.bias"] = mine[f"{our}.conv.affine.bias"]
        theirs[f"{their}.bias"] = mine[f"{our}.bias"][None, :, None, None]
        if level > 0:
            theirs[f"{their}.upsample.kernel"] = BLUR
    for number, layer in enumerate(mapping.state_dict()[f"layers.{n}.weight"] for n in range(len(mapping.layers))):
        theirs[f"style.{number + 1}.weight"] = layer * layer.shape[1] ** 0.5 / 0.01
        theirs[f"style.{number + 1}.bias"] = mapping.state_dict()[f"layers.{number}.bias"] / 0.01
    return theirs


def to_ada(generator: Generator, mapping: MappingNetwork) -> dict[str, Tensor]:
    """Store as the state dict of stylegan2-ada-pytorch's `G_ema`."""
    mine = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    theirs = {"synthesis.b4.const": mine["constant"][0]}
    for level in range(len(generator.config.channels)):
        block, ours = f"synthesis.b{4 << level}", f"blocks.{level - 1}."
        names = [("conv1", "first")] if level == 0 else [("conv0", f"{ours}conv_up"), ("conv1", f"{ours}conv")]
        theirs[f"{block}.resample_filter"] = BLUR / 4
        for their, our in names:
            weight = mine[f"{our}.conv.weight"]
            # Of any size: filters are normalised as they run.
            theirs[f"{block}.{their}.weight"] = weight * (weight.shape[1] * 9) ** 0.5
            affine = mine[f"{our}.conv.affine.weight"]
            theirs[f"{block}.{their}.affine.weight"] = affine * affine.shape[1] ** 0.5
            theirs[f"{block}.{their}.affine.bias"] = mine[f"{our}.conv.affine.bias"]
            theirs[f"{block}.{their}.noise_const"] = mine[f"{our}.noise"][0, 0]
            theirs[f"{block}.{their}.noise_strength"] = mine[f"{our}.noise_strength"]
            theirs[f"{block}.{their}.bias"] = mine[f"{our}.bias"]
            theirs[f"{block}.{their}.resample_filter"] = BLUR / 4
        our = "first_rgb" if level == 0 else f"{ours}to_rgb"
        weight, affine = mine[f"{our}.conv.weight"], mine[f"{our}.conv.affine.weight"]
        theirs[f"{block}.torgb.weight"] = weight * weight.shape[1] ** 0.5
        theirs[f"{block}.torgb.affine.weight"] = affine * affine.shape[1] ** 0.5
        theirs[f"{block}.torgb.affine.bias"] = mine[f"{our}.conv.affine.bias"]
        theirs[f"{block}.torgb.bias"] = mine[f"{our}.bias"]
    for number in range(len(mapping.layers)):
        weight = mapping.state_dict()[f"layers.{number}.weight"]
        theirs[f"mapping.fc{number}.weight"] = weight * weight.shape[1] ** 0.5 / 0.01
        theirs[f"mapping.fc{number}.bias"] = mapping.state_dict()[f"layers.{number}.bias"] / 0.01
    theirs["mapping.w_avg"] = mapping.mean.clone()
    return theirs


def run_rosinality(state: Mapping[str, Tensor], styles_ld: Tensor) -> Tensor:
    """Return the picture [3, R, R] with the noises that are stored."""
    state = {name: tensor.double() for name, tensor in state.items()}
    styles_ld = styles_ld.double()

    def dense(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return torch.addmv(state[f"{name}.bias"], weight / weight.shape[1] ** 0.5, x)

    def styled(name: str, x_ihw: Tensor, style_d: Tensor, noise: int, *, up: bool = False) -> Tensor:
        weight = state[f"{name}.conv.weight"][0]
        return plain.layer(
            x_ihw,
            weight / (weight[0].numel()) ** 0.5,
            dense(f"{name}.conv.modulation", style_d),
            state[f"{name}.noise.weight"] * state[f"noises.noise_{noise}"][0, 0],
            state[f"{name}.activate.bias"],
            up=up,
        )

    def colours(name: str, x_ihw: Tensor, style_d: Tensor) -> Tensor:
        weight = state[f"{name}.conv.weight"][0]
        scale_i = dense(f"{name}.conv.modulation", style_d)
        return plain.to_rgb(x_ihw, weight / weight.shape[1] ** 0.5, scale_i, state[f"{name}.bias"].flatten())

    x_ihw = styled("conv1", state["input.input"][0], styles_ld[0], 0)
    skip_3hw = colours("to_rgb1", x_ihw, styles_ld[1])
    position = 1
    for number in range(len(styles_ld) // 2 - 1):
        x_ihw = styled(f"convs.{2 * number}", x_ihw, styles_ld[position], 2 * number + 1, up=True)
        x_ihw = styled(f"convs.{2 * number + 1}", x_ihw, styles_ld[position + 1], 2 * number + 2)
        skip_3hw = colours(f"to_rgbs.{number}", x_ihw, styles_ld[position + 2]) + plain.upsample(skip_3hw)
        position += 2
    return skip_3hw


def run_ada(state: Mapping[str, Tensor], styles_ld: Tensor) -> Tensor:
    """Return the picture [3, R, R], as with `noise_mode='const'`."""
    state = {name: tensor.double() for name, tensor in state.items()}
    styles = iter(styles_ld.double())

    def affine(name: str, style_d: Tensor) -> Tensor:
        weight = state[f"{name}.affine.weight"]
        return torch.addmv(state[f"{name}.affine.bias"], weight / weight.shape[1] ** 0.5, style_d)

    def synthesis(name: str, x_ihw: Tensor, style_d: Tensor, *, up: bool = False) -> Tensor:
        noise_hw = state[f"{name}.noise_const"] * state[f"{name}.noise_strength"]
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return plain.layer(x_ihw, weight, affine(name, style_d), noise_hw, bias, up=up)

    def colours(name: str, x_ihw: Tensor, style_d: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        gain = weight.shape[1] ** -0.5
        return plain.to_rgb(x_ihw, weight, gain * affine(name, style_d), state[f"{name}.bias"])

    x_ihw = synthesis("synthesis.b4.conv1", state["synthesis.b4.const"], next(styles))
    shared_d = next(styles)
    image_3hw = colours("synthesis.b4.torgb", x_ihw, shared_d)
    side = 8
    while f"synthesis.b{side}.conv0.weight" in state:
        x_ihw = synthesis(f"synthesis.b{side}.conv0", x_ihw, shared_d, up=True)
        x_ihw = synthesis(f"synthesis.b{side}.conv1", x_ihw, next(styles))
        shared_d = next(styles)
        image_3hw = plain.upsample(image_3hw) + colours(f"synthesis.b{side}.torgb", x_ihw, shared_d)
        side *= 2
    return image_3hw


def run_mapping(dense: Callable[[int], tuple[Tensor, Tensor]], z_z: Tensor, *, depth: int) -> Tensor:
    """Return w [D] of one random vector; `dense` gives a layer's stored weight and bias."""
    x_d = z_z.double() / (z_z.double().square().mean() + 1e-8).sqrt()
    for number in range(depth):
        weight, bias = (tensor.double() for tensor in dense(number))
        x_d = (weight * 0.01 / weight.shape[1] ** 0.5) @ x_d + 0.01 * bias
        x_d = torch.where(x_d < 0, 0.2 * x_d, x_d) * 2**0.5
    return x_d
