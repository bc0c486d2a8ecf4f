"""The training step at toy size, and the tables that come of it."""

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional

from framevault.codecs.dicm.backbone import Tail
from framevault.codecs.dicm.entropy import FrequencyTables
from framevault.codecs.dicm.networks import DicmConfig, DicmNetworks
from framevault.codecs.dicm.training import (
    HIGHEST_SCALE,
    LOWEST_SCALE,
    EntropyModels,
    Losses,
    compute_losses,
    frequency_tables,
    relative_error,
    scale_of,
)

CONFIG = DicmConfig(wide=8, deep=8, latent=8, hyper=4)


@pytest.fixture
def networks() -> DicmNetworks:
    torch.manual_seed(0)
    return DicmNetworks(CONFIG)


@pytest.fixture
def models() -> EntropyModels:
    return EntropyModels(
        hyper=EntropyBottleneck(CONFIG.hyper), latent=GaussianConditional(None, scale_bound=LOWEST_SCALE)
    )


def losses_of(networks: DicmNetworks, models: EntropyModels, *, num_stages: int) -> Losses:
    rgb = torch.randn(2, 3, 64, 64)
    quality = torch.tensor([0, 7])
    return compute_losses(networks, models, Tail().eval(), rgb_nchw=rgb, quality_n=quality, num_stages=num_stages)


def test_every_trained_parameter_gets_a_gradient(networks: DicmNetworks, models: EntropyModels) -> None:
    losses = losses_of(networks, models, num_stages=3)

    total = (losses.distortion(deep_weight=1, divergence_weight=1) + losses.rate_bpp).sum()
    total.backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    missing = [
        name
        for name, parameter in networks.named_parameters()
        if not name.startswith("head.") and (parameter.grad is None or not parameter.grad.isfinite().all())
    ]
    assert missing == []


def test_one_stage_costs_no_deep_pass(networks: DicmNetworks, models: EntropyModels) -> None:
    losses = losses_of(networks, models, num_stages=1)

    assert len(losses.stages) == 1
    assert losses.divergence is None
    assert losses.rate_bpp.shape == losses.features.shape == (2,)


def test_more_quality_costs_more_bits_before_any_training(networks: DicmNetworks, models: EntropyModels) -> None:
    losses = losses_of(networks, models, num_stages=1)

    assert losses.rate_bpp[1] > losses.rate_bpp[0] > 0


def test_relative_error_is_zero_for_equal_and_one_for_the_mean() -> None:
    target = torch.randn(3, 4, 5, 6)

    assert relative_error(target, target).tolist() == [0.0, 0.0, 0.0]
    # The variance is over n - 1 of 360 values.
    assert relative_error(target.mean().expand_as(target), target).mean() == pytest.approx(1, abs=0.01)


def test_the_scale_table_is_geometric_between_its_ends() -> None:
    scales = scale_of(torch.arange(64.0))

    assert scales[0] == pytest.approx(LOWEST_SCALE)
    assert scales[-1] == pytest.approx(HIGHEST_SCALE, rel=1e-5)
    ratios = scales[1:] / scales[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))


def test_tables_are_centred_frequencies_that_the_coder_takes() -> None:
    hyper, latent = frequency_tables(EntropyBottleneck(CONFIG.hyper))

    of_z, of_y = FrequencyTables.from_tensors(*hyper), FrequencyTables.from_tensors(*latent)

    assert (len(of_z.lengths), len(of_y.lengths)) == (CONFIG.hyper, 64)
    narrowest = of_y.cumulative[0][: of_y.lengths[0]]
    zero = -of_y.offsets[0]
    # A Gaussian of scale 0.11 has all but 5e-6 of its mass at zero.
    assert narrowest[zero + 1] - narrowest[zero] > 0.999 * 2**16


def test_a_table_that_does_not_rise_is_refused() -> None:
    with pytest.raises(ValueError, match="frequency table 0 must rise from 0 to 65536"):
        FrequencyTables.from_tensors(torch.tensor([[0, 70000, 65536]]), torch.tensor([3]), torch.tensor([0]))
