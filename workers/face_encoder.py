"""Frames, and the faces in them, to streams of a codec with faces.

::

    frames u8 [N,3,H,W] --dicm--> streams --dicm--> features -> finder -> squares
        `-----------------------------------------------------------cut----'-> faces u8 [K,3,R,R] --hsc--> streams
    stream of a frame and streams of its faces -> one stream

Faces are looked for in what a reader will decode, not in the pixels: whoever looks into the vault finds them where they
are coded. Letters in shapes: N frames, H and W pixels, K faces, R pixels of their side.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from framevault.codecs.faces.codec import FacesCodec
from framevault.codecs.faces.framing import CodedFace, FaceRegion, join_stream
from framevault.codecs.faces.geometry import cut_faces
from framevault.workers.face_finder import FaceFinder, FoundFaces

FACES_AT_ONCE = {"cpu": 16, "cuda": 256}
"""Faces that go through the networks in one call, at most, by kind of device."""

NOBODY = FoundFaces((), 0)
"""What is found in a frame that is not looked through."""


@dataclass(slots=True)
class FaceCounts:
    """What came of a segment's faces so far."""

    num_faces: int = 0
    """Faces that were coded."""
    num_outside: int = 0
    """Those of them that are outside the domain of what codes them."""
    num_left_out: int = 0
    """Faces that were found and not coded: there were too many in their frames."""
    num_small: int = 0
    """Faces that were found and not coded: they are smaller than wanted."""


class FaceEncoder:
    """Encodes one segment; not thread-safe."""

    def __init__(
        self, codec: FacesCodec, finder: FaceFinder, *, height: int, width: int, is_searched: Iterable[bool]
    ) -> None:
        """Start encoding a segment.

        Args:
            codec: What codes frames and faces.
            finder: What finds faces.
            height: Of each frame, in pixels.
            width: Of each frame, in pixels.
            is_searched: Whether faces are looked for in the segment's frames, in their order; as many as there are.

        Raises:
            CodecError: The size is impossible.
        """
        self._finder = finder
        self._height = height
        self._width = width
        self._is_searched = iter(is_searched)
        self._frames_encoder = codec.frames.encoder(height=height, width=width)
        self._decoder = codec.frames.decoder(height=height, width=width)
        self._features_before: Tensor | None = None
        self._side = codec.faces.networks.config.resolution
        self._faces_encoder = codec.faces.encoder(height=self._side, width=self._side)
        self._faces_at_once = FACES_AT_ONCE.get(torch.device(codec.spec.device).type, FACES_AT_ONCE["cpu"])
        self.counts = FaceCounts()
        """What came of its faces so far."""

    def encode(self, frames_nchw: Tensor) -> list[bytes]:
        """Encode the segment's next frames with their faces; see `Encoder.encode`."""
        streams = self._frames_encoder.encode(frames_nchw)
        found = self._find(streams)
        coded = iter(self._code(frames_nchw, found))
        self.counts.num_left_out += sum(each.num_left_out for each in found)
        self.counts.num_small += sum(each.num_small for each in found)
        return [
            join_stream(stream, [next(coded) for _ in each.regions])
            for stream, each in zip(streams, found, strict=True)
        ]

    def _find(self, streams: Sequence[bytes]) -> list[FoundFaces]:
        """Return the faces of each frame. Frames that equal the one before are looked through once."""
        is_searched = [next(self._is_searched) for _ in streams]
        changes = self._decoder.decode_changes(streams)
        rows = sorted({row for row, searched in zip(changes.rows, is_searched, strict=True) if searched})
        found: dict[int, FoundFaces] = {}
        if rows:
            features_nchw = torch.cat([self._features_of(changes.decoded, row) for row in rows])
            faces = self._finder(features_nchw, height=self._height, width=self._width)
            found = dict(zip(rows, faces, strict=True))
        if len(changes.decoded):
            self._features_before = changes.decoded[-1:].clone()  # a view would keep the others
        pairs = zip(changes.rows, is_searched, strict=True)
        return [found[row] if searched else NOBODY for row, searched in pairs]

    def _features_of(self, features_nchw: Tensor, row: int) -> Tensor:
        """Return one frame's features, [1, C, h, w]; row -1 is the last frame of the call before."""
        if row >= 0:
            return features_nchw[row : row + 1]
        assert self._features_before is not None
        return self._features_before

    def _code(self, frames_nchw: Tensor, found: Sequence[FoundFaces]) -> list[CodedFace]:
        """Return the coded faces of frames, one after the other."""
        coded: list[CodedFace] = []
        places = [(number, region) for number, each in enumerate(found) for region in each.regions]
        for first in range(0, len(places), self._faces_at_once):
            coded += self._code_some(frames_nchw, places[first : first + self._faces_at_once])
        return coded

    def _code_some(self, frames_nchw: Tensor, places: Sequence[tuple[int, FaceRegion]]) -> list[CodedFace]:
        """Code faces together; each place is a frame's number and where in it the face is."""
        faces = [cut_faces(frames_nchw[number], [region], side=self._side) for number, region in places]
        streams, are_outside = self._faces_encoder.encode_checked(torch.cat(faces))
        self.counts.num_faces += len(streams)
        self.counts.num_outside += sum(are_outside)
        return [
            CodedFace(region=replace(region, is_outside=is_outside), stream=stream)
            for (_, region), stream, is_outside in zip(places, streams, are_outside, strict=True)
        ]
