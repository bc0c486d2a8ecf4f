"""The adversary's part of the gradient, and how it learns."""

import pytest
import torch

from framevault.pipeline.jobs.train.hsc.adversary import RATIO_MEMORY, Adversary, RunningRatio
from framevault.pipeline.jobs.train.world import World
from tests.pipeline.jobs.train.hsc.toy import SMALL, make_setup


def some_pictures(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def make_adversary(**settings: object) -> Adversary:
    torch.manual_seed(0)
    return Adversary(make_setup(earlier=None, **settings), SMALL)


def teach(adversary: Adversary, *, num_steps: int) -> None:
    """Let it learn to tell bright pictures from dark ones."""
    for seed in range(num_steps):
        torch.manual_seed(seed)
        adversary.learn(some_pictures(1).round(), some_pictures(1) * 0.1)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_gradient_of_one_that_knows_is_a_share_of_the_distortions(share: float) -> None:
    adversary = make_adversary(discriminator_rate=0.01)
    teach(adversary, num_steps=60)
    fake_nchw, real_nchw = some_pictures(1).requires_grad_(), some_pictures(2)
    distortion = (fake_nchw - real_nchw).square().mean()
    (alone_nchw,) = torch.autograd.grad(distortion, fake_nchw, retain_graph=True)

    joined_nchw, figures = adversary.join(fake_nchw, distortion, share=share)

    assert adversary.trust == 1
    assert float((joined_nchw - alone_nchw).norm() / alone_nchw.norm()) == pytest.approx(share, rel=1e-3)
    assert figures["adversarial"] > 0
    assert figures["adversarial_share"] == share


def test_one_that_only_guesses_has_no_say() -> None:
    adversary = make_adversary()
    fake_nchw = some_pictures(1).requires_grad_()

    joined_nchw, figures = adversary.join(fake_nchw, fake_nchw.square().sum(), share=0.5)

    assert adversary.trust == 0
    assert torch.equal(joined_nchw, 2 * fake_nchw)
    assert figures == {}


def test_trust_grows_while_it_learns_and_is_remembered() -> None:
    adversary = make_adversary(discriminator_rate=0.01)

    trusts = []
    for _ in range(3):
        teach(adversary, num_steps=12)
        trusts.append(adversary.trust)

    assert 0 <= trusts[0] <= trusts[1] <= trusts[2]
    assert trusts[2] > 0
    other = make_adversary()
    other.load_state_dict(adversary.state_dict())
    assert other.trust == adversary.trust


def test_without_a_share_it_is_not_asked() -> None:
    adversary = make_adversary()
    fake_nchw = some_pictures(1).requires_grad_()

    joined_nchw, figures = adversary.join(fake_nchw, fake_nchw.square().sum(), share=0.0)

    assert torch.equal(joined_nchw, 2 * fake_nchw)
    assert figures == {}


def test_its_own_weights_get_no_gradient_from_the_pictures_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Adversary, "trust", 1.0)
    adversary = make_adversary()
    fake_nchw = some_pictures(1).requires_grad_()

    _, figures = adversary.join(fake_nchw, fake_nchw.square().sum(), share=0.5)

    assert figures["adversarial_share"] == 0.5
    assert all(parameter.grad is None for parameter in adversary.discriminator.parameters())


def test_it_learns_to_tell_two_kinds_of_pictures_apart() -> None:
    adversary = make_adversary(discriminator_rate=0.01)
    real_nchw, fake_nchw = some_pictures(1).round(), some_pictures(1) * 0.1

    told: list[float] = []
    for seed in range(24):
        torch.manual_seed(seed)
        told.append(adversary.learn(real_nchw, fake_nchw).get("discriminator", float("nan")))

    # Steps 0 and 16 have the penalty in their loss, and don't say it.
    assert [number for number, loss in enumerate(told) if loss != loss] == [0, 16]
    assert sum(told[-7:]) < 0.8 * sum(told[1:8])


def test_the_ratio_of_gradients_moves_slowly_and_ignores_what_is_no_number() -> None:
    ratio = RunningRatio(World())

    first = ratio.learn(2.0, 1.0)
    second = ratio.learn(2.0, 3.0)
    third = ratio.learn(float("nan"), 1.0)

    assert first == 2
    assert second == pytest.approx(2 / (1 + 2 * RATIO_MEMORY))
    assert third == second
