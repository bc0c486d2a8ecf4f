"""What a training step sees of the codec: the same symbols as real streams, for every number of slices."""

from dataclasses import replace

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck

from framevault.codecs.entropy.latents import MEAN_STEPS
from framevault.codecs.entropy.quantisation import RoundedConv2d
from framevault.codecs.hsc.checkpoint import read_tensors
from framevault.codecs.hsc.training import NONE_TEACHES, TrainedModels, code_batch, restore_batch
from tests.codecs.hsc.toy import TOY_CONFIG, toy_entropy, toy_networks, toy_tensors

CONFIG = replace(TOY_CONFIG, skip_below=0)
"""Streams leave out what is surely zero, which training doesn't know of."""


def make_models() -> TrainedModels:
    torch.manual_seed(0)
    entropy = toy_entropy(CONFIG)
    for layer in entropy.modules():
        if isinstance(layer, RoundedConv2d):
            layer.is_exact = True
    return TrainedModels(networks=toy_networks(CONFIG).eval(), entropy=entropy, core=EntropyBottleneck(CONFIG.core))


def some_latents(num_pictures: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    side, channels = CONFIG.split, CONFIG.split_channels
    styles_nld = torch.randn(num_pictures, CONFIG.num_styles, CONFIG.style, generator=random)
    return styles_nld, torch.randn(num_pictures, channels, side, side, generator=random)


@pytest.mark.parametrize("num_slices", [0, 1, 2, 3])
@torch.no_grad()
def test_training_restores_what_real_streams_restore(num_slices: int) -> None:
    models = make_models()
    networks = models.networks
    bitstream = read_tensors(*toy_tensors(CONFIG)).bitstream
    styles_nld, feature_nchw = some_latents(2)
    quality_n = torch.tensor([0, 7])

    coded = code_batch(models, styles_nld, feature_nchw, quality_n=quality_n, num_slices_n=torch.full((2,), num_slices))

    core_nk = torch.round(networks.style_codec.analyse(styles_nld))
    own_nchw, _ = networks.generator.lower(networks.style_codec.synthesise(core_nk))
    y_nchw = networks.feature_codec.analyse(feature_nchw, own_nchw, quality_n)
    latents16 = []
    for row, quality in enumerate(quality_n.tolist()):
        few = replace(bitstream, num_coded=num_slices, quality=quality + 1)
        decoded = few.decode(few.encode(core_nk[row : row + 1], y_nchw[row : row + 1]), device="cpu")
        assert torch.equal(decoded.core_nk, core_nk[row : row + 1])
        latents16.append(decoded.latent16_nmgg)
    expected_nchw = networks.feature_codec.synthesise(torch.cat(latents16) / MEAN_STEPS, own_nchw, quality_n)
    torch.testing.assert_close(coded.own_nchw, own_nchw)
    torch.testing.assert_close(coded.feature_nchw, expected_nchw)


def test_slices_that_are_left_out_cost_nothing() -> None:
    models = make_models()
    styles_nld, feature_nchw = (each[:1].expand(4, *each.shape[1:]) for each in some_latents(1))

    with torch.no_grad():
        coded = code_batch(
            models,
            styles_nld,
            feature_nchw,
            quality_n=torch.full((4,), 5),
            num_slices_n=torch.arange(4),
        )

    bits = coded.latent_bits_n.tolist()
    assert bits[0] == 0
    assert bits == sorted(bits)
    assert bits[3] > bits[1] > 0
    assert bool((coded.core_bits_n > 0).all())


def test_a_batch_has_gradients_to_encoder_codecs_generator_and_entropy_model() -> None:
    models = make_models()
    models.networks.train()
    rgb_nchw = torch.rand(2, 3, CONFIG.resolution, CONFIG.resolution) * 2 - 1

    restored = restore_batch(
        models, rgb_nchw, quality_n=torch.tensor([2, 6]), num_slices_n=torch.full((2,), len(CONFIG.slices))
    )
    loss = restored.rgb_nchw.square().mean() + restored.core_bits_n.mean() + restored.latent_bits_n.mean()
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    assert restored.rgb_nchw.shape == rgb_nchw.shape
    for name, module in models.networks.named_children():
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        assert any(bool((gradient != 0).any()) for gradient in gradients), name
    assert all(parameter.grad is not None for parameter in models.entropy.spread.parameters())


@pytest.mark.parametrize(("quality", "reaches"), [(0, False), (3, False), (4, True), (7, True)])
def test_low_rates_move_gains_but_not_the_analysis_that_all_qualities_share(quality: int, reaches: bool) -> None:
    models = make_models()
    codec = models.networks.feature_codec
    styles_nld, feature_nchw = some_latents(2)

    coded = code_batch(
        models,
        styles_nld,
        feature_nchw,
        quality_n=torch.full((2,), quality),
        num_slices_n=torch.full((2,), len(CONFIG.slices)),
    )
    coded.latent_bits_n.sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    gradients = [parameter.grad for parameter in codec.analysis.parameters()]
    assert any(gradient is not None and bool((gradient != 0).any()) for gradient in gradients) == reaches
    assert codec.log_gain.grad is not None
    assert bool((codec.log_gain.grad[quality] != 0).any())


def test_bits_of_free_channels_move_no_analysis_at_any_quality() -> None:
    models = make_models()
    styles_nld, feature_nchw = some_latents(2)

    coded = code_batch(
        models,
        styles_nld,
        feature_nchw,
        quality_n=torch.tensor([0, 7]),
        num_slices_n=torch.full((2,), len(CONFIG.slices)),
        lowest_teaching=NONE_TEACHES,
    )
    coded.latent_bits_n.sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    gradients = [parameter.grad for parameter in models.networks.feature_codec.analysis.parameters()]
    assert not any(gradient is not None and bool((gradient != 0).any()) for gradient in gradients)
    assert all(parameter.grad is not None for parameter in models.entropy.spread.parameters())
