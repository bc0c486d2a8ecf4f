"""Rate weights follow their rates."""

import pytest
import torch

from framevault.pipeline.jobs.train.steering import RateSteering, weights_from_slopes
from framevault.pipeline.jobs.train.world import World


def steer(steering: RateSteering, rate_of_weight: list[float], *, num_steps: int, progress: float = 0.5) -> None:
    """Let rates fall with the square root of their weights, as they roughly do."""
    quality = torch.arange(len(rate_of_weight)).repeat(6)
    for _ in range(num_steps):
        rates = torch.tensor(rate_of_weight)[quality] / torch.tensor(steering.weights_q)[quality] ** 0.5
        steering.learn(quality, rates, progress=progress, world=World())


def test_rates_come_to_their_targets() -> None:
    steering = RateSteering([0.1, 0.4], [1.0, 1.0], gain=0.0025, start=0.0)

    steer(steering, [0.2, 0.3], num_steps=600)

    assert steering.rates_q.tolist() == pytest.approx([0.1, 0.4], rel=0.03)
    assert steering.weights_q == pytest.approx([4.0, 0.5625], rel=0.06)


@pytest.mark.parametrize("progress", [0.1, 0.9])
def test_weights_stay_before_the_start_and_towards_the_end(progress: float) -> None:
    steering = RateSteering([0.1], [2.0], gain=0.0025, start=0.15)

    steer(steering, [0.4], num_steps=50, progress=progress)

    assert steering.weights_q == pytest.approx([2.0])
    assert float(steering.rates_q[0]) > 0.2


def test_a_rate_that_is_no_number_changes_nothing() -> None:
    steering = RateSteering([0.1], [2.0], gain=0.1, start=0.0)

    steering.learn(torch.tensor([0]), torch.tensor([float("nan")]), progress=0.5, world=World())

    assert steering.rates_q.tolist() == [0.1]


def test_its_state_is_all_there_is() -> None:
    one, other = (RateSteering([0.1, 0.4], [1.0, 1.0], gain=0.01, start=0.0) for _ in range(2))
    steer(one, [0.2, 0.3], num_steps=20)

    other.load_state_dict(one.state_dict())
    for steering in (one, other):
        steer(steering, [0.2, 0.3], num_steps=20)

    assert one.weights_q == other.weights_q
    assert torch.equal(one.rates_q, other.rates_q)


def test_weights_are_minus_the_slope_of_rate_and_distortion() -> None:
    # D = 1 / R: the slope at R is -1 / R^2, and between neighbours -1 / (R1 R2).
    weights = weights_from_slopes([0.1, 0.2, 0.4], [10.0, 5.0, 2.5])

    assert weights == pytest.approx([50.0, 25.0, 12.5])
