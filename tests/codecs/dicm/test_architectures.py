"""The paper's networks at toy size: shapes, gradients, orders."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from framevault.codecs.dicm.architectures import build_analysis, build_synthesis, build_transformer_hyper_analysis
from framevault.codecs.dicm.backbones.registry import BACKBONES
from framevault.codecs.dicm.config import WIDTHS_ROWS, BackboneName
from framevault.codecs.layers.gnconv import RecursiveGatedConv
from framevault.codecs.layers.pointwise import PointwiseConv2d


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyWidths:
    wide: int = 8
    deep: int = 16
    latent: int = 12
    hyper: int = 6


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def orders_of(network: nn.Module) -> list[int]:
    return [len(module.steps) for module in network.modules() if isinstance(module, RecursiveGatedConv)]


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 48), (32, 20)])
@pytest.mark.parametrize("head_channels", [24, 256])
def test_the_synthesis_undoes_the_shapes_of_the_analysis(height: int, width: int, head_channels: int) -> None:
    analysis = build_analysis(ToyWidths(), blocks="hornet", head_channels=head_channels)
    synthesis = build_synthesis(ToyWidths(), blocks="hornet", head_channels=head_channels)
    features = torch.randn(2, head_channels, height, width)

    latent = analysis(features)

    assert latent.shape == (2, 12, height // 4, width // 4)
    assert synthesis(latent).shape == features.shape


@pytest.mark.parametrize(("backbone", "latent", "hyper"), [("resnet50", 192, 192), ("mobilenet_v2", 128, 64)])
def test_a_picture_of_256x256_has_16x16_latents_and_4x4_hyper_latents(
    backbone: BackboneName, latent: int, hyper: int
) -> None:
    row, channels = WIDTHS_ROWS[backbone], BACKBONES[backbone].head_channels

    with torch.inference_mode():
        y = build_analysis(row, blocks="hornet", head_channels=channels)(torch.zeros(1, channels, 64, 64))
        z = build_transformer_hyper_analysis(row)(y)
        features = build_synthesis(row, blocks="hornet", head_channels=channels)(y)

    assert (y.shape, z.shape) == ((1, latent, 16, 16), (1, hyper, 4, 4))
    assert features.shape == (1, channels, 64, 64)


def test_the_hyper_latent_has_a_quarter_of_each_side_rounded_up() -> None:
    hyper_analysis = build_transformer_hyper_analysis(ToyWidths())

    for height, width in [(4, 4), (20, 12), (5, 9), (1, 1)]:
        assert hyper_analysis(torch.randn(1, 12, height, width)).shape == (1, 6, -(-height // 4), -(-width // 4))


def test_the_hyper_latent_sees_how_large_the_latents_are() -> None:
    """Scales are what z is about: a norm in front of everything would take them away."""
    hyper_analysis = build_transformer_hyper_analysis(ToyWidths())
    latent = torch.randn(1, 12, 8, 8)

    small, large = hyper_analysis(latent).std(), hyper_analysis(100 * latent).std()

    assert large > 20 * small


def test_orders_rise_from_2_to_4_with_the_stride_and_the_synthesis_mirrors_them() -> None:
    analysis = build_analysis(ToyWidths(), blocks="hornet", head_channels=24)
    synthesis = build_synthesis(ToyWidths(), blocks="hornet", head_channels=24)

    assert sorted(orders_of(analysis)) == orders_of(analysis)
    assert {2, 3, 4} == set(orders_of(analysis))
    assert orders_of(synthesis) == orders_of(analysis)[::-1]


def test_the_last_module_of_the_analysis_is_its_projection() -> None:
    """The encoder runs it in another precision than the others."""
    last = build_analysis(ToyWidths(), blocks="hornet", head_channels=24)[-1]

    assert isinstance(last, PointwiseConv2d)
    assert last.out_channels == 12


def test_every_parameter_gets_a_gradient() -> None:
    networks = nn.ModuleDict(
        {
            "g_a": build_analysis(ToyWidths(), blocks="hornet", head_channels=24),
            "h_a": build_transformer_hyper_analysis(ToyWidths()),
            "g_s": build_synthesis(ToyWidths(), blocks="hornet", head_channels=24),
        }
    )

    latent = networks["g_a"](torch.randn(2, 24, 16, 32))
    (networks["g_s"](latent).square().sum() + networks["h_a"](latent).square().sum()).backward()

    missing = [name for name, p in networks.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert missing == []


def test_the_encoders_precision_runs_too() -> None:
    analysis = build_analysis(ToyWidths(), blocks="hornet", head_channels=24).to(torch.bfloat16)

    assert analysis(torch.randn(1, 24, 16, 16, dtype=torch.bfloat16)).isfinite().all()
