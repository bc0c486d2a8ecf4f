"""Losses of generator and discriminator."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.hsc.adversarial import (
    PENALTY_EVERY,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    lazy_penalty,
    usual_penalty,
)
from framevault.codecs.hsc.discriminator import Discriminator


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def make_discriminator() -> Discriminator:
    torch.manual_seed(1)
    return Discriminator((6, 5, 4))


def random_pictures(mean: float) -> Tensor:
    return mean + 0.3 * torch.randn(4, 3, 16, 16, generator=seeded())


def test_the_penalty_is_the_squared_length_of_the_gradient() -> None:
    rgb_nchw = random_pictures(0).requires_grad_()

    logits_n = 0.5 * rgb_nchw.square().sum(dim=(1, 2, 3))

    expected = rgb_nchw.square().sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(gradient_penalty(logits_n, rgb_nchw), expected)


def test_the_penalty_comes_in_one_of_sixteen_steps_and_is_as_much_larger() -> None:
    factors = [lazy_penalty(step, weight=0.1) for step in range(2 * PENALTY_EVERY)]

    assert sum(factor > 0 for factor in factors) == 2
    assert sum(factors) / len(factors) == pytest.approx(0.1)


def test_larger_pictures_and_smaller_batches_have_larger_penalties() -> None:
    assert usual_penalty(128, batch_size=32) == pytest.approx(0.1024)
    assert usual_penalty(256, batch_size=32) > usual_penalty(128, batch_size=32)


def test_the_discriminator_s_loss_reaches_its_weights_but_not_the_generator() -> None:
    discriminator = make_discriminator()
    fake_nchw = random_pictures(1).requires_grad_()

    loss = discriminator_loss(discriminator, random_pictures(-1), fake_nchw, penalty=0.5, random=seeded())
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    assert fake_nchw.grad is None
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


def test_a_penalty_makes_the_loss_larger() -> None:
    losses = [
        discriminator_loss(
            make_discriminator(), random_pictures(-1), random_pictures(1), penalty=penalty, random=seeded()
        )
        for penalty in (0.0, 1.0)
    ]

    assert losses[1] > losses[0]


def test_a_discriminator_learns_to_tell_and_a_picture_to_be_taken_for_real() -> None:
    discriminator = make_discriminator()
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=5e-3, betas=(0.0, 0.99))
    random = seeded()
    real_nchw, fake_nchw = random_pictures(0.6), random_pictures(-0.6)
    losses = []
    for step in range(40):
        penalty = lazy_penalty(step, weight=0.01)
        loss = discriminator_loss(discriminator, real_nchw, fake_nchw, penalty=penalty, random=random)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])

    offset = nn.Parameter(torch.zeros(1))
    before = generator_loss(discriminator, fake_nchw + offset, random=seeded())
    (gradient,) = torch.autograd.grad(before, offset)

    with torch.no_grad():
        after = generator_loss(discriminator, fake_nchw - 0.3 * gradient.sign(), random=seeded())
    assert after < before


def test_an_undecided_discriminator_costs_both_sides_as_much() -> None:
    discriminator = make_discriminator()
    nn.init.zeros_(discriminator.logit.weight)

    own = discriminator_loss(discriminator, random_pictures(0), random_pictures(1), penalty=0.0, random=seeded())
    other = generator_loss(discriminator, random_pictures(1), random=seeded())

    torch.testing.assert_close(own, 2 * functional.softplus(torch.zeros(())))
    torch.testing.assert_close(other, functional.softplus(torch.zeros(())))
