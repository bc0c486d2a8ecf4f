"""The training step at toy size, and the tables that come of it."""

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyBottleneck

from framevault.codecs.dicm.backbone import Tail
from framevault.codecs.dicm.checkpoint import export_tensors, read_tensors
from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.dicm.networks import DicmNetworks
from framevault.codecs.dicm.training import Losses, TrainedModels, compute_losses, compute_symbol_bits, relative_error
from framevault.codecs.entropy.densities import HIGHEST_SCALE, HYPER_SYMBOLS, LOWEST_SCALE, frequency_tables, scale_of
from framevault.codecs.entropy.quantisation import RoundedConv2d
from tests.codecs.dicm.toy import TOY_CONFIG, toy_networks


@pytest.fixture
def models() -> TrainedModels:
    torch.manual_seed(0)
    return TrainedModels(
        networks=DicmNetworks(TOY_CONFIG),
        entropy=EntropyNetworks(TOY_CONFIG, RoundedConv2d),
        hyper=EntropyBottleneck(TOY_CONFIG.hyper),
    )


def losses_of(models: TrainedModels, *, num_stages: int) -> Losses:
    rgb = torch.randn(2, 3, 64, 64)
    quality = torch.tensor([0, 7])
    return compute_losses(models, Tail().eval(), rgb_nchw=rgb, quality_n=quality, num_stages=num_stages)


def without_gradient(models: TrainedModels) -> list[str]:
    named = [*models.networks.named_parameters(), *models.entropy.named_parameters(), *models.hyper.named_parameters()]
    return [name for name, p in named if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]


def test_every_trained_parameter_gets_a_gradient(models: TrainedModels) -> None:
    with torch.no_grad():
        # Else the means of a random network are all clamped by the hidden layers' zeros.
        for layer in models.entropy.modules():
            if isinstance(layer, RoundedConv2d) and layer.conv.bias is not None:
                layer.conv.bias.add_(20)

    losses = losses_of(models, num_stages=3)
    total = (losses.distortion(deep_weight=1, divergence_weight=1) + losses.rate_bpp).sum()
    total.backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    missing = [name for name in without_gradient(models) if not name.startswith("head.") and name != "quantiles"]
    assert missing == []


def test_one_stage_costs_no_deep_pass(models: TrainedModels) -> None:
    losses = losses_of(models, num_stages=1)

    assert len(losses.stages) == 1
    assert losses.divergence is None
    assert losses.rate_bpp.shape == losses.features.shape == (2,)


def test_more_quality_costs_more_bits_before_any_training(models: TrainedModels) -> None:
    losses = losses_of(models, num_stages=1)

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


def test_tables_follow_the_densities_that_were_trained() -> None:
    hyper = EntropyBottleneck(TOY_CONFIG.hyper)

    of_z, of_y = frequency_tables(hyper)

    assert (of_z.num_tables, of_y.num_tables) == (TOY_CONFIG.hyper, 64)
    assert of_z.offsets.min() >= -HYPER_SYMBOLS
    assert (of_z.offsets + of_z.lengths - 2).max() <= HYPER_SYMBOLS + 1
    expected = hyper._likelihood(torch.zeros(TOY_CONFIG.hyper, 1, 1))[0][:, 0, 0].tolist()
    found = []
    for row, offset in zip(of_z.cumulative, of_z.offsets, strict=True):
        found.append((row[1 - offset] - row[-offset]) / 2**16)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_narrow_scale_has_all_its_frequency_at_zero_and_a_wide_one_spreads() -> None:
    _, of_y = frequency_tables(EntropyBottleneck(TOY_CONFIG.hyper))

    zeros = [row[1 - offset] - row[-offset] for row, offset in zip(of_y.cumulative, of_y.offsets, strict=True)]

    # A Gaussian of scale 0.11 has all but 5e-6 of its mass at zero; one of 64 has its density there.
    assert zeros[0] > 0.999 * 2**16
    assert zeros[-1] == pytest.approx(2**16 * 0.3989 / HIGHEST_SCALE, rel=0.02)
    assert zeros == sorted(zeros, reverse=True)


def test_the_estimate_of_symbol_bits_is_what_the_coder_needs(models: TrainedModels) -> None:
    """Half a per cent for rounded frequencies, and a few bytes a stream; where nothing is skipped."""
    with torch.no_grad():
        for name, layer in models.entropy.named_modules():
            if isinstance(layer, RoundedConv2d) and layer.conv.bias is not None:
                layer.is_exact = True
                layer.conv.bias.add_(30 if name.startswith("scales") else 0)
    of_z, of_y = frequency_tables(models.hyper)
    tensors, config = export_tensors(models.networks, models.entropy, hyper_tables=of_z, latent_tables=of_y)
    _, bitstream, _ = read_tensors(tensors, config)
    y_nchw = 3 * torch.randn(3, TOY_CONFIG.latent, 16, 16)

    with torch.no_grad():
        estimated = compute_symbol_bits(models, y_nchw) / 8
        streams = bitstream.encode(y_nchw, torch.round(models.networks.h_a(y_nchw)))

    for size, stream in zip(estimated.tolist(), streams, strict=True):
        assert len(stream) == pytest.approx(size, rel=0.005, abs=5)


def test_symbol_bits_train_the_entropy_model_and_the_hyper_analysis_alone(models: TrainedModels) -> None:
    compute_symbol_bits(models, 3 * torch.randn(2, TOY_CONFIG.latent, 8, 8)).sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    trained = {name.split(".")[0] for name, p in models.networks.named_parameters() if p.grad is not None}
    assert trained == {"h_a"}
    assert any(bool(p.grad is not None and p.grad.any()) for p in models.entropy.parameters())


def test_toy_networks_are_the_same_each_time() -> None:
    first, second = toy_networks().state_dict(), toy_networks().state_dict()

    assert all(torch.equal(first[name], second[name]) for name in first)
