"""Steps down the gradient: clipped, counted where they are no numbers, and repeatable."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from framevault.pipeline.jobs.train.errors import TrainingError
from framevault.pipeline.jobs.train.optimisation import Descent, ParameterGroup, RunningAverage, cosine_rate
from framevault.pipeline.jobs.train.world import World


def make_descent(module: nn.Module, *, max_bad_steps: int = 3) -> Descent:
    group = ParameterGroup(parameters=tuple(module.parameters()), learning_rate=1.0, weight_decay=0.01)
    return Descent([group], clip_norm=1.0, world=World(), max_bad_steps=max_bad_steps)


def loss_of(module: nn.Module, step: int) -> Tensor:
    torch.manual_seed(step)
    out: Tensor = module(torch.randn(4, 3, 8, 8)).square().mean()
    return out


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)


def test_a_step_without_a_finite_gradient_changes_nothing(module: nn.Module) -> None:
    descent = make_descent(module)
    descent.step(loss_of(module, 0), rate=1.0)
    before = copy.deepcopy(module.state_dict())

    descended = descent.step(loss_of(module, 1) * math.nan, rate=1.0)

    assert not descended.is_finite
    torch.testing.assert_close(dict(module.state_dict()), dict(before), rtol=0, atol=0)


def test_too_many_of_them_in_a_row_end_the_training_with_advice(module: nn.Module) -> None:
    descent = make_descent(module, max_bad_steps=2)
    descent.step(loss_of(module, 0) * math.nan, rate=1.0)
    descent.step(loss_of(module, 1), rate=1.0)
    descent.step(loss_of(module, 2) * math.inf, rate=1.0)

    with pytest.raises(TrainingError, match=r"2 steps in a row .* \(step 4\).* smaller learning_rate"):
        descent.step(loss_of(module, 3) * math.nan, rate=1.0)


def test_a_gradient_much_longer_than_usual_is_left_out_but_not_for_ever(module: nn.Module) -> None:
    descent = make_descent(module)
    for step in range(3):
        descent.step(loss_of(module, step), rate=0.01)

    outliers = [descent.step(100 * loss_of(module, step), rate=0.01).is_outlier for step in range(150)]

    assert outliers[0]
    assert not outliers[-1]


def test_taken_up_from_its_state_it_makes_the_same_steps_to_the_bit(module: nn.Module) -> None:
    straight, resumed = module, copy.deepcopy(module)
    one, other = make_descent(straight), make_descent(resumed)
    for step in range(3):
        one.step(loss_of(straight, step), rate=1.0)

    resumed.load_state_dict(straight.state_dict())
    other.load_state_dict(one.state_dict())
    for step in range(3, 6):
        one.step(loss_of(straight, step), rate=1.0)
        other.step(loss_of(resumed, step), rate=1.0)

    torch.testing.assert_close(dict(resumed.state_dict()), dict(straight.state_dict()), rtol=0, atol=0)


def test_the_running_average_lags_behind_the_weights(module: nn.Module) -> None:
    average = RunningAverage(module, decay=0.5)
    start = next(iter(module.parameters())).detach().clone()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)

    for _ in range(3):
        average.follow(module)

    followed = next(iter(average.module.parameters())) - start
    # The first steps' decays are 2/11, 3/12 and 4/13: a start is forgotten sooner than by the decay.
    torch.testing.assert_close(followed, torch.full_like(followed, 1 - 2 / 11 * 3 / 12 * 4 / 13))


def test_the_learning_rate_falls_from_one_to_its_last_share() -> None:
    assert cosine_rate(0.0) == 1.0
    assert cosine_rate(0.5) == pytest.approx(0.51)
    assert cosine_rate(1.0) == pytest.approx(0.02)
