"""`framevault bench face-sheet`: faces beside what HSC and others make of them, each with its real bytes.

A row a picture and quality: the original, ours, ours edited, and of each anchor the setting with the fewest bytes that
are no fewer than ours. Letters in shapes: N pictures, R pixels of the codec's square.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.hsc.editing import Edit, Shift, total_shift
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.contact_sheet import SheetTile
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.bench.compressai_anchors import load_anchor
from framevault.pipeline.jobs.bench.face_anchors import (
    FACE_ANCHORS,
    FINE_AVIF_QUALITIES,
    FINE_QPS,
    FINE_WEBP_QUALITIES,
    CodedFace,
    FaceAnchor,
    anchor_coders,
    code_each,
    next_larger,
)
from framevault.pipeline.jobs.bench.face_coders import OURS, FaceCoder, FrameCoder, HscCoder
from framevault.pipeline.jobs.bench.face_pictures import Faces
from framevault.pipeline.jobs.bench.face_points import PSNR, pixel_metrics
from framevault.pipeline.jobs.bench.face_report import enlarged_tile, write_sheet
from framevault.pipeline.jobs.bench.face_samples import sample_faces
from framevault.pipeline.jobs.bench.output import OutputFormat, print_rows
from framevault.pipeline.jobs.bench.rate_report import open_folder
from framevault.workers.stored_directions import directions_of
from framevault.workers.stored_specs import ONLY_SHIPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetSettings:
    """What stands on a sheet."""

    weights: str | None
    """HSC's checkpoint; None for the shipped one."""
    device: str = "cpu"
    """Where HSC runs."""
    qualities: tuple[int, ...]
    """Of HSC: rows of a picture."""
    anchors: tuple[FaceAnchor, ...] = FACE_ANCHORS
    """What it is compared with."""
    anchor_checkpoints: tuple[tuple[str, Path], ...] = ()
    """Models of CompressAI: architecture and weights; a column an architecture."""
    edits: tuple[Edit, ...] = ()
    """Edits of ours, a column each."""
    has_samples: bool = False
    """Whether the faces of `face_samples.py` come first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SheetRow:
    """One picture at one quality."""

    name: str
    """What the picture is called."""
    original_chw: Tensor
    """uint8 [3, R, R]."""
    coded: tuple[CodedFace, ...]
    """Ours, then ours edited, then the anchors'."""


def print_face_sheet(pictures: Sequence[Path], settings: SheetSettings, *, out: Path, output: OutputFormat) -> ExitCode:
    """Draw a sheet, and print what is on it.

    Raises:
        CheckpointError: Weights or directions are missing, damaged or another network's.
        CodecError: An edit is unknown.
        PreflightError: There is no picture, one can't be read or is no square, or the sheet can't be written.
    """
    if not pictures and not settings.has_samples:
        raise PreflightError("expected pictures of aligned faces, or --samples")
    open_folder(out.absolute().parent)
    hsc = load_hsc(CodecSpec(name="hsc", weights=settings.weights, device=settings.device))
    faces = _read(pictures, hsc, has_samples=settings.has_samples)
    rows = list(sheet_rows(hsc, faces, settings))
    write_sheet(out, [_tiles(row) for row in rows])
    print_rows(_table(rows), output, title=f"Faces on {out.name}")
    return ExitCode.DONE


def sheet_rows(hsc: HscCodec, faces: Faces, settings: SheetSettings) -> Iterator[SheetRow]:
    """Yield the rows, all qualities of a picture one below the other."""
    columns: list[tuple[str, Shift | None]] = [(OURS, None), *_shifts(hsc, settings.edits)]
    ours = [
        [
            code_each(
                HscCoder(hsc=hsc.at_quality(quality), codec=codec, setting=f"quality {quality}", shift=shift),
                faces.rgb_nchw,
            )
            for codec, shift in columns
        ]
        for quality in settings.qualities
    ]
    anchors: dict[str, list[list[CodedFace]]] = {}
    for coder in _anchors(settings):
        anchors.setdefault(coder.codec, []).append(code_each(coder, faces.rgb_nchw))
    for number, name in enumerate(faces.names):
        for of_quality in ours:
            plain, *edited = (coded[number] for coded in of_quality)
            yield SheetRow(
                name=name,
                original_chw=faces.rgb_nchw[number],
                coded=(plain, *edited, *_as_large(plain, anchors, number=number)),
            )


def read_square(path: Path, *, side: int) -> Tensor:
    """Read a square picture, scaled to the codec's side for all codecs alike; uint8 [3, side, side].

    Raises:
        PreflightError: It can't be read, or is no square.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise PreflightError(f"{path}: expected a picture: {error}") from error
    if picture.width != picture.height:
        raise PreflightError(
            f"{path}: expected a square picture, an aligned face, got {picture.width}x{picture.height}"
        )
    if picture.width != side:
        picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _read(pictures: Sequence[Path], hsc: HscCodec, *, has_samples: bool) -> Faces:
    own = [read_square(path, side=hsc.networks.config.resolution) for path in pictures]
    samples = sample_faces(hsc) if has_samples else None
    names = samples.names if samples else ()
    return Faces(
        names=(*names, *(path.name for path in pictures)),
        rgb_nchw=torch.stack([*(samples.rgb_nchw if samples else ()), *own]),
    )


def _shifts(hsc: HscCodec, edits: Sequence[Edit]) -> list[tuple[str, Shift]]:
    """Return what each edit is called on a sheet and adds; the directions are those beside the checkpoint."""
    if not edits:
        return []
    checkpoint = hsc.spec.checkpoint_path
    assert checkpoint is not None
    directions = directions_of(checkpoint, given=None, sources=ONLY_SHIPPED)
    return [(f"{edit.name} {edit.amount:+g}", total_shift([edit], directions)) for edit in edits]


def _anchors(settings: SheetSettings) -> Iterator[FaceCoder]:
    for anchor in settings.anchors:
        yield from anchor_coders(
            anchor, qps=FINE_QPS, avif_qualities=FINE_AVIF_QUALITIES, webp_qualities=FINE_WEBP_QUALITIES
        )
    for name, path in settings.anchor_checkpoints:
        yield FrameCoder(coder=load_anchor(name, path))


def _as_large(
    ours: CodedFace, anchors: Mapping[str, Sequence[Sequence[CodedFace]]], *, number: int
) -> Iterator[CodedFace]:
    for settings in anchors.values():
        yield next_larger([of_all[number] for of_all in settings], ours.payload_bytes)


def _tiles(row: SheetRow) -> list[SheetTile]:
    return [
        enlarged_tile(row.original_chw, row.name),
        *(enlarged_tile(coded.rgb_chw, f"{coded.codec}, {_size(coded)}") for coded in row.coded),
    ]


def _size(coded: CodedFace) -> str:
    """Return the bytes without container, and those of a file if they are others."""
    size = f"{coded.payload_bytes} bytes"
    return size if coded.file_bytes == coded.payload_bytes else f"{size} ({coded.file_bytes} in a file)"


def _table(rows: Sequence[SheetRow]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "picture": row.name,
                "codec": coded.codec,
                "setting": coded.setting,
                "payload_bytes": coded.payload_bytes,
                "file_bytes": coded.file_bytes,
                "psnr_db": round(float(pixel_metrics(coded.rgb_chw[None], row.original_chw[None])[PSNR]), 2),
            }
            for row in rows
            for coded in row.coded
        ]
    )
