"""Networks without memory: whatever their sizes, nothing is allocated, and what is filled is as if it had been new."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest
import torch
from torch import nn

from framevault.codecs.dicm.config import BackboneName, BlockKind, DicmConfig
from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.dicm.networks import DicmNetworks
from framevault.codecs.dicm.temporal_model import TemporalNetworks
from framevault.codecs.entropy.integer import IntConv2d
from framevault.codecs.hollow import allocate, build_hollow
from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.domains import DOMAINS
from framevault.codecs.hsc.entropy_model import HscEntropyNetworks
from framevault.codecs.hsc.networks import HscNetworks
from framevault.codecs.sizes import LARGEST_WIDTH
from tests.codecs.allocations import LargestTensor
from tests.codecs.hsc.toy import TOY_CONFIG

SMALL_BYTES = 100
"""What may be made on the CPU: eight qualities' gains, and scalars."""

WIDE = DicmConfig(
    wide=LARGEST_WIDTH,
    deep=LARGEST_WIDTH,
    latent=LARGEST_WIDTH,
    hyper=LARGEST_WIDTH,
    slices=(LARGEST_WIDTH - 127, *[1] * 127),
    context=LARGEST_WIDTH,
    temporal=LARGEST_WIDTH,
)
"""As wide as a configuration may say: terabytes."""

PROBE = """
import sys
from framevault.codecs.hollow import build_hollow
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.networks import DicmNetworks
from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.networks import HscNetworks
build_hollow(lambda: DicmNetworks(DicmConfig.usual("mobilenet_v2", blocks="gated")))
build_hollow(lambda: HscNetworks(HscConfig()))
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""


def wide_hsc(config: HscConfig) -> HscConfig:
    """Return a configuration as wide as one may be, with the same names of tensors."""
    is_dense = config.style_codec == "dense"
    return dataclasses.replace(
        config,
        channels=(LARGEST_WIDTH,) * len(config.channels),
        body=(LARGEST_WIDTH,) * len(config.body),
        style=LARGEST_WIDTH if is_dense else config.style,
        style_rank=LARGEST_WIDTH,
        style_hidden=LARGEST_WIDTH,
        core=LARGEST_WIDTH,
        wide=LARGEST_WIDTH,
        deep=LARGEST_WIDTH,
        context=LARGEST_WIDTH,
    )


BUILDS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"dicm {backbone} {blocks}": partial(DicmNetworks, dataclasses.replace(WIDE, backbone=backbone, blocks=blocks))
        for backbone in get_args(BackboneName)
        for blocks in get_args(BlockKind)
    },
    "dicm's entropy model": partial(EntropyNetworks, WIDE, IntConv2d),
    "dicm's temporal model": partial(TemporalNetworks, WIDE, IntConv2d),
    **{f"hsc {domain}": partial(HscNetworks, wide_hsc(config)) for domain, config in DOMAINS.items()},
    "hsc's entropy model": partial(HscEntropyNetworks, wide_hsc(DOMAINS["face"]), IntConv2d),
}
"""Every network that a checkpoint describes."""


@pytest.mark.parametrize("name", BUILDS)
def test_a_hollow_network_takes_no_memory(name: str) -> None:
    with LargestTensor() as largest:
        network = build_hollow(BUILDS[name])

    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assert sum(tensor.numel() for tensor in network.state_dict().values()) > 1e9
    assert largest.size_bytes < SMALL_BYTES


@pytest.mark.parametrize("config", [TOY_CONFIG, DOMAINS["church"]], ids=["dense", "convolutions"])
def test_an_allocated_network_is_one_that_was_built_so(config: HscConfig) -> None:
    built, allocated = HscNetworks(config), allocate(build_hollow(lambda: HscNetworks(config)))
    expected, found = built.state_dict(), allocated.state_dict()

    assert [(n, t.shape, t.dtype, t.stride()) for n, t in found.items()] == [
        (n, t.shape, t.dtype, t.stride()) for n, t in expected.items()
    ]
    assert all(torch.equal(found[n], t) for n, t in expected.items() if not t.is_floating_point())
    assert {p.requires_grad for p in allocated.parameters()} == {True}


def test_nothing_random_is_drawn() -> None:
    before = torch.get_rng_state()

    build_hollow(lambda: HscNetworks(TOY_CONFIG))

    assert torch.equal(torch.get_rng_state(), before)


def test_no_compiler_is_imported() -> None:
    """It would take a second of each worker's start."""
    found = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60, check=True)

    assert found.stdout.strip() == "[]"
