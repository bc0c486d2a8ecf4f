"""The codec `dicm+hsc`: frames -> bitstreams -> features, as DICM does it, with the faces in them as HSC codes them.

::

    frame's stream --split--> stream of the frame --DICM--> features [N,C,ceil(H/4),ceil(W/4)]
                        |---> regions and streams of faces --HSC--> faces [K,3,R,R], for those who ask for them

Which faces a frame has is for a detector to say: streams are joined where there is one. Letters in shapes: N frames,
K faces of one, C channels of features, H and W pixels, R those of a face's side.
"""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from framevault.codecs.base import Changes, Encoder, Thinner, check_size
from framevault.codecs.dicm.codec import DicmCodec, DicmDecoder, load_dicm
from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.faces.framing import CodedFace, SplitStream, join_stream, split_stream, split_streams
from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.spec import CodecSpec, frames_spec

FACES_AT_ONCE = 64
"""Faces that are thinned in one call, at most."""

_STREAM_OF_CALL = re.compile(r"stream (\d+) of the call: ")
"""What every decoder's error begins with."""


def load_faces(spec: CodecSpec) -> "FacesCodec":
    """Load what decodes frames onto its device; what decodes faces comes when it is asked for.

    Raises:
        CheckpointError: A checkpoint is missing, damaged, or another codec's.
        GoldenMismatchError: This machine computes other symbols than the one that made the checkpoint.
    """
    return FacesCodec(spec, load_dicm(frames_spec(spec)))


class FacesCodec:
    """A checkpoint for frames and one for faces, each at one quality; thread-safe."""

    def __init__(self, spec: CodecSpec, frames: DicmCodec) -> None:
        """Take the parts.

        Args:
            spec: What it is loaded from.
            frames: What codes frames.
        """
        assert spec.faces is not None
        self._spec = spec
        self._frames = frames
        self._faces_spec = spec.faces
        self._faces: HscCodec | None = None
        self._loading = threading.Lock()

    @property
    def spec(self) -> CodecSpec:
        """What it was loaded from."""
        return self._spec

    @property
    def frames(self) -> DicmCodec:
        """What codes frames."""
        return self._frames

    @property
    def faces(self) -> HscCodec:
        """What codes faces; loaded when it is first asked for, since who reads features needs none.

        Raises:
            CheckpointError: The checkpoint is missing, damaged, or not of this codec.
            GoldenMismatchError: This machine computes other symbols than the one that made the checkpoint.
        """
        with self._loading:
            if self._faces is None:
                self._faces = load_hsc(self._faces_spec)
            return self._faces

    @property
    def num_slices(self) -> int:
        """Slices of the frames' streams; see `SupportsThinning.num_slices`."""
        return self._frames.num_slices

    def is_independent(self, stream: bytes) -> bool:
        """Say whether a frame decodes without those before it; faces always do."""
        return self._frames.is_independent(split_stream(stream).frame)

    def thinner(self, *, height: int, width: int, slices: int) -> "FacesThinner":
        """Start thinning a segment's frames, with their faces as they are; see `SupportsThinning.thinner`."""
        return self.part_thinner(height=height, width=width, slices=slices)

    def part_thinner(
        self, *, height: int, width: int, slices: int | None = None, face_slices: int | None = None
    ) -> "FacesThinner":
        """Start thinning a segment's frames, its faces, or both.

        Args:
            height: Of the frames, in pixels.
            width: Of the frames, in pixels.
            slices: Slices of the frames to keep, 0 to `num_slices` - 1; None leaves their streams as they are.
            face_slices: Slices of each face to keep, fewer than they have; None leaves their streams as they are.

        Raises:
            CodecError: There are no more slices than that, or the size is impossible.
            CheckpointError: The checkpoint of faces is missing, damaged, or not of this codec.
            GoldenMismatchError: This machine computes other symbols than the one that made that checkpoint.
        """
        begin = None
        if slices is not None:
            begin = partial(self._frames.thinner, height=height, width=width, slices=slices)
        faces = None
        if face_slices is not None:
            # Faces are squares of the domain's, whatever the frames' size: what is thinned doesn't know it.
            faces = self.faces.thinner(height=1, width=1, slices=face_slices)
        return FacesThinner(begin, faces)

    def encoder(self, *, height: int, width: int) -> Encoder:
        """Refuse to encode: which faces there are is not for a codec to say.

        Raises:
            CodecError: Always.
        """
        check_size(height=height, width=width)
        raise CodecError(
            f"codec {self._spec.name!r} codes faces that a detector finds, and knows none: encode with FaceEncoder of "
            "workers/face_encoder.py"
        )

    def decoder(self, *, height: int, width: int) -> "FacesDecoder":
        """Start decoding a segment's frames to features."""
        return FacesDecoder(self._frames, height=height, width=width)


