"""The dicm codec across devices: what one writes, the other reads to the same bits."""

import dataclasses
from pathlib import Path

import pytest
import torch

from framevault.codecs.dicm.bitstream import Bitstream
from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.errors import GoldenMismatchError
from framevault.codecs.spec import CodecSpec
from framevault.codecs.testing import smooth_frames
from tests.codecs.dicm.moving_toy import random_segment
from tests.codecs.dicm.toy import random_latents, texture

pytestmark = pytest.mark.gpu

GRIDS = (LatentGrid(1, 1), LatentGrid(7, 5), LatentGrid(17, 40))


def codecs(path: Path | None) -> tuple[DicmCodec, DicmCodec]:
    """Return the codec on the CPU and on the GPU; loading it there checks the golden vector there."""
    spec = CodecSpec(name="dicm", weights=None if path is None else str(path), bitstream_version=1)
    return load_dicm(spec), load_dicm(dataclasses.replace(spec, device="cuda"))


@pytest.fixture(params=["toy", "shipped"])
def pair(request: pytest.FixtureRequest, toy_path: Path) -> tuple[DicmCodec, DicmCodec]:
    return codecs(toy_path if request.param == "toy" else None)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("grid", GRIDS)
def test_latents_code_to_the_same_streams_and_symbols(
    pair: tuple[DicmCodec, DicmCodec], grid: LatentGrid, batch_size: int
) -> None:
    """Of every magnitude up to a million."""
    on_cpu, on_gpu = pair
    y_nchw, z_nchw = random_latents(on_cpu.networks.config, batch_size, grid=grid)

    streams = on_cpu.bitstream.encode(y_nchw, z_nchw)

    assert on_gpu.bitstream.encode(y_nchw.cuda(), z_nchw.cuda()) == streams
    assert torch.equal(
        on_gpu.bitstream.decode(streams, grid, device="cuda").cpu(),
        on_cpu.bitstream.decode(streams, grid, device="cpu"),
    )


@pytest.fixture(params=[2, 9, 13])
def video_pair(request: pytest.FixtureRequest) -> tuple[DicmCodec, DicmCodec]:
    """The shipped codec on both, at a quality at which much is predicted."""
    spec = CodecSpec(name="dicm", quality=4, bitstream_version=request.param)
    return load_dicm(spec), load_dicm(dataclasses.replace(spec, device="cuda"))


@pytest.mark.parametrize("writer", [0, 1])
def test_streams_of_video_cross_devices(video_pair: tuple[DicmCodec, DicmCodec], writer: int) -> None:
    """Of a picture that drifts to the right: from version 9 on, frames are moved."""
    encoding, decoding = video_pair[writer], video_pair[1 - writer]
    picture = texture(1, 100, 150)
    frames = torch.stack([picture.roll(6 * number, dims=2) for number in range(8)])
    encoder, state, num_moved = encoding.encoder(height=100, width=150), SegmentState(), 0
    assert decoding.video is not None

    for frame_chw in frames:
        (stream,) = encoder.encode(frame_chw[None])
        frame = decoding.video.decode_all(state, stream, LatentGrid(7, 10), device=decoding.spec.device)

        assert encoder.state.latent16_mhw is not None
        assert torch.equal(frame.latent16_mhw.cpu(), encoder.state.latent16_mhw.cpu())
        num_moved += frame.motion is not None
    assert (num_moved > 3) == (encoding.spec.bitstream_version >= 9)


