"""h_s in integers: exact, and close to the network it was made from."""

import pytest
import torch

from framevault.codecs.dicm.hyper_synthesis import FixedPointHyperSynthesis, to_fixed_point
from framevault.codecs.dicm.networks import DicmConfig, HyperSynthesis

CONFIG = DicmConfig(latent=8, hyper=6)


def make_pair() -> tuple[HyperSynthesis, FixedPointHyperSynthesis]:
    torch.manual_seed(0)
    trained = HyperSynthesis(CONFIG)
    fixed = FixedPointHyperSynthesis(CONFIG)
    fixed.load_fixed_point(to_fixed_point(trained))
    return trained, fixed


def test_integers_agree_with_the_trained_network() -> None:
    """Indices within one step, means within the rounding of weights (2^-12) and of the output (1/16)."""
    trained, fixed = make_pair()
    z = torch.randint(-4, 5, (2, 6, 3, 5)).float()

    t, mean = trained(z)
    index, mean_16 = fixed(z)

    assert (index - t.round().clamp(0, 63)).abs().max() <= 1
    torch.testing.assert_close(mean_16 / 16, mean, rtol=0, atol=1 / 32 + 0.01)


@pytest.mark.parametrize("threads", [1, 2])
def test_batch_size_memory_layout_and_threads_change_nothing(threads: int) -> None:
    """Every form of the call gives the same integers."""
    _, fixed = make_pair()
    z = torch.randint(-300, 301, (5, 6, 4, 7)).float()
    before = torch.get_num_threads()

    torch.set_num_threads(threads)
    try:
        index, mean = fixed(z)
        one_by_one = [fixed(z[n : n + 1]) for n in range(5)]
        channels_last = fixed(z.contiguous(memory_format=torch.channels_last))
    finally:
        torch.set_num_threads(before)

    assert torch.equal(index, torch.cat([part[0] for part in one_by_one]))
    assert torch.equal(mean, torch.cat([part[1] for part in one_by_one]))
    assert torch.equal(index, channels_last[0])
    assert torch.equal(mean, channels_last[1])


def test_sums_match_python_integers() -> None:
    """The first layer against exact integer arithmetic, at the largest inputs."""
    _, fixed = make_pair()
    z = torch.full((1, 6, 1, 1), 2.0**15)
    layer = fixed.expand_1

    out = layer(z.double())

    for channel in range(4):
        centre = layer.weight[channel, :, 1, 1].tolist()
        expected = sum(int(w) * 2**15 for w in centre) + int(layer.bias[channel])
        assert int(out[0, channel, 0, 0]) == expected


def test_weights_that_could_overflow_are_refused() -> None:
    """A sum above 2^53 would not be exact."""
    tensors = to_fixed_point(HyperSynthesis(CONFIG))
    tensors["project.weight"] = torch.full_like(tensors["project.weight"], 2**31 - 1)

    with pytest.raises(ValueError, match=r"h_s layer project: a sum may reach .* 2\^53"):
        FixedPointHyperSynthesis(CONFIG).load_fixed_point(tensors)
