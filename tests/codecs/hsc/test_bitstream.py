"""Symbols <-> hsc's streams: every one survives, and streams say what is wrong with them."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framevault.codecs.entropy.latents import MEAN_STEPS, SYMBOL_LIMIT
from framevault.codecs.entropy.tables import tables_from_pmf
from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.hsc.bitstream import Bitstream, middle_symbols
from framevault.codecs.hsc.codec import HscCodec
from framevault.codecs.hsc.entropy_model import HscEntropyNetworks
from tests.codecs.hsc.toy import MAGNITUDES, TOY_CONFIG, random_latents


@pytest.fixture
def bitstream(toy_hsc: HscCodec) -> Bitstream:
    return toy_hsc.bitstream


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), exponent=st.floats(-4, 7), num_coded=st.integers(0, 3))
def test_any_symbols_come_back_and_latents_to_the_nearest_step(
    bitstream: Bitstream, seed: int, exponent: float, num_coded: int
) -> None:
    """Also those beyond what is clamped; a latent that is not coded comes back as its mean."""
    bitstream = dataclasses.replace(bitstream, num_coded=num_coded)
    core_nk, y_nmgg = random_latents(TOY_CONFIG, 1, seed=seed)
    core_nk, y_nmgg = torch.round(core_nk * 10**exponent), y_nmgg * 10**exponent
    symbols = bitstream.find_symbols(core_nk, y_nmgg)

    decoded = bitstream.decode(bitstream.write_symbols(symbols), device="cpu")

    assert torch.equal(decoded.core_nk, core_nk.clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT))
    assert torch.equal(decoded.latent16_nmgg, symbols.latent16_nmgg)
    coded = sum(TOY_CONFIG.slices[:num_coded])
    indices = torch.from_numpy(np.concatenate([np.zeros((1, 0, 4, 4), np.uint8), *(i for _, i in symbols.slices)], 1))
    within = (indices >= bitstream.skip_below) & (y_nmgg[:, :coded].abs() < SYMBOL_LIMIT - 4096)
    error = (decoded.latent16_nmgg[:, :coded] / MEAN_STEPS - y_nmgg[:, :coded]).abs()
    # Half a step, and what float32 loses in taking the mean off so large a latent.
    assert (error <= 0.5 + y_nmgg[:, :coded].abs() * 2**-22 + 1e-5)[within].all()


@pytest.mark.parametrize("picture", range(len(MAGNITUDES)))
def test_decoded_symbols_code_to_the_same_stream_again(bitstream: Bitstream, picture: int) -> None:
    core_nk, y_nmgg = (x[picture : picture + 1] for x in random_latents(TOY_CONFIG, 5))
    streams = bitstream.encode(core_nk, y_nmgg)
    decoded = bitstream.decode(streams, device="cpu")

    assert bitstream.encode(decoded.core_nk, decoded.latent16_nmgg / MEAN_STEPS) == streams


@pytest.mark.parametrize("slices", [0, 1, 2, 3])
def test_the_first_slices_of_whole_streams_are_those_of_streams_with_fewer(bitstream: Bitstream, slices: int) -> None:
    latents = random_latents(TOY_CONFIG, 5)
    few = dataclasses.replace(bitstream, num_coded=slices)

    expected = few.decode(few.encode(*latents), device="cpu")
    found = bitstream.decode(bitstream.encode(*latents), device="cpu", slices=slices)

    assert torch.equal(found.core_nk, expected.core_nk)
    assert torch.equal(found.latent16_nmgg, expected.latent16_nmgg)


def test_core_symbols_alone_need_no_networks(bitstream: Bitstream, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = random_latents(TOY_CONFIG, 5)
    streams = bitstream.encode(*latents)
    monkeypatch.setattr(HscEntropyNetworks, "prime", None)
    monkeypatch.setattr(HscEntropyNetworks, "parameters_of", None)

    assert torch.equal(bitstream.decode_core(streams), latents[0].clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT))


def test_without_slices_latents_are_the_means_that_core_symbols_say(bitstream: Bitstream) -> None:
    core_nk, y_nmgg = random_latents(TOY_CONFIG, 2)
    none = dataclasses.replace(bitstream, num_coded=0)

    decoded = none.decode(none.encode(core_nk, y_nmgg), device="cpu")

    assert torch.equal(decoded.latent16_nmgg, bitstream.latents_of_core(core_nk))
    assert not torch.equal(decoded.latent16_nmgg[0], decoded.latent16_nmgg[1])


def test_no_bytes_are_the_middle_of_every_table(bitstream: Bitstream) -> None:
    decoded = bitstream.decode([b"", b""], device="cpu")

    assert torch.equal(decoded.core_nk[1], torch.from_numpy(bitstream.middle_core_k).float())
    assert torch.equal(decoded.latent16_nmgg, bitstream.latents_of_core(decoded.core_nk))


def test_middle_symbols_lie_in_the_middle() -> None:
    tables = tables_from_pmf([[0.2, 0.2, 0.2, 0.2, 0.2], [0.6, 0.3], [0.1, 0.1], []], [-3, 7, 0, 5])

    # The third table's middle is the escape's, the last one has nothing else.
    assert middle_symbols(tables).tolist() == [-1, 7, 1, 5]


def test_neighbouring_core_symbols_may_share_a_table(bitstream: Bitstream) -> None:
    rows = [[0.3, 0.4, 0.2], [0.1, 0.8], [0.2, 0.2, 0.2, 0.2]]
    shared = dataclasses.replace(bitstream, core_tables=tables_from_pmf(rows, [-1, 0, -2]))
    core_nk, y_nmgg = random_latents(TOY_CONFIG, 3)

    decoded = shared.decode(shared.encode(core_nk, y_nmgg), device="cpu")

    assert torch.equal(decoded.core_nk, core_nk)
    assert shared.middle_core_k.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_latents_that_are_no_numbers_are_refused(bitstream: Bitstream, which: int, value: float) -> None:
    latents = random_latents(TOY_CONFIG, 2)
    latents[which].view(-1)[11] = value

    with pytest.raises(CodecError, match="no numbers: the checkpoint or the device is faulty"):
        bitstream.encode(*latents)


def test_what_is_surely_zero_costs_no_bytes(bitstream: Bitstream) -> None:
    skipping = dataclasses.replace(bitstream, skip_below=64)
    core_nk, y_nmgg = random_latents(TOY_CONFIG, 1)

    assert skipping.encode(core_nk, 1000 * y_nmgg) == dataclasses.replace(bitstream, num_coded=0).encode(
        core_nk, y_nmgg
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stream: stream[:-8], "stream 2 of the call: the stream ends early"),
        (lambda stream: stream[:-1] + bytes([stream[-1] ^ 1]), "stream 2 of the call: the stream is damaged: its last"),
        (lambda stream: stream + bytes(8), "stream 2 of the call: (bytes are left over|the stream is damaged)"),
        (lambda stream: b"\0" * len(stream), "stream 2 of the call: .*no state"),
    ],
)
def test_a_damaged_stream_is_named_with_what_is_wrong(bitstream: Bitstream, change: object, message: str) -> None:
    streams = bitstream.encode(*random_latents(TOY_CONFIG, 4))
    assert callable(change)
    streams[2] = change(streams[2])

    with pytest.raises(BitstreamError, match=message):
        bitstream.decode(streams, device="cpu")


def test_a_thinned_stream_is_no_whole_one(bitstream: Bitstream) -> None:
    latents = random_latents(TOY_CONFIG, 1)
    few = dataclasses.replace(bitstream, num_coded=1)

    with pytest.raises(BitstreamError, match="stream 0 of the call"):
        bitstream.decode(few.encode(*latents), device="cpu")
    with pytest.raises(BitstreamError, match="stream 0 of the call"):
        few.decode(bitstream.encode(*latents), device="cpu")


@pytest.mark.parametrize("slices", [-1, 4])
def test_slices_that_streams_have_not_are_refused(bitstream: Bitstream, slices: int) -> None:
    with pytest.raises(CodecError, match=f"slices must be 0 to 3, as many as the streams have, got {slices}"):
        bitstream.decode([b""], device="cpu", slices=slices)
