"""What every codec must do: tests to subclass, one class a codec.

`CodecTests` holds it to the protocol, `ExactnessTests` to the same bits whatever the circumstances.
"""

import dataclasses
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from framevault.codecs.base import Codec, SupportsThinning
from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec, codec_fingerprint, thinned

ODD_SIZES = [(1, 1), (17, 33), (16, 200), (65, 64)]
"""Height and width of frames that fit no stride."""


def smooth_frames(num_frames: int, height: int, width: int) -> Tensor:
    """Make frames with some structure, uint8 [N, 3, H, W]: waves that move to the right."""
    y = torch.arange(height)[:, None] / 9
    x = torch.arange(width)[None, :] / 7
    planes = [torch.sin(x + y * k + n / 3) for n in range(num_frames) for k in (0, 1, 2)]
    return (torch.stack(planes) * 100 + 128).byte().reshape(num_frames, 3, height, width)


@contextmanager
def torch_threads(num_threads: int) -> Iterator[None]:
    """Give torch and the entropy coder so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class CodecTests:
    """Subclass it, set `spec`, and the codec is held to the protocol."""

    spec: CodecSpec
    """The codec under test."""

    tolerance = 1e-4
    """How far values may differ that were decoded in other batches; 1 where floats are rounded to pixels."""

    @pytest.fixture(scope="class")
    @classmethod
    def codec(cls) -> Codec:
        """The codec, loaded once a class."""
        return load_codec(cls.spec)

    def expected_shape(self, num_frames: int, height: int, width: int) -> tuple[int, ...]:
        """Say what decoding must give."""
        if self.spec.row.decodes_to == "frames":
            return (num_frames, 3, height, width)
        return (num_frames, 24, -(-height // 4), -(-width // 4))

    @pytest.mark.parametrize(("height", "width"), ODD_SIZES)
    def test_decode_gives_the_declared_shape_at_odd_sizes(self, codec: Codec, height: int, width: int) -> None:
        """Sizes that fit no stride come back whole."""
        frames = smooth_frames(2, height, width)

        streams = codec.encoder(height=height, width=width).encode(frames)
        decoded = codec.decoder(height=height, width=width).decode(streams)

        assert tuple(decoded.shape) == self.expected_shape(2, height, width)

    def test_the_same_frames_give_the_same_streams(self, codec: Codec) -> None:
        """Encoding is deterministic on one machine."""
        frames = smooth_frames(3, 48, 80)

        first = codec.encoder(height=48, width=80).encode(frames)
        second = codec.encoder(height=48, width=80).encode(frames.clone())

        assert first == second

    def test_streams_decode_alike_alone_and_together(self, codec: Codec) -> None:
        """How streams are cut into calls changes the result in the last decimals at most."""
        streams = codec.encoder(height=48, width=80).encode(smooth_frames(3, 48, 80))

        together = codec.decoder(height=48, width=80).decode(streams)
        decoder = codec.decoder(height=48, width=80)
        alone = torch.cat([decoder.decode([stream]) for stream in streams])

        # Synthesis is float: convolutions may sum in another order for another batch size.
        torch.testing.assert_close(together.float(), alone.float(), rtol=1e-4, atol=self.tolerance)

    def test_no_frames_give_no_streams(self, codec: Codec) -> None:
        """An empty call is allowed on both sides."""
        frames = torch.zeros((0, 3, 8, 8), dtype=torch.uint8)

        assert codec.encoder(height=8, width=8).encode(frames) == []
        assert codec.decoder(height=8, width=8).decode([]).shape[0] == 0

    @pytest.mark.parametrize(
        "make",
        [
            lambda: torch.zeros((1, 3, 8, 9), dtype=torch.uint8),
            lambda: torch.zeros((1, 3, 8, 8)),
            lambda: torch.zeros((3, 8, 8), dtype=torch.uint8),
        ],
    )
    def test_wrong_frames_are_refused(self, codec: Codec, make: Callable[[], Tensor]) -> None:
        """Another size, type or rank is an error that says what was expected."""
        with pytest.raises(CodecError, match=r"frames must be uint8 \[N, 3, 8, 8\]"):
            codec.encoder(height=8, width=8).encode(make())

    @pytest.mark.parametrize("size", [(0, 8), (8, 0), (8, 65536), (2**31, 8)])
    def test_impossible_sizes_are_refused(self, codec: Codec, size: tuple[int, int]) -> None:
        """A size that no frame has is refused before anything is allocated."""
        with pytest.raises(CodecError, match="1 to 65535 pixels"):
            codec.decoder(height=size[0], width=size[1])

    @pytest.mark.parametrize("size", [(65535, 65535), (8192, 8193), (65535, 1025)])
    def test_sizes_beyond_what_may_be_allocated_are_refused(self, codec: Codec, size: tuple[int, int]) -> None:
        """A few bytes may stand for a large frame, so what they declare is bounded."""
        for make in (codec.encoder, codec.decoder):
            with pytest.raises(CodecError, match=f"at most 67108864 pixels, got {size[1]} x {size[0]}"):
                make(height=size[0], width=size[1])

    def test_the_encoder_takes_frames_in_any_memory_layout(self, codec: Codec) -> None:
        """A view gives the same streams as a copy."""
        strided = smooth_frames(4, 48, 160)[::2, :, :, ::2]

        expected = codec.encoder(height=48, width=80).encode(strided.contiguous())

        for frames in (strided, strided.contiguous(memory_format=torch.channels_last)):
            assert codec.encoder(height=48, width=80).encode(frames) == expected

    @pytest.mark.parametrize("damage", [b"\x00", b"\xff" * 7, b"\x00" * 99])
    def test_a_stream_that_is_no_stream_is_named(self, codec: Codec, damage: bytes) -> None:
        """The error says which stream of the call it is."""
        good = codec.encoder(height=16, width=16).encode(smooth_frames(1, 16, 16))[0]

        with pytest.raises(BitstreamError, match="stream 1 of the call"):
            codec.decoder(height=16, width=16).decode([good, damage])

    def test_damaged_streams_end_in_an_error_or_a_frame(self, codec: Codec) -> None:
        """Flipped, cut and repeated bytes never hang, crash or change the shape."""
        stream = codec.encoder(height=48, width=80).encode(smooth_frames(1, 48, 80))[0]
        generator = torch.Generator().manual_seed(1)
        decoder = codec.decoder(height=48, width=80)
        outcomes = set()

        for _ in range(60):
            damaged = bytearray(stream)
            position = int(torch.randint(len(damaged), (1,), generator=generator))
            damaged[position] ^= 1 << int(torch.randint(8, (1,), generator=generator))
            for candidate in (bytes(damaged), stream[:position], stream + stream[:position]):
                try:
                    outcomes.add(tuple(decoder.decode([candidate]).shape))
                except BitstreamError:
                    outcomes.add(())

        assert outcomes <= {(), self.expected_shape(1, 48, 80)}

    def test_the_spec_pickles(self) -> None:
        """It is what crosses processes."""
        assert pickle.loads(pickle.dumps(self.spec)) == self.spec  # noqa: S301  # our own bytes

    def test_the_fingerprint_is_a_sha256_that_ignores_the_device(self) -> None:
        """A GPU's streams decode on a CPU: same fingerprint."""
        elsewhere = dataclasses.replace(self.spec, device="cuda")

        assert codec_fingerprint(elsewhere) == codec_fingerprint(self.spec)
        assert len(bytes.fromhex(codec_fingerprint(self.spec))) == 32


