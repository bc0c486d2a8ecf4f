"""From a stored segment to the features of its frames: what every task on features begins with.

::

    pack -> codec.decode -> features [N, C, h, w]

A frame that is damaged costs itself and those that are coded against it; the others are read, and what is lost is said.
No pixels are made. The one exception is a vault of codec `raw`, which holds nothing but pixels: there the head of the
backbone makes the features, so that a raw vault gives the upper bound of what a task can find.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from framevault.codecs.base import Changes, SupportsLatents, SupportsRepeats
from framevault.codecs.dicm.codec import DicmCodec
from framevault.codecs.errors import BitstreamError
from framevault.codecs.spec import CodecSpec
from framevault.storage.packs import Pack, PackHeader
from framevault.storage.store import ObjectRef
from framevault.workers.loaded_codecs import LoadedCodecs
from framevault.workers.salvage import FeatureDecoder, FrameFault, SegmentRun
from framevault.workers.stored_specs import ONLY_SHIPPED, WeightsSources
from framevault.workers.weights import check_latents

ResultT = TypeVar("ResultT")

FEATURE_PIXELS_PER_BATCH = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Most pixels whose features go through the networks in one call, by kind of device."""

PixelHead = Callable[[Tensor], Tensor]
"""Gives the features of frames, RGB uint8 [N, 3, H, W]: what a perfect codec would decode to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSegment:
    """One stored segment to look through: the task of every job on features."""

    segment_id: str
    """Its id."""
    video_id: str
    """Of the video that it was cut from."""
    run_fp: str
    """Of the compression that made it."""
    pack: ObjectRef
    """Where its streams are."""
    num_frames: int
    """How many there are."""

    @property
    def task_id(self) -> str:
        """The executor's name for it."""
        return self.segment_id


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSettings:
    """How features are made; it pickles."""

    device: str
    """A torch device."""
    batch_size: int
    """Most frames that go through the networks in one call."""
    weights: WeightsSources = ONLY_SHIPPED
    """Where checkpoints that packs were made with are looked for, besides the shipped one."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBatch:
    """The features of some consecutive frames, those of equal neighbours once."""

    frame_numbers: range
    """The frames."""

    features_nchw: Tensor
    """Of frames that differ from the one before, float32 [K, C, h, w], on the device; K may be 0."""
    rows: tuple[int, ...]
    """For each frame, which features are its own, counted over all batches of the segment."""
    decode_s: float
    """Seconds that it took to make them."""


@dataclass(frozen=True, slots=True, eq=False)
class Looked(Generic[ResultT]):
    """What a network made of a segment's features."""

    results: list[ResultT]
    """What it returned, a call a batch in which something differs."""
    frame_numbers: list[int]
    """Frames that could be decoded, rising."""
    rows: list[int]
    """For each of them, which of the segment's distinct features are its own."""
    faults: tuple[FrameFault, ...]
    """The other frames."""
    decode_s: float
    """Seconds from streams to features."""
    network_s: float
    """Seconds in the network."""


def look_over(batches: Iterable[FeatureBatch | FrameFault], network: Callable[[Tensor], ResultT]) -> Looked[ResultT]:
    """Run a network over a segment's features; frames that equal the one before are not looked at again.

    Raises:
        BitstreamError: Not a single frame can be decoded.
    """
    results: list[ResultT] = []
    frame_numbers: list[int] = []
    rows: list[int] = []
    faults: list[FrameFault] = []
    decode_s = network_s = 0.0
    for batch in batches:
        if isinstance(batch, FrameFault):
            faults.append(batch)
            continue
        start = time.perf_counter()
        if len(batch.features_nchw):
            results.append(network(batch.features_nchw))
        frame_numbers += batch.frame_numbers
        rows += batch.rows
        decode_s += batch.decode_s
        network_s += time.perf_counter() - start
    if not frame_numbers:
        raise BitstreamError(f"no frame can be decoded: {faults[0]}")
    return Looked(results, frame_numbers, rows, tuple(faults), decode_s, network_s)


class FeatureReader:
    """Decodes segments to features; thread-safe. Codecs are loaded when the first pack of theirs comes."""

    def __init__(
        self, settings: FeatureSettings, *, head: PixelHead | None = None, latents_of: str | None = None
    ) -> None:
        """Take the settings.

        Args:
            settings: How features are made.
            head: Makes them from the pixels of a raw vault; None takes the shipped codec's.
            latents_of: SHA-256 of the codec checkpoint whose latents are given in the place of features, [N, M, h, w];
                None gives features.
        """
        self._settings = settings
        self._own_head = head
        self._latents_of = latents_of
        self._codecs = LoadedCodecs(device=settings.device, weights=settings.weights)

    def batches(self, pack: Pack) -> Iterator[FeatureBatch | FrameFault]:
        """Give the features of all frames of a segment, in order; of damaged ones, what is wrong.

        Where nothing moved, a frame has the features of the one before it, and whatever is made of them.

        Raises:
            CodecError: The pack was made with weights that are not here, or not those whose latents are wanted.
        """
        header = pack.header
        run = SegmentRun(pack, lambda: self._decoder(header), batch_size=self._batch_size(header))
        num_distinct = 0
        while not run.is_over:
            start = time.perf_counter()
            step = run.advance()
            if isinstance(step, FrameFault):
                yield step
                continue
            numbers, changes = step
            rows = tuple(num_distinct + row for row in changes.rows)
            num_distinct += len(changes.decoded)
            yield FeatureBatch(numbers, changes.decoded, rows, time.perf_counter() - start)

    def shipped_head(self) -> DicmCodec:
        """Load what makes the shipped codec's features from pixels, once."""
        codec = self._codecs.load(CodecSpec(name="dicm", device=self._settings.device))
        assert isinstance(codec, DicmCodec)
        return codec

    def _decoder(self, header: PackHeader) -> FeatureDecoder:
        codec = self._codecs.of(header)
        decoder = codec.decoder(height=header.coded_height, width=header.coded_width)
        if self._latents_of is not None:
            check_latents(codec.spec, self._latents_of, name=f"segment {header.segment_id}")
            assert isinstance(decoder, SupportsLatents)
            return decoder.decode_latent_changes
        if isinstance(decoder, SupportsRepeats):
            return decoder.decode_changes
        decode = decoder.decode
        if codec.spec.row.decodes_to == "features":
            return lambda streams: _all_differ(decode(streams))
        head = self._own_head or self.shipped_head().head_features
        return lambda streams: _all_differ(head(decode(streams)))

    def _batch_size(self, header: PackHeader) -> int:
        kind = torch.device(self._settings.device).type
        budget = FEATURE_PIXELS_PER_BATCH.get(kind, FEATURE_PIXELS_PER_BATCH["cpu"])
        return max(1, min(self._settings.batch_size, budget // (header.coded_height * header.coded_width)))


def _all_differ(features_nchw: Tensor) -> Changes:
    return Changes(decoded=features_nchw, rows=tuple(range(len(features_nchw))))
