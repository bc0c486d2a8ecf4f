"""Codes clips as the encoder of video mode does, with gradients for its networks.

The first frame is rounded. Each later one is coded against what was decoded of the one before: which positions are, and
what is left of it, follows the encoder's rule; the bits are those of the real symbols.

Letters in shapes: M latent channels, m those of one slice, h and w positions of the latent grid, P coded positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from framevault.codecs.dicm.skipping import SkipRule, find_changes, round_to_zero
from framevault.codecs.dicm.temporal_model import TemporalNetworks, change_of, gather_neighbourhoods
from framevault.codecs.entropy.densities import SMALLEST_LIKELIHOOD, scale_of
from framevault.codecs.entropy.latents import MEAN_STEPS
from framevault.codecs.entropy.tables import BoolArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodedClip:
    """What coding a clip takes."""

    bits: Tensor
    """Of all coded positions of all frames but the first; a scalar with the networks' gradient."""
    flags: tuple[BoolArray, ...]
    """Which positions of each frame but the first are coded, bool [h, w]."""


def code_clip(networks: TemporalNetworks, latents_nmhw: Tensor, *, rule: SkipRule, num_slices: int) -> CodedClip:
    """Code the frames of a clip, scaled latents [N, M, h, w], one against the other.

    The channels of slices that predicted frames don't hold stay what they were in the first frame.
    """
    slices = list(networks.slices[:num_slices])
    num_kept = sum(slices)
    bits = latents_nmhw.new_zeros(())
    flags: list[BoolArray] = []
    previous16_mhw = MEAN_STEPS * torch.round(latents_nmhw[0])
    for y_mhw in latents_nmhw[1:]:
        coded_hw = find_changes(y_mhw[:num_kept], previous16_mhw[:num_kept], rule=rule)
        flags.append(coded_hw.cpu().numpy())
        positions = torch.nonzero(coded_hw.flatten())[:, 0]
        if len(positions):
            frame_bits, latent16_mp = _code_frame(
                networks, y_mhw, previous16_mhw, coded_hw, positions, rule=rule, slices=slices
            )
            bits = bits + frame_bits
            flat = previous16_mhw.flatten(1).clone()
            flat[:num_kept, positions] = latent16_mp
            previous16_mhw = flat.reshape(y_mhw.shape)
    return CodedClip(bits=bits, flags=tuple(flags))


def _code_frame(
    networks: TemporalNetworks,
    y_mhw: Tensor,
    previous16_mhw: Tensor,
    coded_hw: Tensor,
    positions: Tensor,
    *,
    rule: SkipRule,
    slices: list[int],
) -> tuple[Tensor, Tensor]:
    """Return the bits of a frame's coded positions, and what is decoded there, in sixteenths [sum of slices, P]."""
    phi = networks.phi(gather_neighbourhoods(previous16_mhw, coded_hw, positions))
    num_kept = sum(slices)
    y_parts = torch.split(y_mhw[:num_kept].flatten(1)[:, positions], slices)
    previous_parts = torch.split(previous16_mhw[:num_kept].flatten(1)[:, positions], slices)
    bits, earlier, decoded = y_mhw.new_zeros(()), [], []  # type: tuple[Tensor, list[Tensor], list[Tensor]]
    for number, (y_mp, previous16_mp) in enumerate(zip(y_parts, previous_parts, strict=True)):
        index, change16 = networks.parameters_of(number, phi, earlier)
        mean_mp = (previous16_mp + change16[0, :, 0]) * (1 / MEAN_STEPS)
        residual_mp = round_to_zero(y_mp - mean_mp, dead_zone=rule.dead_zone).detach()
        bits = bits + _bits(residual_mp, mean_mp, scale_of(index[0, :, 0])).sum()
        latent16_mp = (MEAN_STEPS * (residual_mp + mean_mp)).detach()
        earlier.append(change_of(latent16_mp[None, :, None], previous16_mp[None, :, None]))
        decoded.append(latent16_mp)
    return bits, torch.cat(decoded)


def _bits(symbol_mp: Tensor, mean_mp: Tensor, scale_mp: Tensor) -> Tensor:
    """Return the bits of symbols; the means get the gradient that moving the symbols the other way would give."""
    x_mp = (symbol_mp - mean_mp + mean_mp.detach()).abs()
    root_mp = scale_mp * 2**0.5
    # From the upper tail, where differences of small numbers stay exact.
    mass_mp = (torch.erfc((x_mp - 0.5) / root_mp) - torch.erfc((x_mp + 0.5) / root_mp)) / 2
    return -torch.log2(mass_mp.clamp_min(SMALLEST_LIKELIHOOD))
