"""The integer networks: ranges, limits, and that training computes what running computes."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from framevault.codecs.dicm.codec import DicmCodec
from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.dicm.symbols import LatentGrid, code_slices
from framevault.codecs.entropy.integer import IntConv2d
from framevault.codecs.entropy.latents import MEAN_LIMIT, SYMBOL_LIMIT, context_of
from framevault.codecs.entropy.quantisation import RoundedConv2d, convert
from tests.codecs.dicm.toy import TOY_CONFIG, toy_entropy


@pytest.fixture(scope="module")
def trained() -> EntropyNetworks:
    networks = toy_entropy()
    for layer in networks.modules():
        if isinstance(layer, RoundedConv2d):
            layer.is_exact = True
    return networks


@pytest.fixture(scope="module")
def running(trained: EntropyNetworks) -> EntropyNetworks:
    networks = EntropyNetworks(TOY_CONFIG, IntConv2d)
    convert(trained, networks)
    return networks


def random_z(seed: int, spread: int, *, size: tuple[int, int] = (2, 3)) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(-spread, spread + 1, (2, TOY_CONFIG.hyper, *size), generator=random).float()


def parameters(networks: EntropyNetworks, z_nchw: Tensor, latents16: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    phi_nchw = networks.hyper(z_nchw)
    earlier = [context_of(latent16_nchw) for latent16_nchw in latents16]
    return [networks.parameters_of(number, phi_nchw, earlier[:number]) for number in range(len(networks.slices))]


def random_slices(seed: int, spread: int, *, size: tuple[int, int] = (8, 12)) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randint(-spread, spread + 1, (2, m, *size), generator=random).float() for m in TOY_CONFIG.slices]


@pytest.mark.parametrize("spread", [3, 100, 10**6])
def test_exact_training_networks_compute_what_the_integer_networks_compute(
    trained: EntropyNetworks, running: EntropyNetworks, spread: int
) -> None:
    z_nchw, latents16 = random_z(1, spread), random_slices(2, 16 * spread)

    with torch.no_grad():
        expected = parameters(trained, z_nchw, latents16)
    got = parameters(running, z_nchw, latents16)

    for (index, mean16), (index_2, mean16_2) in zip(expected, got, strict=True):
        assert torch.equal(index, index_2)
        assert torch.equal(mean16, mean16_2)


def test_networks_in_training_are_close_to_the_integer_networks(running: EntropyNetworks) -> None:
    """Without exact mode weights are not rounded: an index may be one step off, rarely."""
    z_nchw, latents16 = random_z(1, 5), random_slices(2, 80)

    with torch.no_grad():
        expected = parameters(toy_entropy(), z_nchw, latents16)
    got = parameters(running, z_nchw, latents16)

    for (index, mean16), (index_2, mean16_2) in zip(expected, got, strict=True):
        assert (index - index_2).abs().max() <= 2
        assert (index - index_2).abs().mean() < 0.1
        assert (mean16 - mean16_2).abs().mean() < 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([1, 30, 127, 10**3, SYMBOL_LIMIT]))
def test_no_layer_ever_sees_more_than_it_was_bounded_for(toy: DicmCodec, seed: int, spread: int) -> None:
    """Whole numbers within the limit that the weights were checked against, whatever the latents."""
    networks = copy.deepcopy(toy.bitstream.networks)
    seen: set[str] = set()

    def check(name: str, layer: IntConv2d, x_nchw: Tensor) -> None:
        assert torch.equal(x_nchw, x_nchw.round())
        assert x_nchw.abs().max() <= layer.input_limit, name
        seen.add(name)

    def hook(name: str) -> object:
        def before(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            assert isinstance(layer, IntConv2d)
            check(name, layer, *arguments)

        return before

    layers = {name: layer for name, layer in networks.named_modules() if isinstance(layer, IntConv2d)}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(hook(name))  # type: ignore[arg-type]  # hooks may return None
    random = torch.Generator().manual_seed(seed)

    def code(number: int, index_nchw: Tensor, mean16_nchw: Tensor) -> Tensor:
        assert index_nchw.min() >= 0
        assert index_nchw.max() <= 63
        assert mean16_nchw.abs().max() <= MEAN_LIMIT
        return torch.randint(-spread, spread + 1, index_nchw.shape, generator=random).float()

    latent16_nchw = code_slices(networks, random_z(seed, spread), grid=LatentGrid(7, 11), code=code)

    assert seen == set(layers)
    assert latent16_nchw.abs().max() < 2**24


def test_the_toy_uses_all_scale_indices_and_means_of_both_signs(running: EntropyNetworks) -> None:
    """Else the tests here and in test_bitstream.py would prove little."""
    found = parameters(running, random_z(1, 90, size=(8, 8)), random_slices(2, 1500, size=(32, 32)))

    indices = torch.cat([index.flatten() for index, _ in found]).int()
    means = torch.cat([mean.flatten() for _, mean in found])
    assert torch.bincount(indices, minlength=64).min() > 0
    assert means.min() < -100
    assert means.max() > 100


def test_hyper_latents_beyond_seven_bits_count_as_their_limit(running: EntropyNetworks) -> None:
    z_nchw = torch.tensor([[-(10.0**6), -128, -127, 127, 128, 10**6]]).expand(TOY_CONFIG.hyper, -1)[None, :, None]

    phi_nchw = running.hyper(z_nchw)

    assert torch.equal(phi_nchw, running.hyper(z_nchw.clamp(-127, 127)))


def test_phi_has_four_positions_a_side_for_each_of_z(running: EntropyNetworks) -> None:
    assert running.hyper(random_z(1, 5, size=(3, 5))).shape == (2, TOY_CONFIG.latent, 12, 20)


def test_a_slice_sees_the_earlier_slices(running: EntropyNetworks) -> None:
    latents16 = random_slices(3, 100)
    first = parameters(running, random_z(1, 5), latents16)
    latents16[1] = latents16[1] + 64

    second = parameters(running, random_z(1, 5), latents16)

    assert [torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True)] == [
        True,
        True,
        False,
    ]


def test_the_context_is_in_halves_rounded_to_the_nearest_within_seven_bits() -> None:
    sixteenths = [-(2**23), -1020, -1012, -13, -12, -11, -5, -4, -3, 0, 3, 4, 11, 12, 1019, 1020, 2**23]

    seen = context_of(torch.tensor(sixteenths).float())

    assert seen.tolist() == [max(-127, min(127, (value + 4) // 8)) for value in sixteenths]
    assert seen.tolist()[3:-3] == [-2, -1, -1, -1, 0, 0, 0, 0, 1, 1, 2]