class FacesDecoder:
    """Decodes one segment's frames to features or latents, and passes over their faces; not thread-safe."""

    def __init__(self, codec: DicmCodec, *, height: int, width: int) -> None:
        """Begin a segment.

        Args:
            codec: What decodes frames.
            height: Of each frame, in pixels.
            width: Of each frame, in pixels.
        """
        self._codec = codec
        self._height = height
        self._width = width
        self._decoder = self._begin()

    def decode(self, streams: Sequence[bytes]) -> Tensor:
        """Decode features float32 [N, C, ceil(H/4), ceil(W/4)]; see `Decoder.decode`."""
        return self._decoder.decode(self._frames_in(streams))

    def decode_changes(self, streams: Sequence[bytes]) -> Changes:
        """Decode the features of frames that differ from the one before; see `SupportsRepeats.decode_changes`."""
        return self._decoder.decode_changes(self._frames_in(streams))

    def decode_latent_changes(self, streams: Sequence[bytes]) -> Changes:
        """Decode the latents alone; see `SupportsLatents.decode_latent_changes`."""
        return self._decoder.decode_latent_changes(self._frames_in(streams))

    def _frames_in(self, streams: Sequence[bytes]) -> list[bytes]:
        """Return the streams of frames alone; if one can't be had, nothing before it is leant on any more."""
        try:
            return [split.frame for split in split_streams(streams)]
        except BitstreamError:
            self._decoder = self._begin()
            raise

    def _begin(self) -> DicmDecoder:
        return self._codec.decoder(height=self._height, width=self._width)


class FacesThinner:
    """Thins one segment's frames, the faces in them, or both; not thread-safe."""

    def __init__(self, begin_frames: Callable[[], Thinner] | None, faces: Thinner | None) -> None:
        """Begin a segment.

        Args:
            begin_frames: Starts thinning the frames, now and where they can't go on; None keeps them as they are.
            faces: Thins faces; None keeps them as they are.
        """
        self._begin_frames = begin_frames
        self._frames = None if begin_frames is None else begin_frames()
        self._faces = faces

    def thin(self, streams: Sequence[bytes]) -> list[bytes]:
        """Thin the segment's next streams; see `Thinner.thin`."""
        try:
            parts = split_streams(streams)
            faces = [part.faces for part in parts] if self._faces is None else _thin_faces(parts, self._faces)
        except BitstreamError:
            self._frames = None if self._begin_frames is None else self._begin_frames()
            raise
        frames = [part.frame for part in parts]
        if self._frames is not None:
            frames = self._frames.thin(frames)
        return [join_stream(frame, each) for frame, each in zip(frames, faces, strict=True)]


def _thin_faces(parts: Sequence[SplitStream], thinner: Thinner) -> list[list[CodedFace]]:
    """Return the thinned faces of each stream of a call."""
    found: list[list[CodedFace]] = [[] for _ in parts]
    places = [(number, face) for number, part in enumerate(parts) for face in part.faces]
    for first in range(0, len(places), FACES_AT_ONCE):
        some = places[first : first + FACES_AT_ONCE]
        try:
            streams = thinner.thin([face.stream for _, face in some])
        except BitstreamError as error:
            raise _name_face(error, first, parts) from error
        for (number, face), stream in zip(some, streams, strict=True):
            found[number].append(replace(face, stream=stream))
    return found


def _name_face(error: BitstreamError, first: int, parts: Sequence[SplitStream]) -> BitstreamError:
    """Return the error with the place of the face in place of its number among those thinned together.

    Args:
        error: Names a stream of the call that began with face number `first` of all.
        first: That number.
        parts: The streams that faces are of.
    """
    told = _STREAM_OF_CALL.match(str(error))
    assert told is not None
    places = [(number, face_number) for number, part in enumerate(parts) for face_number in range(len(part.faces))]
    number, face_number = places[first + int(told[1])]
    return BitstreamError(f"stream {number} of the call: face {face_number}: {str(error)[told.end() :]}")
