"""Directions from the generator's weights: what changes its features most, with no label.

Shen and Zhou, "Closed-Form Factorization of Latent Semantics in GANs" (SeFa), CVPR 2021, arXiv 2007.06600, equations 4
to 6: the steps n of unit length that change A n most, A the stacked weights of the styles' affine layers; they are the
first eigenvectors of A^T A. We differ in what a unit step is: one standard deviation of faces. The paper's latents vary
equally in all directions; decoded styles do not, and what A amplifies most is what faces never do. Letters in shapes:
N faces, L styles of D values, I channels that layers scale, K directions, M values of all styles of a face.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from framevault.codecs.hsc.generator import Generator, SynthesisBlock

LayerGroup = Literal["coarse", "middle", "fine"]
"""Resolutions of 4 and 8 pixels (shape and pose), of 16 and 32 (parts), of 64 and more (colours)."""

LAYER_GROUPS: tuple[LayerGroup, ...] = get_args(LayerGroup)
"""All groups."""

_LEVELS: dict[LayerGroup, range] = {"coarse": range(2), "middle": range(2, 4), "fine": range(4, 32)}


def style_numbers(num_styles: int, group: LayerGroup) -> tuple[int, ...]:
    """Return which of a picture's L styles belong to a group; each resolution's last style is the next one's first.

    Style 0 is that of 4 pixels, 1 and 2 those of 8, and so on; the last colours' style goes with its resolution.
    """
    last_level = num_styles // 2 - 1
    return tuple(n for n in range(num_styles) if min((n + 1) // 2, last_level) in _LEVELS[group])


def factorise(generator: Generator, styles_nld: Tensor, *, style_numbers: Sequence[int], num_directions: int) -> Tensor:
    """Return what an amount of 1 adds to the styles along each direction, float32 [K, L, D], the strongest first.

    Args:
        generator: Whose weights are looked at; the colours' layers are left out, as in the paper.
        styles_nld: Decoded styles of faces, which say what a unit step is.
        style_numbers: Which styles are moved together; the others stay.
        num_directions: K; fewer come back where faces or layers have no more.
    """
    centred_nld = (styles_nld - styles_nld.mean(dim=0)).to(torch.float64).cpu()
    changes_ni = torch.cat(
        [
            centred_nld[:, number] @ weight_id.detach().to(torch.float64).cpu().T
            for number, weight_id in _affine_weights(generator)
            if number in style_numbers
        ],
        dim=1,
    )
    # With faces X, steps X^T u of unit vectors u: A X^T u is longest along the first left singular vectors of X A^T.
    units_nk, sizes_k, _ = torch.linalg.svd(changes_ni, full_matrices=False)
    num_kept = min(num_directions, int((sizes_k > sizes_k[0] * 1e-6).sum()))
    shifts_kld = torch.einsum("nk,nld->kld", units_nk[:, :num_kept], centred_nld) / (len(styles_nld) - 1) ** 0.5
    is_moved_l1 = torch.tensor([[number in style_numbers] for number in range(styles_nld.shape[1])])
    return _upright(shifts_kld * is_moved_l1).to(torch.float32)


def _upright(shifts_kld: Tensor) -> Tensor:
    """Turn each direction so that its largest entry is positive: a singular vector's sign is arbitrary."""
    flat_km = shifts_kld.flatten(1)
    largest_k1 = flat_km.gather(1, flat_km.abs().argmax(dim=1, keepdim=True))
    signed_kld: Tensor = shifts_kld * largest_k1.sign()[:, :, None]
    return signed_kld


def _affine_weights(generator: Generator) -> list[tuple[int, Tensor]]:
    """Return the number of its style, and the weight [I, D], of each convolution."""
    weights = [(0, generator.first.conv.affine.weight)]
    for number, block in enumerate(generator.blocks):
        assert isinstance(block, SynthesisBlock)
        weights += [(1 + 2 * number, block.conv_up.conv.affine.weight), (2 + 2 * number, block.conv.conv.affine.weight)]
    return weights