@pytest.mark.parametrize("version", [9, 13])
@pytest.mark.parametrize("grid", GRIDS)
def test_moved_frames_code_to_the_same_streams_and_symbols(moving_path: Path, grid: LatentGrid, version: int) -> None:
    """Of vectors of all lengths and latents of every magnitude up to a million."""
    spec = CodecSpec(name="dicm", weights=str(moving_path), bitstream_version=version)
    on_cpu, on_gpu = load_dicm(spec), load_dicm(dataclasses.replace(spec, device="cuda"))
    assert on_gpu.video is not None

    streams, coded_nmhw = random_segment(on_cpu, 24, grid=grid, seed=1)

    again, coded_there_nmhw = random_segment(on_gpu, 24, grid=grid, seed=1)
    decoded_nmhw = on_gpu.video.decode(SegmentState(), streams, grid, device="cuda")
    assert again == streams
    assert torch.equal(coded_there_nmhw.cpu(), coded_nmhw)
    assert torch.equal(decoded_nmhw.cpu(), coded_nmhw)


@pytest.mark.parametrize("writer", [0, 1])
def test_streams_of_frames_cross_devices(pair: tuple[DicmCodec, DicmCodec], writer: int) -> None:
    """Every symbol is the same; synthesis differs in the last decimals."""
    encoding, decoding = pair[writer], pair[1 - writer]
    streams = encoding.encoder(height=100, width=150).encode(smooth_frames(4, 100, 150))

    own = encoding.decoder(height=100, width=150).decode(streams)
    other = decoding.decoder(height=100, width=150).decode(streams)

    # Convolutions sum in another order, and CUDA's may use TF32: a hundredth of the features' spread.
    torch.testing.assert_close(other.cpu(), own.cpu(), rtol=0, atol=1e-2 * float(own.std()))


def test_memory_layout_changes_no_bit(pair: tuple[DicmCodec, DicmCodec]) -> None:
    _, on_gpu = pair
    y_nchw, z_nchw = (x.cuda() for x in random_latents(on_gpu.networks.config, 3, grid=GRIDS[2]))

    expected = on_gpu.bitstream.encode(y_nchw, z_nchw)

    channels_last = (x_nchw.contiguous(memory_format=torch.channels_last) for x_nchw in (y_nchw, z_nchw))
    assert on_gpu.bitstream.encode(*channels_last) == expected


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_tensor_float_products_are_refused(pair: tuple[DicmCodec, DicmCodec], precision: str, toy_path: Path) -> None:
    _, on_gpu = pair
    torch.set_float32_matmul_precision(precision)
    try:
        with pytest.raises(RuntimeError, match="'cuda' with precision 'tf32'"):
            on_gpu.encoder(height=20, width=20).encode(smooth_frames(1, 20, 20))
        with pytest.raises(GoldenMismatchError, match="on device 'cuda'"):
            load_dicm(CodecSpec(name="dicm", weights=str(toy_path), device="cuda", bitstream_version=1))
    finally:
        torch.set_float32_matmul_precision("highest")


def test_autocast_is_refused(pair: tuple[DicmCodec, DicmCodec]) -> None:
    _, on_gpu = pair
    latents = tuple(x.cuda() for x in random_latents(on_gpu.networks.config, 1, grid=GRIDS[1]))

    with torch.autocast("cuda", torch.float16), pytest.raises(RuntimeError, match="and autocast"):
        on_gpu.bitstream.encode(latents[0], latents[1])


@pytest.mark.slow  # a minute of compiling
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own parts
def test_compiled_integer_networks_give_the_same_bits(pair: tuple[DicmCodec, DicmCodec]) -> None:
    on_cpu, on_gpu = pair
    y_nchw, z_nchw = random_latents(on_cpu.networks.config, 5, grid=GRIDS[1])
    compiled = with_compiled_networks(on_gpu.bitstream)

    assert compiled.encode(y_nchw.cuda(), z_nchw.cuda()) == on_cpu.bitstream.encode(y_nchw, z_nchw)


def with_compiled_networks(bitstream: Bitstream) -> Bitstream:
    networks = bitstream.networks
    networks.hyper = torch.compile(networks.hyper)  # type: ignore[method-assign]  # called in the same way
    networks.parameters_of = torch.compile(networks.parameters_of)  # type: ignore[method-assign]  # the same
    return dataclasses.replace(bitstream, networks=networks)
