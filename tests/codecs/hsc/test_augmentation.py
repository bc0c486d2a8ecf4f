"""Differentiable augmentations do what their names say, and let gradients pass."""

import torch

from framevault.codecs.hsc.augmentation import augment, change_colours, cut_out, translate


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_pictures(count: int = 4, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=seeded(9)) * 2 - 1


def test_the_same_seed_gives_the_same_pictures() -> None:
    rgb_nchw = random_pictures()

    assert torch.equal(augment(rgb_nchw, seeded()), augment(rgb_nchw, seeded()))
    assert not torch.equal(augment(rgb_nchw, seeded()), augment(rgb_nchw, seeded(2)))


def test_colours_of_a_grey_picture_change_in_brightness_alone() -> None:
    grey_nchw = torch.zeros(64, 3, 4, 4)

    changed_nchw = change_colours(grey_nchw, seeded())

    assert torch.equal(changed_nchw, changed_nchw[:, :1, :1, :1].expand_as(changed_nchw))
    assert float(changed_nchw.min()) < -0.4
    assert float(changed_nchw.max()) > 0.4
    assert float(changed_nchw.abs().max()) <= 0.5


def test_colours_keep_what_is_lighter_lighter() -> None:
    rgb_nchw = random_pictures()
    before_nhw, after_nhw = rgb_nchw.mean(dim=1), change_colours(rgb_nchw, seeded()).mean(dim=1)

    assert torch.equal(before_nhw.flatten(1).argsort(), after_nhw.flatten(1).argsort())


def test_a_translation_moves_pixels_and_brings_in_zeros() -> None:
    rgb_nchw = torch.ones(32, 3, 16, 16)
    rgb_nchw[:, :, 8, 8] = 5

    moved_nchw = translate(rgb_nchw, seeded())

    positions = (moved_nchw[:, 0] == 5).nonzero()
    assert len(positions) == 32
    assert {int(row) - 8 for row in positions[:, 1]} == {-2, -1, 0, 1, 2}
    for number, row, column in positions.tolist():
        is_zero_hw = moved_nchw[number, 0] == 0
        assert int(is_zero_hw.sum()) == 256 - (16 - abs(row - 8)) * (16 - abs(column - 8))


def test_a_square_of_half_the_side_is_cut_out() -> None:
    cut_nchw = cut_out(torch.ones(64, 3, 16, 16), seeded())

    zeros_n = (cut_nchw[:, 0] == 0).sum(dim=(1, 2))
    assert torch.equal(cut_nchw[:, 0], cut_nchw[:, 2])
    assert int(zeros_n.max()) == 64
    assert int(zeros_n.min()) >= 16


def test_second_gradients_pass() -> None:
    """R1 needs them."""
    rgb_nchw = random_pictures(2).requires_grad_()

    loss = augment(rgb_nchw, seeded()).pow(3).sum()
    (gradient_nchw,) = torch.autograd.grad(loss, rgb_nchw, create_graph=True)
    (second_nchw,) = torch.autograd.grad(gradient_nchw.square().sum(), rgb_nchw)

    assert bool((second_nchw != 0).any())
