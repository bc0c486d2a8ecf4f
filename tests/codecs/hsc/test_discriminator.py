"""The discriminator against its definition."""

import pytest
import torch
from torch.nn import functional

from framevault.codecs.hsc.discriminator import Discriminator, DiscriminatorBlock, append_deviation
from tests.codecs.hsc import plain_generator as plain


@pytest.mark.parametrize(("channels", "side"), [((8, 6), 8), ((8, 7, 6, 5), 32), ((6, 5, 4, 3, 3, 2), 128)])
def test_every_resolution_gives_a_logit_a_picture(channels: tuple[int, ...], side: int) -> None:
    with torch.inference_mode():
        logits_n = Discriminator(channels)(torch.randn(3, 3, side, side))

    assert logits_n.shape == (3,)


def test_pictures_of_another_side_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \[N, 3, 32, 32\], got \[2, 3, 16, 16\]"):
        Discriminator((4, 4, 4, 4))(torch.zeros(2, 3, 16, 16))


def test_a_block_equals_the_paper_s() -> None:
    torch.manual_seed(1)
    block = DiscriminatorBlock(4, 5)
    x_nchw = torch.randn(1, 4, 8, 8)

    with torch.inference_mode():
        out_ohw = block(x_nchw)[0].double()

    def activate(x: torch.Tensor) -> torch.Tensor:
        return functional.leaky_relu(x, 0.2) * 2**0.5

    state = {name: tensor.double() for name, tensor in block.state_dict().items()}
    x_ihw = x_nchw[0].double()
    inner_ihw = activate(plain.convolve(x_ihw, state["conv.weight"] / 6))
    smooth_ihw = plain.low_pass(inner_ihw, before=2, after=2, gain=1)
    main_ohw = activate(plain.correlate(smooth_ihw, state["conv_down.weight"] / 6)[:, ::2, ::2])
    smooth_ihw = plain.low_pass(x_ihw, before=1, after=1, gain=1)
    skip_ohw = plain.correlate(smooth_ihw, state["skip.weight"] / 2)[:, ::2, ::2]
    torch.testing.assert_close(out_ohw, (main_ohw + skip_ohw) / 2**0.5, atol=1e-5, rtol=1e-5)


def test_the_deviation_is_over_groups_of_four() -> None:
    x_nchw = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1))

    out_nchw = append_deviation(x_nchw)

    assert torch.equal(out_nchw[:, :3], x_nchw)
    for group in range(2):
        members = x_nchw[group::2]
        expected = (members.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(out_nchw[group::2, 3], expected.expand(4, 4, 4))


@pytest.mark.parametrize("num_pictures", [1, 2, 3, 5, 6])
def test_any_number_of_pictures_can_be_judged(num_pictures: int) -> None:
    same_nchw = torch.ones(num_pictures, 2, 4, 4)

    deviation_nhw = append_deviation(same_nchw)[:, 2]

    torch.testing.assert_close(deviation_nhw, torch.full((num_pictures, 4, 4), 1e-4))


def test_stored_weights_have_unit_variance_and_features_too() -> None:
    torch.manual_seed(1)
    block = DiscriminatorBlock(64, 64)

    with torch.inference_mode():
        out_nchw = block(torch.randn(2, 64, 16, 16))

    assert 0.9 < float(block.conv.weight.detach().std()) < 1.1
    assert 0.3 < float(out_nchw.std()) < 2
