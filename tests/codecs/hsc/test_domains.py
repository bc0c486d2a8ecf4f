"""The rows of the domains have the paper's shapes."""

import pytest
import torch

from framevault.codecs.entropy.quantisation import RoundedConv2d
from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.domains import DOMAINS
from framevault.codecs.hsc.entropy_model import HscEntropyNetworks
from framevault.codecs.hsc.networks import HscNetworks

STYLES = {"face128": 12, "face": 18, "car": 16, "church": 14}


def test_the_shipped_row_is_the_default() -> None:
    assert DOMAINS["face128"] == HscConfig()


@pytest.mark.parametrize(("domain", "side"), [("face", 1024), ("car", 512), ("church", 256)])
def test_networks_have_the_paper_s_shapes(domain: str, side: int) -> None:
    with torch.device("meta"):
        networks = HscNetworks(DOMAINS[domain])
        entropy = HscEntropyNetworks(DOMAINS[domain], RoundedConv2d)
        styles_nld, feature_nchw = networks.inversion(torch.empty(2, 3, side, side))
        core_nk = networks.style_codec.analyse(styles_nld)
        own_nchw, colours_nchw = networks.generator.lower(networks.style_codec.synthesise(core_nk))
        y_nchw = networks.feature_codec.analyse(feature_nchw, own_nchw, torch.zeros(2, dtype=torch.long))
        rgb_nchw = networks.generator.tail(feature_nchw, colours_nchw, styles_nld)
        phi_nchw = entropy.prime(core_nk, torch.zeros(2, dtype=torch.long))

    assert styles_nld.shape == (2, STYLES[domain], 512)
    assert feature_nchw.shape == own_nchw.shape == (2, 512, 16, 16)
    assert core_nk.shape == (2, 192 * 2 * 2)
    assert y_nchw.shape == (2, 192, 8, 8)
    assert DOMAINS[domain].slices == (24,) * 8
    assert rgb_nchw.shape == (2, 3, side, side)
    assert phi_nchw.shape[2:] == (8, 8)


def test_the_inversion_encoder_has_a_third_of_the_paper_s_parameters() -> None:
    """Which are 114 million, 80 of them in the style heads."""
    with torch.device("meta"):
        inversion = HscNetworks(DOMAINS["face"]).inversion

    heads = sum(value.numel() for part in (inversion.trunk, inversion.styles) for value in part.parameters())
    assert heads < 5e6
    assert sum(value.numel() for value in inversion.parameters()) < 38e6
