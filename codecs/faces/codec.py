"""The codec `dicm+hsc`: frames -> bitstreams -> features, as DICM does it, with the faces in them as HSC codes them.

::

    frame's stream --split--> stream of the frame --DICM--> features [N,C,ceil(H/4),ceil(W/4)]
                        |---> regions and streams of faces --HSC--> faces [K,3,R,R], for those who ask for them

Which faces a frame has is for a detector to say: streams are joined where there is one. Letters in shapes: N frames,
K faces of one, C channels of features, H and W pixels, R those of a face's side.
"""

import threading
from collections.abc import Sequence

from torch import Tensor

from framevault.codecs.base import Changes, Encoder, Thinner, check_size
from framevault.codecs.dicm.codec import DicmCodec, DicmDecoder, load_dicm
from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.faces.framing import join_stream, split_stream, split_streams
from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.spec import CodecSpec, frames_spec


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
        return FacesThinner(self._frames, height=height, width=width, slices=slices)

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
    """Thins one segment's frames, and keeps their faces; not thread-safe."""

    def __init__(self, codec: DicmCodec, *, height: int, width: int, slices: int) -> None:
        """Begin a segment; arguments as of `SupportsThinning.thinner`, errors, too."""
        self._codec = codec
        self._height = height
        self._width = width
        self._slices = slices
        self._thinner = self._begin()

    def thin(self, streams: Sequence[bytes]) -> list[bytes]:
        """Thin the segment's next streams; see `Thinner.thin`."""
        try:
            parts = split_streams(streams)
        except BitstreamError:
            self._thinner = self._begin()
            raise
        frames = self._thinner.thin([part.frame for part in parts])
        return [join_stream(frame, part.faces) for frame, part in zip(frames, parts, strict=True)]

    def _begin(self) -> Thinner:
        return self._codec.thinner(height=self._height, width=self._width, slices=self._slices)
