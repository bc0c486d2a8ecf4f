"""The paper's style codec."""

import dataclasses

import torch

from framevault.codecs.hsc.domains import DOMAINS
from framevault.codecs.hsc.style_convolutions import ConvolutionalStyleCodec

CONFIG = dataclasses.replace(DOMAINS["church"], core=12, style_hidden=8)


def test_styles_become_core_symbols_and_styles_again() -> None:
    torch.manual_seed(1)
    codec = ConvolutionalStyleCodec(CONFIG)
    styles_nld = torch.randn(2, CONFIG.num_styles, CONFIG.style)

    with torch.inference_mode():
        core_nk = codec.analyse(styles_nld)
        decoded_nld = codec.synthesise(core_nk)

    assert core_nk.shape == (2, 12)
    assert decoded_nld.shape == styles_nld.shape


def test_a_gain_makes_core_symbols_larger_and_leaves_the_styles() -> None:
    torch.manual_seed(1)
    codec = ConvolutionalStyleCodec(CONFIG)
    styles_nld = torch.randn(1, CONFIG.num_styles, CONFIG.style)

    with torch.inference_mode():
        core_nk = codec.analyse(styles_nld)
        decoded_nld = codec.synthesise(core_nk)
        codec.log_gain.add_(1)
        torch.testing.assert_close(codec.analyse(styles_nld), core_nk * torch.e)
        torch.testing.assert_close(codec.synthesise(core_nk * torch.e), decoded_nld, atol=1e-5, rtol=1e-4)


def test_it_learns_to_give_back_what_it_was_given() -> None:
    torch.manual_seed(1)
    codec = ConvolutionalStyleCodec(CONFIG)
    styles_nld = torch.randn(4, 1, CONFIG.style).expand(-1, CONFIG.num_styles, -1)
    optimiser = torch.optim.Adam(codec.parameters(), lr=1e-2)
    losses = []

    for _ in range(30):
        loss = (codec.synthesise(codec.analyse(styles_nld)) - styles_nld).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        optimiser.step()
        losses.append(float(loss.detach()))

    assert losses[-1] < 0.9 * losses[0]
