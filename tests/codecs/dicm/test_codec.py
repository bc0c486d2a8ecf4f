"""The dicm codec with its shipped checkpoint."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from skimage.data import astronaut
from torch import Tensor

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.dicm import codec as codec_module
from framevault.codecs.dicm.bitstream import channel_of
from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.dicm.networks import EncoderNetworks
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.entropy.coder import SymbolDecoder
from framevault.codecs.errors import CheckpointError
from framevault.codecs.spec import CodecSpec
from framevault.codecs.testing import CodecTests

SHIPPED = Path(codec_module.__file__).parent / "checkpoints" / "mobilenet_v2.safetensors"


class TestDicmCodec(CodecTests):
    """The protocol's tests, with frames that lean on those before them."""

    spec = CodecSpec(name="dicm", quality=5)


class TestDicmCodecOfSingleFrames(CodecTests):
    """The same with every frame by itself."""

    spec = CodecSpec(name="dicm", quality=5, bitstream_version=1)


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    """A real picture, uint8 [1, 3, 256, 256]."""
    picture_hwc = np.ascontiguousarray(astronaut()[::2, ::2])  # type: ignore[no-untyped-call]  # scikit-image has no types
    return torch.from_numpy(picture_hwc).permute(2, 0, 1)[None].contiguous()


def codec_at(quality: int) -> DicmCodec:
    return load_dicm(CodecSpec(name="dicm", quality=quality, bitstream_version=1))


def test_more_quality_takes_more_bytes_and_gives_closer_features(portrait: Tensor) -> None:
    """On a real picture, over the whole range; relative error is squared error over variance."""
    sizes: list[int] = []
    errors: list[float] = []

    for quality in (1, 4, 8):
        codec = codec_at(quality)
        streams = codec.encoder(height=256, width=256).encode(portrait)
        decoded = codec.decoder(height=256, width=256).decode(streams)
        target = codec.head_features(portrait)
        sizes.append(len(streams[0]))
        errors.append(float((decoded - target).square().mean() / target.var()))

    assert sizes == sorted(sizes)
    assert sizes[-1] > 3 * sizes[0]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.9
    assert errors[-1] < 0.4


def test_decoded_symbols_are_the_encoded_ones(portrait: Tensor) -> None:
    """The stream carries every symbol, whatever batch it was encoded in."""
    codec = codec_at(6)
    symbols = codec.bitstream.find_symbols(*codec.latents(torch.cat([portrait, portrait.flip(3)])))
    streams = codec.bitstream.write_symbols(symbols)

    for n, stream in enumerate(streams):
        decoder = SymbolDecoder(stream)
        z = decoder.pull(channel_of(symbols.z_nchw.shape[1:]), codec.bitstream.hyper_tables)
        np.testing.assert_array_equal(z, symbols.z_nchw[n].ravel())
        for residual, index in symbols.slices:
            numbers, skip_below = index[n].ravel(), codec.bitstream.skip_below
            decoded = decoder.pull(numbers, codec.bitstream.latent_tables, skip_below=skip_below)
            np.testing.assert_array_equal(decoded, residual[n].ravel())
        decoder.finish()


def test_a_quality_changes_streams_but_not_the_symbols_they_hold(portrait: Tensor) -> None:
    """Only what is before and after the coder knows of it."""
    (stream,) = codec_at(3).encoder(height=256, width=256).encode(portrait)
    grid = LatentGrid(16, 16)

    expected = codec_at(3).bitstream.decode([stream], grid, device="cpu")

    assert torch.equal(codec_at(8).bitstream.decode([stream], grid, device="cpu"), expected)


def test_the_encoders_precision_changes_streams_by_little(portrait: Tensor) -> None:
    """bfloat16 costs less than 1 % of the bytes and of the error; what was encoded in either decodes alike."""
    codec = codec_at(6)
    target = codec.head_features(portrait)
    sizes: list[int] = []
    errors: list[float] = []

    for dtype in (torch.float32, torch.bfloat16):
        one = dataclasses.replace(codec, encoder_networks=EncoderNetworks(codec.networks, dtype))
        (stream,) = one.encoder(height=256, width=256).encode(portrait)
        decoded = codec.decoder(height=256, width=256).decode([stream])
        sizes.append(len(stream))
        errors.append(float((decoded - target).square().mean()))

    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)
    assert errors[1] == pytest.approx(errors[0], rel=0.01)


def test_another_codecs_checkpoint_is_refused(tmp_path: Path) -> None:
    """The error says whose it is."""
    save_checkpoint(tmp_path / "hsc.safetensors", load_file(SHIPPED), codec="hsc", config={})

    with pytest.raises(CheckpointError, match="must be a checkpoint of codec 'dicm', got 'hsc'"):
        load_dicm(CodecSpec(name="dicm", weights=str(tmp_path / "hsc.safetensors")))


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    """A pickle, for example, is never opened as one."""
    (tmp_path / "weights.pth").write_bytes(b"\x80\x04cos\nsystem\n")

    with pytest.raises(CheckpointError, match=r"weights\.pth can't be read as a safetensors checkpoint"):
        load_dicm(CodecSpec(name="dicm", weights=str(tmp_path / "weights.pth")))
