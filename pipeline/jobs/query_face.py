"""The face that a search begins with: a picture that is one, or the surest on a photo; as if it were stored.

Letters in shapes: H and W pixels of a picture, K core symbols.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from framevault.codecs.base import Codec, SupportsDomainCheck
from framevault.codecs.faces.codec import FacesCodec
from framevault.codecs.faces.framing import CodedFace, split_stream
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.events import Note
from framevault.pipeline.executors.base import EventSink
from framevault.pipeline.exits import PreflightError
from framevault.workers.face_encoder import FaceEncoder
from framevault.workers.face_finder import load_finder
from framevault.workers.face_search import USUAL_SCORE
from framevault.workers.face_vectors import centre_of, core_decoder, to_vectors


def vector_of_face(
    frame_1hwc: NDArray[np.uint8], spec: CodecSpec, *, name: str, on_event: EventSink
) -> NDArray[np.float32]:
    """Return the vector of a picture that shows one face, cut out as the vault's frames are.

    Args:
        frame_1hwc: RGB, uint8 [1, H, W, 3].
        spec: What codes faces.
        name: Of the picture, for messages.
        on_event: Is told what is to be known of it.

    Returns:
        Values float32 [K].
    """
    codec = load_codec(spec)
    height, width = frame_1hwc.shape[1:3]
    encoder = codec.encoder(height=height, width=width)
    assert isinstance(encoder, SupportsDomainCheck)
    (stream,), (is_outside,) = encoder.encode_checked(torch.from_numpy(frame_1hwc).permute(0, 3, 1, 2))
    _warn(name, is_outside=is_outside, on_event=on_event)
    return _vector_of(stream, codec)


def vector_on_photo(
    frame_1hwc: NDArray[np.uint8], spec: CodecSpec, *, name: str, on_event: EventSink
) -> NDArray[np.float32]:
    """Return the vector of the surest face on any picture, found and cut out as the vault's faces are.

    Args:
        frame_1hwc: RGB, uint8 [1, H, W, 3].
        spec: What codes frames and their faces.
        name: Of the picture, for messages.
        on_event: Is told which face was taken, and what else is to be known of it.

    Returns:
        Values float32 [K].

    Raises:
        PreflightError: There is no face on it.
    """
    codec = load_codec(spec)
    assert isinstance(codec, FacesCodec)
    found = _faces_on(frame_1hwc, codec)
    if not found:
        raise PreflightError(f"picture {name}: no face was found on it (score {USUAL_SCORE} or more)")
    best = max(found, key=lambda face: face.region.score)
    region = best.region
    of_several = f", the surest of {len(found)}" if len(found) > 1 else ""
    on_event(
        Note(
            text=f"{name}: took the face in x {region.x_min:g} to {region.x_max:g}, y {region.y_min:g} to "
            f"{region.y_max:g} (score {region.score:.2f}{of_several})"
        )
    )
    _warn(name, is_outside=region.is_outside, on_event=on_event)
    return _vector_of(best.stream, codec.faces)


def _faces_on(frame_1hwc: NDArray[np.uint8], codec: FacesCodec) -> tuple[CodedFace, ...]:
    """Return the faces of a picture, coded."""
    height, width = frame_1hwc.shape[1:3]
    finder = load_finder(codec.spec, score=USUAL_SCORE)
    encoder = FaceEncoder(codec, finder, height=height, width=width, is_searched=[True])
    (stream,) = encoder.encode(torch.from_numpy(frame_1hwc).permute(0, 3, 1, 2))
    return split_stream(stream).faces


def _warn(name: str, *, is_outside: bool, on_event: EventSink) -> None:
    if is_outside:
        on_event(Note(text=f"{name} is unlike what the weights were trained on: matches mean little"))


def _vector_of(stream: bytes, codec: Codec) -> NDArray[np.float32]:
    """Return the vector of a face that is coded."""
    decoder = core_decoder(codec)
    vector_k: NDArray[np.float32] = to_vectors(decoder.decode_core([stream]), centre_of(decoder))[0].astype(np.float32)
    return vector_k
