"""Directions from weights: against weights and faces whose answer is known."""

import pytest
import torch
from torch import Tensor

from framevault.codecs.hsc.factorisation import LAYER_GROUPS, factorise, style_numbers
from framevault.codecs.hsc.generator import Generator, SynthesisBlock
from tests.codecs.hsc.toy import TOY_CONFIG

SHAPE = (TOY_CONFIG.num_styles, TOY_CONFIG.style)


@pytest.fixture
def generator() -> Generator:
    """A generator whose first block scales its channels by the third and fifth value of its second style alone."""
    torch.manual_seed(5)
    generator = Generator(TOY_CONFIG)
    block = generator.blocks[0]
    assert isinstance(block, SynthesisBlock)
    with torch.no_grad():
        block.conv.conv.affine.weight.zero_()
        block.conv.conv.affine.weight[0, 2] = 3.0
        block.conv.conv.affine.weight[1, 4] = -1.0
    return generator


def faces(num_faces: int = 400) -> Tensor:
    """Return styles that vary by exactly 1 in all directions: the paper's latents."""
    random_nm = torch.randn(num_faces, SHAPE[0] * SHAPE[1], generator=torch.Generator().manual_seed(6))
    centred_nm = random_nm - random_nm.mean(dim=0)
    white_nm, _, _ = torch.linalg.svd(centred_nm, full_matrices=False)
    scaled_nm: Tensor = 3 + white_nm * (num_faces - 1) ** 0.5
    return scaled_nm.reshape(num_faces, *SHAPE)


def test_of_equally_likely_styles_the_directions_are_the_paper_s_eigenvectors(generator: Generator) -> None:
    weight_id = generator.first.conv.affine.weight.detach()
    _, vectors_dd = torch.linalg.eigh(weight_id.T @ weight_id)

    shifts_kld = factorise(generator, faces(), style_numbers=(0,), num_directions=3)

    cosines_k = (shifts_kld[:, 0] * vectors_dd.T.flip(0)[:3]).sum(dim=1).abs()
    assert torch.allclose(cosines_k, torch.ones(3), atol=1e-3)
    assert torch.allclose(shifts_kld.flatten(1).norm(dim=1), torch.ones(3), atol=1e-3)


def test_the_strongest_direction_is_what_the_layer_looks_at_most(generator: Generator) -> None:
    shifts_kld = factorise(generator, faces(), style_numbers=(2,), num_directions=5)

    expected_kld = torch.zeros(2, *SHAPE)
    expected_kld[0, 2, 2] = expected_kld[1, 2, 4] = 1.0
    # The layer looks at two values, so there are two directions.
    assert torch.allclose(shifts_kld, expected_kld, atol=1e-4)


def test_what_faces_never_do_is_no_direction(generator: Generator) -> None:
    styles_nld = faces()
    styles_nld[:, 2, 2] *= 0.01

    shifts_kld = factorise(generator, styles_nld, style_numbers=(2,), num_directions=1)

    # The third value weighs three times the fifth, but faces have a hundredth of its steps.
    assert shifts_kld[0, 2].argmax() == 4


def test_styles_of_other_groups_stay(generator: Generator) -> None:
    shifts_kld = factorise(generator, faces(), style_numbers=(3, 4), num_directions=2)

    is_moved_l = (shifts_kld != 0).any(dim=2).any(dim=0)
    assert is_moved_l.nonzero().flatten().tolist() == [3, 4]


def test_every_style_is_in_one_group() -> None:
    groups = {group: style_numbers(12, group) for group in LAYER_GROUPS}

    # Of 4, 8, 16, 32, 64 and 128 pixels; the last colours have a style of their own.
    assert groups == {"coarse": (0, 1, 2), "middle": (3, 4, 5, 6), "fine": (7, 8, 9, 10, 11)}
