"""Latents <-> streams: every latent survives, and streams say what is wrong with them."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from framevault.codecs.dicm.bitstream import Bitstream, channel_of
from framevault.codecs.dicm.codec import DicmCodec
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.entropy.latents import SYMBOL_LIMIT
from framevault.codecs.errors import BitstreamError, CodecError
from tests.codecs.dicm.toy import MAGNITUDES, TOY_CONFIG, random_latents

GRID = LatentGrid(9, 7)


@pytest.fixture
def bitstream(toy: DicmCodec) -> Bitstream:
    return toy.bitstream


def decode(bitstream: Bitstream, streams: list[bytes], grid: LatentGrid = GRID) -> Tensor:
    return bitstream.decode(streams, grid, device="cpu")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    exponent=st.floats(-4, 7),
    outliers=st.lists(st.sampled_from([1e6, -1e6, 3e38, -3e38, 0.5, -0.5]), max_size=5),
)
def test_any_latents_come_back_to_the_nearest_step(
    bitstream: Bitstream, seed: int, size: tuple[int, int], exponent: float, outliers: list[float]
) -> None:
    """Also those beyond what is clamped; a latent that is not coded comes back as its mean."""
    grid = LatentGrid(*size)
    random = torch.Generator().manual_seed(seed)
    y_nchw = torch.randn(1, TOY_CONFIG.latent, *size, generator=random) * 10**exponent
    z_nchw = torch.randn(1, TOY_CONFIG.hyper, grid.hyper_height, grid.hyper_width, generator=random) * 10**exponent
    z_nchw = z_nchw.round()
    for value in outliers:
        y_nchw.view(-1)[torch.randint(y_nchw.numel(), (1,), generator=random)] = value
        z_nchw.view(-1)[torch.randint(z_nchw.numel(), (1,), generator=random)] = float(round(value))
    symbols = bitstream.find_symbols(y_nchw, z_nchw)

    decoded = decode(bitstream, bitstream.write_symbols(symbols), grid) / 16

    indices = torch.from_numpy(np.concatenate([index for _, index in symbols.slices], axis=1))
    within = (indices >= bitstream.skip_below) & (y_nchw.abs() < SYMBOL_LIMIT - 4096)
    # Half a step, and what float32 loses in taking the mean off so large a latent.
    assert ((decoded - y_nchw).abs() <= 0.5 + y_nchw.abs() * 2**-22 + 1e-5)[within].all()
    assert decoded.abs().max() <= SYMBOL_LIMIT + 2**11


@pytest.mark.parametrize("frame", range(len(MAGNITUDES)))
def test_decoded_latents_code_to_the_same_stream_again(bitstream: Bitstream, frame: int) -> None:
    y_nchw, z_nchw = (x_nchw[frame : frame + 1] for x_nchw in random_latents(TOY_CONFIG, 5, grid=GRID))
    (stream,) = bitstream.encode(y_nchw, z_nchw)

    assert bitstream.encode(decode(bitstream, [stream]) / 16, z_nchw) == [stream]


def test_symbols_beyond_every_table_come_back(bitstream: Bitstream) -> None:
    """The toy's tables of z hold up to eleven symbols: nearly all of these escape."""
    z_nchw = torch.arange(-SYMBOL_LIMIT, SYMBOL_LIMIT, 2**20 // 36).float()[:36].reshape(1, TOY_CONFIG.hyper, 3, 2)
    y_nchw = torch.zeros(1, TOY_CONFIG.latent, 9, 7)

    symbols = bitstream.find_symbols(y_nchw, z_nchw)
    (stream,) = bitstream.write_symbols(symbols)

    np.testing.assert_array_equal(symbols.z_nchw, z_nchw.int().numpy())
    assert len(stream) > 36 * 4
    assert bitstream.encode(decode(bitstream, [stream]) / 16, z_nchw) == [stream]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_latents_that_are_no_numbers_are_refused(bitstream: Bitstream, which: int, value: float) -> None:
    latents = random_latents(TOY_CONFIG, 2, grid=GRID)
    latents[which][1, 3, 0, 1] = value

    with pytest.raises(CodecError, match="no numbers: the checkpoint or the device is faulty"):
        bitstream.encode(*latents)


def test_what_is_surely_zero_costs_no_bytes_and_comes_back_as_its_mean(toy: DicmCodec) -> None:
    """With every index skipped, z alone is left."""
    skipping = dataclasses.replace(toy.bitstream, skip_below=64)
    y_nchw, z_nchw = random_latents(TOY_CONFIG, 1, grid=GRID)

    (stream,) = skipping.encode(1000 * y_nchw, z_nchw)

    assert len(stream) < 20
    assert [stream] == skipping.encode(torch.zeros_like(y_nchw), z_nchw)
    assert decode(skipping, [stream]).shape == y_nchw.shape


def test_each_stream_stands_alone(bitstream: Bitstream) -> None:
    streams = bitstream.encode(*random_latents(TOY_CONFIG, 5, grid=GRID))

    together = decode(bitstream, streams)

    for frame in (4, 0, 2):
        assert torch.equal(decode(bitstream, [streams[frame]])[0], together[frame])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stream: b"", "stream 2 of the call: the stream ends early"),
        (lambda stream: stream[: len(stream) // 8 * 4], "stream 2 of the call: the stream ends early"),
        (lambda stream: stream[:-4], "stream 2 of the call: the stream is damaged: its last state must be 4096"),
        (lambda stream: stream + bytes(8), "stream 2 of the call: bytes are left over"),
        (lambda stream: b"\0" * len(stream), "stream 2 of the call: .*no state"),
    ],
)
def test_a_damaged_stream_is_named_with_what_is_wrong(bitstream: Bitstream, change: object, message: str) -> None:
    streams = bitstream.encode(*random_latents(TOY_CONFIG, 4, grid=GRID))
    assert callable(change)
    streams[2] = change(streams[2])

    with pytest.raises(BitstreamError, match=message):
        decode(bitstream, streams)


def test_a_stream_of_another_size_is_no_stream_of_this_one(bitstream: Bitstream) -> None:
    streams = bitstream.encode(*random_latents(TOY_CONFIG, 1, grid=GRID))

    for grid in (LatentGrid(9, 6), LatentGrid(9, 8), LatentGrid(1, 1), LatentGrid(33, 33)):
        with pytest.raises(BitstreamError, match="stream 0 of the call"):
            decode(bitstream, streams, grid)


def test_values_are_numbered_by_their_channel() -> None:
    assert channel_of((3, 2, 1)).tolist() == [0, 0, 1, 1, 2, 2]
