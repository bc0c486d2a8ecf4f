"""Modulated convolutions and resampling against their definitions."""

import pytest
import torch

from framevault.codecs.hsc.modulated import (
    ModulatedConv2d,
    ModulatedProjection,
    blur,
    downsample_blur,
    upsample,
)
from tests.codecs.hsc import plain_generator as plain

TOLERANCE = 1e-5
"""float32 against float64, at values of about 1."""


@pytest.mark.parametrize("up", [False, True])
def test_scaling_activations_equals_filters_of_each_picture_s_own(up: bool) -> None:
    torch.manual_seed(1)
    conv = ModulatedConv2d(5, 7, style=6, up=up)
    x_nchw, style_nd = torch.randn(3, 5, 8, 8), torch.randn(3, 6)

    with torch.inference_mode():
        out_nchw, factor_no = conv(x_nchw, style_nd)
        scale_ni = conv.affine(style_nd).double()

    run = plain.convolve_up if up else plain.convolve
    for number in range(3):
        weight_oikk = plain.demodulate(plain.modulate(conv.weight.detach().double(), scale_ni[number]))
        expected_ohw = run(x_nchw[number].double(), weight_oikk)
        mine_ohw = (out_nchw * factor_no[:, :, None, None])[number].double()
        torch.testing.assert_close(mine_ohw, expected_ohw, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_projection_equals_filters_of_each_picture_s_own() -> None:
    torch.manual_seed(1)
    projection = ModulatedProjection(5, 3, style=6)
    x_nchw, style_nd = torch.randn(2, 5, 4, 8), torch.randn(2, 6)

    with torch.inference_mode():
        out_nchw = projection(x_nchw, style_nd)
        scale_ni = projection.affine(style_nd).double()

    for number in range(2):
        weight_oikk = plain.modulate(projection.weight.detach().double(), scale_ni[number])
        expected_ohw = plain.correlate(x_nchw[number].double(), weight_oikk)
        torch.testing.assert_close(out_nchw[number].double(), expected_ohw, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_has_the_same_result_in_both_memory_orders(memory_format: torch.memory_format) -> None:
    torch.manual_seed(1)
    conv = ModulatedConv2d(5, 7, style=6, up=True)
    x_nchw, style_nd = torch.randn(2, 5, 8, 8), torch.randn(2, 6)

    with torch.inference_mode():
        expected_nchw, _ = conv(x_nchw, style_nd)
        mine_nchw, _ = conv(x_nchw.contiguous(memory_format=memory_format), style_nd)

    torch.testing.assert_close(mine_nchw, expected_nchw, atol=TOLERANCE, rtol=TOLERANCE)


def test_upsampling_is_zero_insertion_and_the_filter() -> None:
    x_nchw = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(upsample(x_nchw)[0].double(), plain.upsample(x_nchw[0]), atol=TOLERANCE, rtol=TOLERANCE)


def test_blur_is_the_filter() -> None:
    x_nchw = torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(1))
    expected_ihw = plain.low_pass(x_nchw[0].double(), before=1, after=1, gain=4)

    torch.testing.assert_close(blur(x_nchw, gain=4.0)[0].double(), expected_ihw, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("resample", [upsample, lambda x_nchw: downsample_blur(x_nchw, padding=2)[:, :, 1::2, 1::2]])
def test_resampling_has_no_shift(resample: object) -> None:
    """A mirrored picture becomes the mirrored result: an offset by one would not."""
    x_nchw = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    assert callable(resample)

    torch.testing.assert_close(resample(x_nchw.flip(3)), resample(x_nchw).flip(3))


def test_upsampling_keeps_a_constant_inside() -> None:
    wide_nchw = upsample(torch.ones(1, 1, 6, 6))

    torch.testing.assert_close(wide_nchw[:, :, 1:-1, 1:-1], torch.ones(1, 1, 10, 10))