class ThinningTests:
    """Subclass it, set `spec`, and the codec's thinning is held to `SupportsThinning`."""

    spec: CodecSpec
    """The codec under test, whose streams are whole."""

    size: ClassVar[dict[str, int]] = {"height": 64, "width": 112}
    """Of frames."""

    @pytest.fixture(scope="class")
    @classmethod
    def codec(cls) -> Codec:
        """The codec, loaded once a class."""
        return load_codec(cls.spec)

    @pytest.fixture(scope="class")
    @classmethod
    def streams(cls, codec: Codec) -> list[bytes]:
        """Streams of a few frames."""
        return codec.encoder(**cls.size).encode(smooth_frames(5, **cls.size))

    def num_slices(self, codec: Codec) -> int:
        """Return how many slices streams have."""
        assert isinstance(codec, SupportsThinning)
        return codec.num_slices

    def thin(self, codec: Codec, streams: Sequence[bytes], *, slices: int) -> list[bytes]:
        """Thin a segment in one call."""
        assert isinstance(codec, SupportsThinning)
        return codec.thinner(**self.size, slices=slices).thin(streams)

    def test_every_prefix_decodes_and_fewer_slices_take_no_more_bytes(self, codec: Codec, streams: list[bytes]) -> None:
        """From none to all but one."""
        sizes = []
        whole = codec.decoder(**self.size).decode(streams)

        for slices in range(self.num_slices(codec)):
            thin_streams = self.thin(codec, streams, slices=slices)
            reader = load_codec(thinned(self.spec, slices=slices))
            decoded = reader.decoder(**self.size).decode(thin_streams)
            assert decoded.shape == whole.shape
            assert bool(decoded.float().isfinite().all())
            sizes.append(sum(map(len, thin_streams)))

        assert sorted([*sizes, sum(map(len, streams))]) == [*sizes, sum(map(len, streams))]

    def test_each_slice_brings_the_decoded_nearer(self, codec: Codec, streams: list[bytes]) -> None:
        """What is dropped last matters most."""
        whole = codec.decoder(**self.size).decode(streams).float()

        errors = [
            float(
                (
                    load_codec(thinned(self.spec, slices=slices)).decoder(**self.size).decode(thin_streams).float()
                    - whole
                )
                .square()
                .mean()
            )
            for slices in range(self.num_slices(codec))
            for thin_streams in [self.thin(codec, streams, slices=slices)]
        ]

        assert errors == sorted(errors, reverse=True)
        assert errors[0] > errors[-1]

    def test_how_streams_are_cut_into_calls_changes_no_byte(self, codec: Codec, streams: list[bytes]) -> None:
        """The thinner keeps what it needs from call to call."""
        assert isinstance(codec, SupportsThinning)
        thinner = codec.thinner(**self.size, slices=1)

        apart = [*thinner.thin(streams[:2]), *thinner.thin([]), *thinner.thin(streams[2:])]

        assert apart == self.thin(codec, streams, slices=1)

    def test_what_decodes_by_itself_still_does(self, codec: Codec, streams: list[bytes]) -> None:
        """Random access stays."""
        reader = load_codec(thinned(self.spec, slices=1))

        found = [reader.is_independent(stream) for stream in self.thin(codec, streams, slices=1)]

        assert found == [codec.is_independent(stream) for stream in streams]

    def test_thinned_streams_can_be_thinned_again(self, codec: Codec, streams: list[bytes]) -> None:
        """But to fewer slices only."""
        most = self.num_slices(codec) - 1
        between = load_codec(thinned(self.spec, slices=most))
        few = self.thin(between, self.thin(codec, streams, slices=most), slices=1)

        decoded = load_codec(thinned(self.spec, slices=1)).decoder(**self.size).decode(few)

        assert len(decoded) == len(streams)
        with pytest.raises(CodecError, match=f"slices must be 0 to {most - 1}.*got {most}"):
            self.thin(between, [], slices=most)
        with pytest.raises(CodecError, match=f"thinned to 1 slices can't be thinned to {most}"):
            thinned(thinned(self.spec, slices=1), slices=most)

    def test_slices_out_of_range_are_refused(self, codec: Codec) -> None:
        """All of them is no thinning."""
        for slices in (-1, self.num_slices(codec), 1000):
            with pytest.raises(CodecError, match=f"slices must be 0 to {self.num_slices(codec) - 1}.*got {slices}"):
                self.thin(codec, [], slices=slices)

    def test_a_damaged_stream_is_named(self, codec: Codec, streams: list[bytes]) -> None:
        """The error says which stream of the call it is."""
        with pytest.raises(BitstreamError, match="stream 1 of the call"):
            self.thin(codec, [streams[0], b"\x00" * 99], slices=1)

    def test_the_fingerprint_says_how_many_slices_there_are(self, codec: Codec) -> None:
        """Streams of different numbers never share a run."""
        specs = [self.spec, *(thinned(self.spec, slices=slices) for slices in range(self.num_slices(codec)))]

        assert len({codec_fingerprint(spec) for spec in specs}) == len(specs)
        assert pickle.loads(pickle.dumps(specs)) == specs  # noqa: S301  # our own bytes


