"""The inversion encoder's shapes, shrinking and depths."""

import dataclasses

import pytest
import torch
from torch import Tensor

from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.inversion import InversionEncoder
from tests.codecs.hsc.small import SMALL


def encode(config: HscConfig, rgb_nchw: Tensor) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    with torch.inference_mode():
        styles_nld, feature_nchw = InversionEncoder(config).eval()(rgb_nchw)
    return styles_nld, feature_nchw


def pictures(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(SMALL, resolution=128, channels=(10, 9, 7, 5, 4, 3), shrink=2),
        dataclasses.replace(SMALL, resolution=128, channels=(10, 9, 7, 5, 4, 3)),
    ],
    ids=["whole", "shrunk", "content head with a stride"],
)
def test_styles_and_feature_have_the_domain_s_shapes(config: HscConfig) -> None:
    styles_nld, feature_nchw = encode(config, pictures(config.resolution))

    assert styles_nld.shape == (2, config.num_styles, config.style)
    assert feature_nchw.shape == (2, config.split_channels, config.split, config.split)


def test_a_shrunk_picture_is_seen_as_its_means() -> None:
    large = dataclasses.replace(SMALL, resolution=128, channels=(10, 9, 7, 5, 4, 3), shrink=2)
    rgb_nchw = pictures(64)

    enlarged_nchw = rgb_nchw.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    large_feature_nchw = encode(large, enlarged_nchw)[1]

    torch.testing.assert_close(large_feature_nchw, encode(SMALL, rgb_nchw)[1])


def test_depths_say_how_many_units_a_level_has() -> None:
    encoder = InversionEncoder(SMALL)

    assert [len(list(stage.children())) for stage in encoder.stages] == list(SMALL.depths)


def test_each_picture_is_encoded_by_itself() -> None:
    rgb_nchw = pictures(64)

    together_nld = encode(SMALL, rgb_nchw)[0]
    alone_nld = torch.cat([encode(SMALL, rgb_nchw[number : number + 1])[0] for number in range(2)])

    torch.testing.assert_close(together_nld, alone_nld, atol=1e-5, rtol=1e-4)
