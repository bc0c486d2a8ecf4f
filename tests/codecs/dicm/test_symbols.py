"""The way through the slices, which encoder and decoder share."""

import pytest
import torch
from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec
from framevault.codecs.dicm.symbols import LatentGrid, code_slices
from framevault.codecs.entropy.latents import MEAN_LIMIT, MEAN_STEPS, SYMBOL_LIMIT, context_of, residual_of
from tests.codecs.dicm.toy import TOY_CONFIG, random_latents


@pytest.mark.parametrize(
    ("size", "expected"), [((1, 1), (1, 1)), ((4, 5), (1, 2)), ((8, 9), (2, 3)), ((7, 4096), (2, 1024))]
)
def test_a_hyper_position_stands_for_four_by_four(size: tuple[int, int], expected: tuple[int, int]) -> None:
    grid = LatentGrid(*size)

    assert (grid.hyper_height, grid.hyper_width) == expected


def test_the_largest_symbol_and_mean_are_exact_in_float32() -> None:
    assert SYMBOL_LIMIT * MEAN_STEPS + MEAN_LIMIT < 2**24


def test_symbols_are_the_rounded_distances_from_the_mean() -> None:
    y = torch.tensor([0.49, 0.51, -0.51, 3.0, 1e6, -1e9, 5e5])
    mean16 = torch.tensor([0.0, 0, 0, 40, 0, 0, 16])

    assert residual_of(y, mean16).tolist() == [0, 1, -1, 0, SYMBOL_LIMIT, -SYMBOL_LIMIT, 499_999]


def test_slices_are_coded_in_order_and_come_out_as_residual_plus_mean(toy: DicmCodec) -> None:
    grid = LatentGrid(5, 6)
    _, z_nchw = random_latents(TOY_CONFIG, 2, grid=grid)
    coded: list[tuple[int, Tensor]] = []

    def code(number: int, index_nchw: Tensor, mean16_nchw: Tensor) -> Tensor:
        residual_nchw = (index_nchw % 5 - 2).contiguous()
        coded.append((number, residual_nchw * MEAN_STEPS + mean16_nchw))
        return residual_nchw

    latent16_nchw = code_slices(toy.bitstream.networks, z_nchw, grid=grid, code=code)

    assert [number for number, _ in coded] == [0, 1, 2]
    assert [part.shape for _, part in coded] == [(2, m, 5, 6) for m in TOY_CONFIG.slices]
    assert torch.equal(latent16_nchw, torch.cat([part for _, part in coded], dim=1))


def test_residuals_beyond_the_limit_count_as_the_limit(toy: DicmCodec) -> None:
    """A decoder's symbols may be any int32: what comes of them must still be exact."""
    grid = LatentGrid(1, 1)
    means: list[Tensor] = []

    def code(number: int, index_nchw: Tensor, mean16_nchw: Tensor) -> Tensor:
        means.append(mean16_nchw)
        return torch.full_like(index_nchw, -(2.0**31))

    z_nchw = torch.zeros(1, TOY_CONFIG.hyper, 1, 1)
    latent16_nchw = code_slices(toy.bitstream.networks, z_nchw, grid=grid, code=code)

    assert torch.equal(latent16_nchw, torch.cat(means, dim=1) - SYMBOL_LIMIT * MEAN_STEPS)
    assert set(context_of(latent16_nchw).flatten().tolist()) == {-127}
