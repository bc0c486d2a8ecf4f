"""The generator against one written from the paper, and its split."""

import pytest
import torch

from framevault.codecs.hsc.generator import Generator
from tests.codecs.hsc import plain_generator as plain
from tests.codecs.hsc.small import SMALL, small_generator

TOLERANCE = 1e-4
"""The issue's."""


def random_styles(num_pictures: int = 2) -> torch.Tensor:
    return torch.randn(num_pictures, SMALL.num_styles, SMALL.style, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_forward_equals_one_written_from_the_paper(memory_format: torch.memory_format) -> None:
    generator = small_generator().to(memory_format=memory_format)
    styles_nld = random_styles()

    with torch.inference_mode():
        rgb_nchw = generator(styles_nld)

    for number, styles_ld in enumerate(styles_nld):
        expected_3hw = plain.generate(generator.state_dict(), styles_ld)
        torch.testing.assert_close(rgb_nchw[number].double(), expected_3hw, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_feature_takes_the_place_of_the_generator_s_own() -> None:
    generator, styles_nld = small_generator(), random_styles(1)
    feature_nchw = torch.randn(1, SMALL.split_channels, SMALL.split, SMALL.split)

    with torch.inference_mode():
        _, colours_nchw = generator.lower(styles_nld)
        rgb_nchw = generator.tail(feature_nchw, colours_nchw, styles_nld)

    expected_3hw = plain.generate(generator.state_dict(), styles_nld[0], feature_ihw=feature_nchw[0])
    torch.testing.assert_close(rgb_nchw[0].double(), expected_3hw, atol=TOLERANCE, rtol=TOLERANCE)


def test_both_halves_together_are_the_whole() -> None:
    generator, styles_nld = small_generator(), random_styles()

    with torch.inference_mode():
        feature_nchw, colours_nchw = generator.lower(styles_nld)
        rgb_nchw = generator.tail(feature_nchw, colours_nchw, styles_nld)

        assert feature_nchw.shape == (2, SMALL.split_channels, SMALL.split, SMALL.split)
        assert torch.equal(rgb_nchw, generator(styles_nld))


def test_the_same_styles_give_the_same_picture_each_time() -> None:
    styles_nld = random_styles()

    with torch.inference_mode():
        first_nchw, second_nchw = (small_generator()(styles_nld) for _ in range(2))

    assert torch.equal(first_nchw, second_nchw)


def test_noise_is_the_same_in_every_new_generator() -> None:
    first, second = (dict(Generator(SMALL).named_buffers()) for _ in range(2))

    assert len(first) == 2 * len(SMALL.channels) - 1
    assert all(torch.equal(noise, second[name]) for name, noise in first.items())


def test_a_picture_does_not_depend_on_those_beside_it() -> None:
    generator, styles_nld = small_generator(), random_styles(3)

    with torch.inference_mode():
        together_nchw = generator(styles_nld)
        alone_nchw = torch.cat([generator(styles_nld[number : number + 1]) for number in range(3)])

    torch.testing.assert_close(together_nchw, alone_nchw, atol=1e-5, rtol=1e-5)


def test_gradients_reach_styles_feature_and_every_weight() -> None:
    generator = small_generator()
    styles_nld = random_styles().requires_grad_()
    feature_nchw = torch.randn(2, SMALL.split_channels, SMALL.split, SMALL.split, requires_grad=True)

    own_nchw, colours_nchw = generator.lower(styles_nld)
    generator.tail(own_nchw + feature_nchw, colours_nchw, styles_nld).square().sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    assert all(
        tensor.grad is not None and bool((tensor.grad != 0).any())
        for tensor in (styles_nld, feature_nchw, *generator.parameters())
    )


def test_the_default_config_has_the_names_and_shapes_of_shipped_weights() -> None:
    from framevault.codecs.hsc.config import HscConfig

    shapes = {name: tuple(tensor.shape) for name, tensor in Generator(HscConfig()).state_dict().items()}

    assert len(shapes) == 1 + 11 * 6 + 6 * 4
    assert shapes["blocks.4.conv_up.conv.weight"] == (32, 48, 3, 3)
    assert shapes["blocks.4.conv.noise"] == (1, 1, 128, 128)
    assert shapes["blocks.4.conv.noise_strength"] == ()
    assert shapes["first_rgb.conv.weight"] == (3, 256, 1, 1)
    assert shapes["first.conv.affine.bias"] == (256,)
