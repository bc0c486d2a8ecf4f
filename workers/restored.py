"""From a stored segment to pictures of some of its frames.

::

    pack -> codec.decode -> RGB [N, H, W, 3]
    pack -> styles, feature -> (edits) -> generator -> RGB          where fewer slices or edits are asked for
    pack -> streams of faces -> one of these -> placed_faces.py     where the codec keeps pictures of faces alone

Letters in shapes: N frames, H and W pixels, L styles of D values.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framevault.codecs.base import Decoder, SupportsEditing
from framevault.codecs.checkpoint_header import read_config
from framevault.codecs.errors import CheckpointError, CodecError
from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.editing import Edit, Shift, move, total_shift
from framevault.codecs.spec import CodecSpec
from framevault.storage.packs import Pack, PackHeader
from framevault.workers.loaded_codecs import LoadedCodecs
from framevault.workers.placed_faces import place_faces
from framevault.workers.salvage import FrameFault
from framevault.workers.standalone import Decoded, decode_chosen
from framevault.workers.stored_directions import directions_of
from framevault.workers.stored_faces import spec_of_faces
from framevault.workers.stored_specs import ONLY_SHIPPED, WeightsSources

Depth = int | Literal["nothing"] | None
"""How much of each stream is used: all, the core symbols and so many slices, or nothing (the mean face)."""

PIXELS_PER_BATCH = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Most pixels that are decoded in one call, by kind of device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSettings:
    """How pictures are made; it pickles."""

    device: str
    """A torch device."""
    batch_size: int
    """Most frames of a call."""
    num_slots: int
    """Calls that are on the device at once."""
    weights: WeightsSources = ONLY_SHIPPED
    """Where checkpoints that packs were made with are looked for, besides the shipped ones."""
    depth: Depth = None
    """How much of each stream is used."""
    edits: tuple[Edit, ...] = ()
    """What is changed."""
    directions: str | None = None
    """Path of the edits' directions; None for those beside the checkpoint, or else the vault's."""


class PictureReader:
    """Decodes frames to pictures; thread-safe."""

    def __init__(self, settings: RestoreSettings) -> None:
        """Take the settings; codecs are loaded when the first pack of theirs comes."""
        self._settings = settings
        self._codecs = LoadedCodecs(device=settings.device, weights=settings.weights)
        self._device = threading.BoundedSemaphore(settings.num_slots)
        self._shifts: dict[CodecSpec, Shift | None] = {}
        self._loading = threading.Lock()

    def read(self, pack: Pack, frame_numbers: Sequence[int]) -> Iterator[Decoded[NDArray[np.uint8]] | FrameFault]:
        """Give the pictures of some frames, RGB uint8 [N, H, W, 3]; of damaged ones, what is wrong.

        Raises:
            CodecError: The pack's weights are not here, or its codec has no pictures, slices or edits.
        """
        spec = self._codecs.spec_of(pack.header)
        check_restorable(spec, name=f"segment {pack.header.segment_id}")
        to_rgb = self._renderer(spec, pack.header)
        num_pixels = pack.header.coded_height * pack.header.coded_width

        def to_pictures(streams: Sequence[bytes]) -> NDArray[np.uint8]:
            with self._device:
                return to_rgb(streams)

        return decode_chosen(pack, frame_numbers, to_pictures, batch_size=self._batch_size(num_pixels))

    def _renderer(self, spec: CodecSpec, header: PackHeader) -> Callable[[Sequence[bytes]], NDArray[np.uint8]]:
        """Return what makes streams RGB uint8 [N, H, W, 3]."""
        height, width = header.coded_height, header.coded_width
        if spec.faces is None:
            decode = self._decoder(spec, height=height, width=width)
            return lambda streams: np.ascontiguousarray(decode(streams).permute(0, 2, 3, 1).cpu().numpy())
        side = _config(spec.faces).resolution
        decode_face = self._decoder(spec.faces, height=side, width=side)
        batch_size = self._batch_size(side**2)
        return lambda streams: place_faces(streams, decode_face, height=height, width=width, batch_size=batch_size)

    def _decoder(self, spec: CodecSpec, *, height: int, width: int) -> Callable[[Sequence[bytes]], Tensor]:
        """Return what decodes streams of a codec that gives pictures, to uint8 [N, 3, H, W]."""
        settings = self._settings
        decoder = self._codecs.load(spec).decoder(height=height, width=width)
        if settings.depth is None and not settings.edits:
            return decoder.decode
        return partial_decoder(decoder, spec, depth=settings.depth, shift=self._shift(spec))

    def _shift(self, spec: CodecSpec) -> Shift | None:
        """Return what the edits add; a checkpoint's directions are read once."""
        with self._loading:
            if spec not in self._shifts:
                self._shifts[spec] = edit_shift(
                    spec, self._settings.edits, self._settings.directions, sources=self._settings.weights
                )
            return self._shifts[spec]

    def _batch_size(self, num_pixels: int) -> int:
        """Return how many pictures of so many pixels are decoded in one call."""
        kind = torch.device(self._settings.device).type
        budget = PIXELS_PER_BATCH.get(kind, PIXELS_PER_BATCH["cpu"])
        return max(1, min(self._settings.batch_size, budget // num_pixels))


def check_restorable(spec: CodecSpec, *, name: str) -> None:
    """Check that a codec keeps pictures, of frames or of the faces in them.

    Raises:
        CodecError: It keeps features only.
    """
    if spec.row.decodes_to != "frames" and spec.faces is None:
        raise CodecError(
            f"{name} was compressed with codec {spec.name}, which keeps features for machines and no pictures: "
            "choose other videos with --where, or compress with --codec raw, hsc or dicm+hsc"
        )


def check_depth(spec: CodecSpec, depth: Depth) -> None:
    """Check how much of each stream, or of each face's, shall be used; loads no tensor.

    Raises:
        CodecError: The codec has no slices, or not so many.
        CheckpointError: The checkpoint can't be read, or its configuration is none.
    """
    if depth is None:
        return
    faces = spec_of_faces(spec)
    if faces is None:
        raise _no_slices(spec)
    if isinstance(depth, int):
        whole = len(_config(faces).slices)
        _check_slices(depth, num_slices=whole if faces.slices is None else faces.slices)


def _config(spec: CodecSpec) -> HscConfig:
    path = spec.checkpoint_path
    assert path is not None
    config_json = read_config(path, codec=spec.name)
    try:
        return HscConfig.from_json(config_json)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the {spec.name} codec: {error}") from error


def _no_slices(spec: CodecSpec) -> CodecError:
    return CodecError(f"slices are for codec hsc, whose streams can be used in part, got {spec.name}")


def _check_slices(slices: int, *, num_slices: int) -> None:
    if not 0 <= slices <= num_slices:
        raise CodecError(f"slices must be nothing, core, or 0 to {num_slices}, which the streams have, got {slices}")


def edit_shift(
    spec: CodecSpec, edits: Sequence[Edit], directions: str | None, *, sources: WeightsSources
) -> Shift | None:
    """Return what edits add to the styles and features of a checkpoint's faces; None without edits.

    Args:
        spec: Of the codec.
        edits: What is changed.
        directions: Path of their directions; None for those beside the checkpoint, or else the vault's.
        sources: Say which vault that is.

    Raises:
        CodecError: The codec has no styles, or a direction is unknown.
        CheckpointError: There are no directions, or they can't be read, or are another generator's.
        DamagedError: Those of the vault are not what their key says.
    """
    if not edits:
        return None
    faces = spec_of_faces(spec)
    if faces is None:
        raise CodecError(f"edits are for codec hsc, which keeps styles of faces, got {spec.name}")
    checkpoint = faces.checkpoint_path
    assert checkpoint is not None
    return total_shift(edits, directions_of(checkpoint, given=directions, sources=sources))


def partial_decoder(
    decoder: Decoder, spec: CodecSpec, *, depth: Depth, shift: Shift | None
) -> Callable[[Sequence[bytes]], Tensor]:
    """Return what decodes streams in part, or edited, to frames uint8 [N, 3, H, W].

    Raises:
        CodecError: The codec has no slices, or not so many.
    """
    if not isinstance(decoder, SupportsEditing):
        raise _no_slices(spec)
    if isinstance(depth, int):
        _check_slices(depth, num_slices=decoder.num_slices)

    def decode(streams: Sequence[bytes]) -> Tensor:
        if depth == "nothing":
            latents = decoder.mean_latents(len(streams))
        else:
            latents = decoder.decode_latents(streams, slices=depth)
        if shift is not None:
            latents = move(latents, shift, decoder.own_feature)
        return decoder.render(latents.styles_nld, latents.feature_nchw)

    return decode