class ExactnessTests(ABC):
    """Subclass it, say what the codec's exact part is, and give it a fixture `codec`.

    The exact part is what decides which bytes mean which symbols. For a codec whose networks are floats it begins
    behind them: what they give may differ between machines, what is stored of it may not.
    """

    @abstractmethod
    def make_inputs(self, codec: Codec, num_frames: int, *, height: int, width: int) -> tuple[Tensor, ...]:
        """Return what the exact part encodes, frames along the first dimension of each tensor [N, C, h, w]."""

    @abstractmethod
    def encode_exactly(self, codec: Codec, inputs: tuple[Tensor, ...]) -> list[bytes]:
        """Encode them."""

    @abstractmethod
    def decode_exactly(self, codec: Codec, streams: Sequence[bytes], *, height: int, width: int) -> Tensor:
        """Return the symbols of streams, frames along the first dimension."""

    @pytest.mark.parametrize("batch_size", [1, 2, 5, 31, 32])
    def test_batches_of_1_to_32_frames_give_the_same_bits(self, codec: Codec, batch_size: int) -> None:
        """However frames are cut into calls."""
        inputs = self.make_inputs(codec, 32, height=50, width=70)
        together = self.encode_exactly(codec, inputs)
        batches = list(zip(*(torch.split(tensor, batch_size) for tensor in inputs), strict=True))

        streams = [stream for batch in batches for stream in self.encode_exactly(codec, batch)]
        symbols = [
            self.decode_exactly(codec, together[first : first + batch_size], height=50, width=70)
            for first in range(0, 32, batch_size)
        ]

        assert streams == together
        assert torch.equal(torch.cat(symbols), self.decode_exactly(codec, together, height=50, width=70))

    @pytest.mark.parametrize("num_threads", [1, 2, 3, 4])
    def test_1_to_4_threads_give_the_same_bits(self, codec: Codec, num_threads: int) -> None:
        """Within torch and among streams."""
        inputs = self.make_inputs(codec, 7, height=120, width=100)
        with torch_threads(1):
            expected = self.encode_exactly(codec, inputs)
            symbols = self.decode_exactly(codec, expected, height=120, width=100)

        with torch_threads(num_threads):
            assert self.encode_exactly(codec, inputs) == expected
            assert torch.equal(self.decode_exactly(codec, expected, height=120, width=100), symbols)

    def test_memory_layout_changes_no_bit(self, codec: Codec) -> None:
        """Channels last, or every other row of something."""
        inputs = self.make_inputs(codec, 3, height=70, width=90)
        expected = self.encode_exactly(codec, inputs)

        channels_last = tuple(tensor.contiguous(memory_format=torch.channels_last) for tensor in inputs)
        strided = tuple(tensor.repeat_interleave(2, dim=2)[:, :, ::2] for tensor in inputs)

        assert self.encode_exactly(codec, channels_last) == expected
        assert self.encode_exactly(codec, strided) == expected

    @pytest.mark.parametrize(("height", "width"), [*ODD_SIZES, (64, 64), (1, 300), (129, 15)])
    def test_sizes_that_fit_no_stride_come_back_whole(self, codec: Codec, height: int, width: int) -> None:
        """Alone and in a batch alike."""
        streams = self.encode_exactly(codec, self.make_inputs(codec, 3, height=height, width=width))

        together = self.decode_exactly(codec, streams, height=height, width=width)

        for number, stream in enumerate(streams):
            alone = self.decode_exactly(codec, [stream], height=height, width=width)
            assert torch.equal(alone[0], together[number])

    def test_threads_that_share_a_codec_do_not_disturb_each_other(self, codec: Codec) -> None:
        """Several segments run at once in a process."""
        inputs = self.make_inputs(codec, 8, height=50, width=70)
        expected = self.encode_exactly(codec, inputs)
        symbols = self.decode_exactly(codec, expected, height=50, width=70)

        def work(number: int) -> bool:
            encoded = self.encode_exactly(codec, tuple(tensor[number:] for tensor in inputs))
            decoded = self.decode_exactly(codec, expected[: number + 1], height=50, width=70)
            return encoded == expected[number:] and torch.equal(decoded, symbols[: number + 1])

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, [0, 1, 2, 3, 4, 5, 6, 7] * 2))
