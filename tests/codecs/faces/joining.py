"""Frames with made-up faces: what the codec of both needs no detector for."""

import random
from dataclasses import dataclass

from torch import Tensor

from framevault.codecs.base import Encoder
from framevault.codecs.faces.codec import FacesCodec
from framevault.codecs.faces.framing import CodedFace, FaceRegion, join_stream


def made_up_faces(seed: int, *, number: int) -> list[CodedFace]:
    """Return faces anywhere in and around a small frame, whose streams are no HSC streams."""
    rng = random.Random(seed)
    return [
        CodedFace(
            region=FaceRegion(
                x_min=rng.uniform(-20, 60),
                y_min=rng.uniform(-20, 60),
                side=rng.uniform(1, 90),
                angle_degrees=rng.uniform(0, 360),
                score=rng.random(),
                is_outside=rng.random() < 0.5,
            ),
            stream=rng.randbytes(rng.randint(0, 150)),
        )
        for _ in range(number)
    ]


def with_faces(streams: list[bytes], *, first: int = 0) -> list[bytes]:
    """Join streams of frames with faces: none in the first one, one in the second, and so on to three."""
    return [
        join_stream(stream, made_up_faces(number, number=number % 4)) for number, stream in enumerate(streams, first)
    ]


@dataclass(slots=True)
class JoiningEncoder:
    """Puts the same faces into every segment."""

    frames: Encoder
    """Encodes the frames."""
    num_frames: int = 0
    """So far."""

    def encode(self, frames_nchw: Tensor) -> list[bytes]:
        """Encode frames; see `Encoder.encode`."""
        streams = with_faces(self.frames.encode(frames_nchw), first=self.num_frames)
        self.num_frames += len(streams)
        return streams


class JoiningCodec(FacesCodec):
    """The codec with an encoder."""

    def encoder(self, *, height: int, width: int) -> JoiningEncoder:
        """Start encoding a segment."""
        return JoiningEncoder(self.frames.encoder(height=height, width=width))
