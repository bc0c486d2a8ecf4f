"""RE at toy size: shapes, its losses worked out by hand, and that training it does what it is for."""

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor

from framevault.codecs.dicm.redundancy import (
    REDUNDANCY_ROWS,
    RedundancyConfig,
    RedundancyElimination,
    RedundancyLosses,
    eliminate_redundancy,
)
from framevault.codecs.layers.conv2former import ConvolutionalModulation

CONFIG = RedundancyConfig(channels=4, widths=(6, 8, 10), expansion=2)


@pytest.fixture
def networks() -> RedundancyElimination:
    torch.manual_seed(0)
    return RedundancyElimination(CONFIG)


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (1, 1), (7, 9), (17, 12)])
def test_f2_has_the_shape_of_f1_whatever_the_size(networks: RedundancyElimination, size: tuple[int, int]) -> None:
    features = torch.randn(2, 4, *size)

    assert networks.squeeze(features).shape == (2, 10, -(-size[0] // 8), -(-size[1] // 8))
    assert networks(features).shape == features.shape


@pytest.mark.parametrize(("backbone", "channels"), [("resnet50", 256), ("mobilenet_v2", 24)])
def test_each_backbone_has_a_bottleneck_of_192x8x8_for_a_picture_of_256x256(backbone: str, channels: int) -> None:
    with torch.inference_mode():
        networks = RedundancyElimination(REDUNDANCY_ROWS[backbone])
        features = torch.zeros(1, channels, 64, 64)

        assert networks.squeeze(features).shape == (1, 192, 8, 8)
        assert networks(features).shape == features.shape


def test_there_are_one_one_and_two_blocks_and_their_mirror(networks: RedundancyElimination) -> None:
    def widths_of(part: torch.nn.Module) -> list[int]:
        return [m.value.out_channels for m in part.modules() if isinstance(m, ConvolutionalModulation)]

    assert widths_of(networks.analysis) == [6, 8, 10, 10]
    assert widths_of(networks.synthesis) == [10, 10, 8, 6]


def test_the_bottleneck_is_rounded_and_gradients_pass(networks: RedundancyElimination) -> None:
    bottleneck = torch.tensor([0.4, -0.6, 2.2, 0.0, 1.4, 7.0, -3.3, 0.2, 0.1, 0.3]).reshape(1, 10, 1, 1)
    bottleneck.requires_grad_()

    restored = networks.restore(bottleneck, 8, 8)
    restored.sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    torch.testing.assert_close(restored, networks.synthesis(bottleneck.round()))
    assert bottleneck.grad is not None
    assert bottleneck.grad.abs().min() > 0


def test_features_of_another_backbone_are_refused(networks: RedundancyElimination) -> None:
    with pytest.raises(ValueError, match=r"must be \[N, 4, H/4, W/4\], got \[1, 5, 8, 8\]"):
        networks(torch.zeros(1, 5, 8, 8))


def test_the_losses_are_bits_a_pixel_and_mean_differences_by_hand(networks: RedundancyElimination) -> None:
    """A synthesis of zeros makes f2 zero; a likelihood of 1/4 is 2 bits a value of the bottleneck."""
    torch.nn.init.zeros_(networks.synthesis[-2].weight)  # type: ignore[arg-type]  # the last convolution
    torch.nn.init.zeros_(networks.synthesis[-2].bias)  # type: ignore[arg-type]
    features = torch.cat([torch.full((1, 4, 8, 16), -3.0), torch.full((1, 4, 8, 16), 0.5)])

    def quarter(bottleneck: Tensor) -> tuple[Tensor, Tensor]:
        return bottleneck, torch.full_like(bottleneck, 0.25)

    restored, losses = eliminate_redundancy(networks, quarter, features_nchw=features, num_pixels=32 * 64)

    assert restored.abs().max() == 0
    assert losses.features.tolist() == [3.0, 0.5]
    # 10 channels x 1 row x 2 columns x 2 bits over 2048 pixels.
    assert losses.rate_bpp.tolist() == [40 / 2048] * 2
    assert losses.total().tolist() == [40 / 2048 + 128 * 3.0, 40 / 2048 + 128 * 0.5]


def test_weights_of_the_sum_can_be_chosen() -> None:
    losses = RedundancyLosses(rate_bpp=torch.tensor([2.0]), features=torch.tensor([5.0]))

    assert losses.total(rate_weight=0.1, feature_weight=0.2).item() == pytest.approx(0.2 + 1.0)


def test_training_lowers_the_loss_and_reaches_every_parameter(networks: RedundancyElimination) -> None:
    density = EntropyBottleneck(10)
    parameters = [*networks.parameters(), *(p for n, p in density.named_parameters() if not n.endswith("quantiles"))]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    features = torch.randn(2, 4, 1, 1).expand(-1, -1, 8, 8).contiguous()
    totals = []

    for _ in range(20):
        optimiser.zero_grad()
        _, losses = eliminate_redundancy(networks, density, features_nchw=features, num_pixels=1024)
        totals.append(losses.total().mean())
        totals[-1].backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        optimiser.step()

    assert totals[-1] < 0.7 * totals[0]
    # The upper blocks' last 11x11 taps lie outside a bottleneck of one position, so weights are checked as wholes.
    assert [p.shape for p in parameters if p.grad is None or not p.grad.isfinite().all()] == []


def test_the_same_seed_gives_the_same_weights() -> None:
    def build() -> Tensor:
        torch.manual_seed(5)
        restored: Tensor = RedundancyElimination(CONFIG)(torch.ones(1, 4, 8, 8))
        return restored

    assert torch.equal(build(), build())
