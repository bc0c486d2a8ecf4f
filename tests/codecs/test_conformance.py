"""The same bits everywhere: each codec, over all that may differ between the machine that wrote and the one that reads.

`dicm/test_gpu.py` has the same for CPU and CUDA, and `two_versions.py` is for two versions of torch.
"""

import copy
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from framevault.codecs.base import Codec
from framevault.codecs.dicm.bitstream import Bitstream
from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.dicm.motion_search import half_brightness
from framevault.codecs.dicm.networks import LATENT_STRIDE, DicmNetworks
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.hsc.codec import HscCodec
from framevault.codecs.raw.codec import RawCodec
from framevault.codecs.spec import CodecSpec
from framevault.codecs.testing import ExactnessTests, smooth_frames, torch_threads
from tests.codecs.dicm.moving_toy import random_segment
from tests.codecs.dicm.toy import random_latents, texture
from tests.codecs.hsc.toy import random_latents as random_hsc_latents


def latent_grid(height: int, width: int) -> LatentGrid:
    return LatentGrid(-(-height // LATENT_STRIDE), -(-width // LATENT_STRIDE))


@cache
def shipped_codec(bitstream_version: int) -> DicmCodec:
    return load_dicm(CodecSpec(name="dicm", quality=8, bitstream_version=bitstream_version))


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    """Leave the process as it was."""
    yield
    torch.set_float32_matmul_precision("highest")


class TestRawIsExact(ExactnessTests):
    """All of raw is exact."""

    @pytest.fixture
    def codec(self) -> Codec:
        return RawCodec(CodecSpec(name="raw"))

    def make_inputs(self, codec: Codec, num_frames: int, *, height: int, width: int) -> tuple[Tensor, ...]:
        noise = np.random.default_rng(0).integers(0, 256, (num_frames, 3, height, width), dtype=np.uint8)
        return (torch.from_numpy(noise),)

    def encode_exactly(self, codec: Codec, inputs: tuple[Tensor, ...]) -> list[bytes]:
        (frames,) = inputs
        return codec.encoder(height=frames.shape[2], width=frames.shape[3]).encode(frames)

    def decode_exactly(self, codec: Codec, streams: Sequence[bytes], *, height: int, width: int) -> Tensor:
        return codec.decoder(height=height, width=width).decode(streams)


class DicmExactness(ExactnessTests):
    """Of dicm, what is between latents and streams."""

    def make_inputs(self, codec: Codec, num_frames: int, *, height: int, width: int) -> tuple[Tensor, ...]:
        assert isinstance(codec, DicmCodec)
        return random_latents(codec.networks.config, num_frames, grid=latent_grid(height, width))

    def encode_exactly(self, codec: Codec, inputs: tuple[Tensor, ...]) -> list[bytes]:
        assert isinstance(codec, DicmCodec)
        return codec.bitstream.encode(*inputs)

    def decode_exactly(self, codec: Codec, streams: Sequence[bytes], *, height: int, width: int) -> Tensor:
        assert isinstance(codec, DicmCodec)
        return codec.bitstream.decode(streams, latent_grid(height, width), device="cpu")

    def test_synthesis_in_bfloat16_reads_the_same_symbols(self, codec: DicmCodec) -> None:
        """Its features differ in the decimals, no symbol does."""
        streams = codec.encoder(height=70, width=90).encode(smooth_frames(3, 70, 90))
        other = dataclasses.replace(codec, networks=in_bfloat16(codec))

        assert torch.equal(
            self.decode_exactly(other, streams, height=70, width=90),
            self.decode_exactly(codec, streams, height=70, width=90),
        )
        expected = codec.decoder(height=70, width=90).decode(streams)
        features = other.decoder(height=70, width=90).decode(streams)
        # bfloat16 has eight bits, and a dozen layers are run.
        assert (features - expected).square().mean() < 1e-3 * expected.square().mean()
        assert not torch.equal(features, expected)

    @pytest.mark.parametrize(
        "switch",
        [lambda: torch.set_float32_matmul_precision("high"), lambda: torch.set_float32_matmul_precision("medium")],
        ids=["high", "medium"],
    )
    def test_faster_matrix_products_are_refused_on_both_sides(
        self, codec: DicmCodec, switch: Callable[[], None]
    ) -> None:
        """Also where this processor would multiply exactly all the same."""
        inputs = self.make_inputs(codec, 1, height=20, width=20)
        streams = self.encode_exactly(codec, inputs)

        switch()

        with pytest.raises(RuntimeError, match="needs exact float32 matrix products"):
            self.encode_exactly(codec, inputs)
        with pytest.raises(RuntimeError, match="needs exact float32 matrix products"):
            codec.decoder(height=20, width=20).decode(streams)

    def test_autocast_is_refused_on_both_sides(self, codec: DicmCodec) -> None:
        """The codec knows which of its networks may be rounded; its caller does not."""
        inputs = self.make_inputs(codec, 1, height=20, width=20)
        streams = self.encode_exactly(codec, inputs)

        with torch.autocast("cpu", torch.bfloat16):
            with pytest.raises(RuntimeError, match=r"and autocast: call .* leave autocast around the codec"):
                self.encode_exactly(codec, inputs)
            with pytest.raises(RuntimeError, match=r"and autocast: call .* leave autocast around the codec"):
                codec.decoder(height=20, width=20).decode(streams)


class InBfloat16(nn.Module):
    """A network in bfloat16 with inputs and outputs in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.bfloat16()

    def forward(self, x_nchw: Tensor) -> Tensor:
        out_nchw: Tensor = self.network(x_nchw.bfloat16())
        return out_nchw.float()


def in_bfloat16(codec: DicmCodec) -> DicmNetworks:
    networks = copy.deepcopy(codec.networks)
    networks.g_s = InBfloat16(networks.g_s)  # type: ignore[assignment]  # called in the same way
    return networks


def with_compiled_networks(bitstream: Bitstream) -> Bitstream:
    networks = copy.deepcopy(bitstream.networks)
    networks.hyper = torch.compile(networks.hyper)  # type: ignore[method-assign]  # called in the same way
    networks.parameters_of = torch.compile(networks.parameters_of)  # type: ignore[method-assign]  # the same
    return dataclasses.replace(bitstream, networks=networks)


class TestToyDicmIsExact(DicmExactness):
    """With small networks that use the whole range of everything."""

    @pytest.fixture
    def codec(self, toy: DicmCodec) -> Codec:
        return toy


class TestShippedDicmIsExact(DicmExactness):
    """With the shipped checkpoint."""

    @pytest.fixture(scope="class")
    @classmethod
    def codec(cls) -> Codec:
        return shipped_codec(1)

    @pytest.mark.slow  # a minute of compiling
    @pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own parts
    @pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
    def test_compiled_integer_networks_give_the_same_bits(
        self, codec: DicmCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever loops the compiler makes of them."""
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
        compiled = dataclasses.replace(codec, bitstream=with_compiled_networks(codec.bitstream))
        inputs = self.make_inputs(codec, 5, height=70, width=90)
        expected = self.encode_exactly(codec, inputs)

        assert self.encode_exactly(compiled, inputs) == expected
        assert torch.equal(
            self.decode_exactly(compiled, expected, height=70, width=90),
            self.decode_exactly(codec, expected, height=70, width=90),
        )


class TestToyHscIsExact(ExactnessTests):
    """Of hsc, what is between symbols and streams; its pictures are square, whatever size the frames had."""

    @pytest.fixture
    def codec(self, toy_hsc: HscCodec) -> Codec:
        return toy_hsc

    def make_inputs(self, codec: Codec, num_frames: int, *, height: int, width: int) -> tuple[Tensor, ...]:
        assert isinstance(codec, HscCodec)
        core_nk, y_nmgg = random_hsc_latents(codec.networks.config, num_frames, seed=height + width)
        return core_nk[:, :, None, None], y_nmgg

    def encode_exactly(self, codec: Codec, inputs: tuple[Tensor, ...]) -> list[bytes]:
        assert isinstance(codec, HscCodec)
        return codec.bitstream.encode(inputs[0][:, :, 0, 0], inputs[1])

    def decode_exactly(self, codec: Codec, streams: Sequence[bytes], *, height: int, width: int) -> Tensor:
        assert isinstance(codec, HscCodec)
        decoded = codec.bitstream.decode(streams, device="cpu")
        return torch.cat([decoded.core_nk, decoded.latent16_nmgg.flatten(1)], dim=1)


@pytest.mark.parametrize("which", ["toy", pytest.param("shipped", marks=pytest.mark.slow)])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    num_frames=st.integers(1, 6),
    num_threads=st.integers(1, 4),
    is_channels_last=st.booleans(),
)
def test_no_circumstance_changes_a_bit(
    toy: DicmCodec,
    which: str,
    seed: int,
    size: tuple[int, int],
    num_frames: int,
    num_threads: int,
    is_channels_last: bool,
) -> None:
    """All at once, for latents of every magnitude up to a million, against one frame at a time on one thread."""
    codec = toy if which == "toy" else shipped_codec(1)
    grid = latent_grid(*size)
    y_nchw, z_nchw = random_latents(codec.networks.config, num_frames, grid=grid, seed=seed)
    with torch_threads(1):
        alone = [codec.bitstream.encode(y_nchw[n : n + 1], z_nchw[n : n + 1])[0] for n in range(num_frames)]
        symbols = [codec.bitstream.decode([stream], grid, device="cpu") for stream in alone]
    if is_channels_last:
        y_nchw, z_nchw = (x_nchw.contiguous(memory_format=torch.channels_last) for x_nchw in (y_nchw, z_nchw))

    with torch_threads(num_threads):
        assert codec.bitstream.encode(y_nchw, z_nchw) == alone
        assert torch.equal(codec.bitstream.decode(alone, grid, device="cpu"), torch.cat(symbols))


class TestPredictedFramesAreExact:
    """Streams of a segment whose frames lean on those before them, with the shipped checkpoint."""

    GRID = LatentGrid(7, 9)
    version: ClassVar = 2
    """Of the streams."""

    def latents(self, num_frames: int) -> tuple[Tensor, Tensor]:
        """Make latents that drift, here and there."""
        generator = torch.Generator().manual_seed(7)
        config = shipped_codec(self.version).networks.config
        steps = torch.randn(num_frames, config.latent, 7, 9, generator=generator) * 4
        steps[1:] *= torch.rand(num_frames - 1, 1, 7, 9, generator=generator) < 0.15
        z_nchw = torch.randn(
            num_frames, config.hyper, self.GRID.hyper_height, self.GRID.hyper_width, generator=generator
        )
        return steps.cumsum(0), (3 * z_nchw).round()

    def encode(self, y_nchw: Tensor, z_nchw: Tensor, *, frames_a_call: int = 12) -> tuple[list[bytes], Tensor]:
        """Return a segment's streams, and the last latent that its encoder keeps."""
        video, state, streams = shipped_codec(self.version).video, SegmentState(), []
        assert video is not None
        for first in range(0, len(y_nchw), frames_a_call):
            call = slice(first, first + frames_a_call)
            streams += video.encode(
                state, y_nchw[call], z_nchw[call], rule=SkipRule(), brightness_nyx=self.brightness(len(y_nchw), call)
            )
        assert state.latent16_mhw is not None
        return streams, state.latent16_mhw

    def brightness(self, num_frames: int, call: slice) -> Tensor | None:
        """Return what the encoder looks for motion in."""
        return None

    def decode(self, streams: Sequence[bytes], *, frames_a_call: int = 12) -> Tensor:
        """Return a segment's symbols."""
        video, state = shipped_codec(self.version).video, SegmentState()
        assert video is not None
        calls = [streams[first : first + frames_a_call] for first in range(0, len(streams), frames_a_call)]
        return torch.cat([video.decode(state, call, self.GRID, device="cpu") for call in calls])

    def test_the_decoder_sees_what_the_encoder_saw(self) -> None:
        """To the last of many frames: nothing adds up."""
        streams, last16_mhw = self.encode(*self.latents(40))

        assert {shipped_codec(self.version).is_independent(stream) for stream in streams[1:]} == {True, False}
        assert torch.equal(self.decode(streams)[-1], last16_mhw)

    @pytest.mark.parametrize("frames_a_call", [1, 3, 11, 32])
    def test_calls_of_1_to_32_frames_give_the_same_bits(self, frames_a_call: int) -> None:
        latents = self.latents(32)
        expected, _ = self.encode(*latents)

        assert self.encode(*latents, frames_a_call=frames_a_call)[0] == expected
        assert torch.equal(self.decode(expected, frames_a_call=frames_a_call), self.decode(expected))

    @pytest.mark.parametrize("num_threads", [1, 2, 3, 4])
    def test_1_to_4_threads_give_the_same_bits(self, num_threads: int) -> None:
        latents = self.latents(12)
        with torch_threads(1):
            expected, symbols = self.encode(*latents)[0], self.decode(self.encode(*latents)[0])

        with torch_threads(num_threads):
            assert self.encode(*latents)[0] == expected
            assert torch.equal(self.decode(expected), symbols)

    def test_memory_layout_changes_no_bit(self) -> None:
        y_nchw, z_nchw = self.latents(12)

        channels_last = [x_nchw.contiguous(memory_format=torch.channels_last) for x_nchw in (y_nchw, z_nchw)]

        assert self.encode(*channels_last)[0] == self.encode(y_nchw, z_nchw)[0]


class TestMovedFramesAreExact(TestPredictedFramesAreExact):
    """The same where most frames are moved: a picture that drifts to the right, and after 20 frames another one."""

    version = 9

    @staticmethod
    @cache
    def frames() -> Tensor:
        """Make the most frames that are asked for."""
        pictures = [texture(seed, 112, 144) for seed in (3, 4)]
        return torch.stack([pictures[number // 20].roll(6 * number, dims=2) for number in range(40)])

    def latents(self, num_frames: int) -> tuple[Tensor, Tensor]:
        """Make latents of few steps, where it pays to be moved."""
        codec = load_dicm(CodecSpec(name="dicm", quality=4))
        return codec.latents(self.frames()[:num_frames])

    def brightness(self, num_frames: int, call: slice) -> Tensor:
        """Return that of the frames."""
        return half_brightness(self.frames()[:num_frames][call])

    def test_frames_are_moved(self) -> None:
        """Else this class would prove nothing."""
        video, state = shipped_codec(self.version).video, SegmentState()
        assert video is not None
        streams, _ = self.encode(*self.latents(12))

        frames = [video.decode_all(state, stream, self.GRID, device="cpu") for stream in streams]

        assert sum(frame.motion is not None for frame in frames) > 6


class TestFramesWithABackgroundAreExact(TestMovedFramesAreExact):
    """The same where vectors may point to the background."""

    version = 13


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    is_of_background=st.booleans(),
    seed=st.integers(0, 2**32),
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    num_threads=st.integers(1, 4),
    frames_a_call=st.integers(1, 6),
)
def test_no_circumstance_changes_a_bit_of_moved_frames(
    moving: DicmCodec,
    settling: DicmCodec,
    is_of_background: bool,
    seed: int,
    size: tuple[int, int],
    num_threads: int,
    frames_a_call: int,
) -> None:
    """For vectors of all lengths, and latents of every magnitude up to a million."""
    grid, state, codec = latent_grid(*size), SegmentState(), settling if is_of_background else moving
    num_frames = 14 if is_of_background else 6
    assert codec.video is not None
    with torch_threads(1):
        streams, coded_nmhw = random_segment(codec, num_frames, grid=grid, seed=seed)

    with torch_threads(num_threads):
        again, _ = random_segment(codec, num_frames, grid=grid, seed=seed)
        decoded = [
            codec.video.decode(state, streams[first : first + frames_a_call], grid, device="cpu")
            for first in range(0, num_frames, frames_a_call)
        ]

    assert again == streams
    assert torch.equal(torch.cat(decoded), coded_nmhw)
