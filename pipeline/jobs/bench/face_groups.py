"""`framevault bench face-groups`: whom HSC fails on, by what is measured on or known of each face.

Faces are coded to real streams and restored; errors are means over groups of faces, each with the interval that other
faces of the same kind would lie in. x265 at one setting stands beside it: what is hard for both is hard to code, what
is hard for HSC alone it has not learned.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.contact_sheet import SheetTile
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.bench.face_anchors import CodedFace, anchor_coders, code_each
from framevault.pipeline.jobs.bench.face_coders import OURS, FaceCoder, HscCoder
from framevault.pipeline.jobs.bench.face_features import load_networks, make_reference
from framevault.pipeline.jobs.bench.face_labels import FILE, Group, make_groups, read_labels
from framevault.pipeline.jobs.bench.face_measures import MEASURES, measure_pixels
from framevault.pipeline.jobs.bench.face_pictures import Faces, read_faces
from framevault.pipeline.jobs.bench.face_points import PSNR, measure_faces
from framevault.pipeline.jobs.bench.face_report import enlarged_tile, write_csv, write_sheet
from framevault.pipeline.jobs.bench.intervals import mean_columns
from framevault.pipeline.jobs.bench.output import OutputFormat, print_rows
from framevault.pipeline.jobs.bench.rate_report import open_folder
from framevault.pipeline.jobs.bench.sampling import split_calls

NUM_SHOWN = 12
"""Worst and best faces on the sheets."""

BYTES = "bytes"
"""Of a face's stream or picture."""

EVERYBODY = "all"
"""The group of all faces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """What is measured, and by what faces are grouped."""

    weights: str | None
    """HSC's checkpoint; None for the shipped one."""
    device: str = "cpu"
    """Where HSC runs."""
    quality: int
    """Of HSC."""
    qp: int
    """Of x265 beside it."""
    by: tuple[str, ...] = tuple(MEASURES)
    """Names of `face_measures.MEASURES`."""
    labels: Path | None = None
    """A CSV file with more of what is known of each face."""
    backbone: str | None = None
    """MobileNetV2's weights."""
    features: Path | None = None
    """EfficientNet-Lite0's weights."""
    num_faces: int | None = None
    """Most faces, evenly spread; None for all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaceErrors:
    """How one codec does on each of N faces."""

    codec: str
    """The codec."""
    setting: str
    """Its setting."""
    sizes_n: NDArray[np.float64]
    """Bytes, without containers."""
    metrics_n: Mapping[str, NDArray[np.float64]]
    """PSNR, and a distance."""
    outside_n: NDArray[np.float64] | None
    """Of HSC: 1 for a face that is marked as outside the domain, else 0."""


def print_face_groups(folder: str, settings: GroupSettings, *, out: Path, output: OutputFormat) -> ExitCode:
    """Measure, print a row a group and codec, and write tables and sheets into a folder.

    Raises:
        CheckpointError: Weights are missing, damaged or another network's.
        InputError: There are no pictures.
        PreflightError: A setting is wrong, a picture has another size than the codec's, labels are of other pictures,
            or the folder can't be written.
    """
    open_folder(out)
    hsc = load_hsc(CodecSpec(name="hsc", weights=settings.weights, device=settings.device, quality=settings.quality))
    faces = read_faces(folder, side=hsc.networks.config.resolution, num_faces=settings.num_faces)
    columns = {name: _texts(measure_pixels(name, faces.rgb_nchw)) for name in settings.by}
    columns |= _labels_of(faces, settings.labels)
    coders = _coders(hsc, settings)
    errors = _measure(hsc, coders, faces, settings)
    groups = [Group(by=EVERYBODY, name=EVERYBODY, members=tuple(range(len(faces.names))))]
    groups += [group for name, values in columns.items() for group in make_groups(name, values)]
    table = pa.Table.from_pylist([row for group in groups for row in group_rows(group, errors)])
    write_csv(out / "groups.csv", table)
    write_csv(out / "faces.csv", _face_table(faces, columns, errors))
    _write_extremes(out, faces, coders, _distance(errors[0]))
    print_rows(table, output, title=f"Errors of {len(faces.names)} faces by group")
    return ExitCode.DONE


def group_rows(group: Group, errors: Sequence[FaceErrors]) -> Iterator[dict[str, object]]:
    """Yield a row a codec: means over a group's faces, and their intervals; see `mean_columns`."""
    members = list(group.members)
    for each in errors:
        row: dict[str, object] = {"by": group.by, "group": group.name, "faces": len(members)}
        row |= {"codec": each.codec, "setting": each.setting, BYTES: round(float(each.sizes_n[members].mean()), 1)}
        outside_n = each.outside_n
        row["outside_share"] = None if outside_n is None else round(float(outside_n[members].mean()), 4)
        for name, values_n in each.metrics_n.items():
            row |= mean_columns(name, values_n[members])
        yield row


def _coders(hsc: HscCodec, settings: GroupSettings) -> list[FaceCoder]:
    ours = HscCoder(hsc=hsc, codec=OURS, setting=f"quality {settings.quality}")
    return [ours, *anchor_coders("x265-intra", qps=(settings.qp,))]


def _measure(hsc: HscCodec, coders: Sequence[FaceCoder], faces: Faces, settings: GroupSettings) -> list[FaceErrors]:
    networks, notes = load_networks(backbone=settings.backbone, features=settings.features)
    for note in notes:
        sys.stderr.write(f"{note}\n")
    # The last is the one that no codec was trained with, if there are weights of it.
    reference = make_reference(networks[-1], faces.rgb_nchw)
    outside_n = np.asarray(_are_outside(hsc, faces.rgb_nchw), np.float64)
    return [
        FaceErrors(
            codec=point.codec,
            setting=point.setting,
            sizes_n=point.sizes_n["payload_bytes"],
            metrics_n={name: point.values_n[name] for name in (PSNR, f"distance ({networks[-1].name})")},
            outside_n=outside_n if point.codec == OURS else None,
        )
        for point in measure_faces(coders, faces.rgb_nchw, [reference])
    ]


def _distance(errors: FaceErrors) -> NDArray[np.float64]:
    (distance_n,) = (values_n for name, values_n in errors.metrics_n.items() if name != PSNR)
    return distance_n


def _are_outside(hsc: HscCodec, faces_nchw: Tensor) -> list[bool]:
    height, width = faces_nchw.shape[2:]
    encoder = hsc.encoder(height=height, width=width)
    return [flag for batch_nchw in split_calls(faces_nchw) for flag in encoder.encode_checked(batch_nchw).are_outside]


def _labels_of(faces: Faces, path: Path | None) -> dict[str, tuple[str, ...]]:
    """Return what a file knows of the faces; nothing of those that it has no row for."""
    if path is None:
        return {}
    labels = read_labels(path)
    rows = {name: number for number, name in enumerate(labels.names)}
    if not set(rows) & set(faces.names):
        raise PreflightError(f"{path}: expected labels of {faces.names[0]} and others, got those of {labels.names[0]}")
    return {
        name: tuple(values[rows[face]] if face in rows else "" for face in faces.names)
        for name, values in labels.columns.items()
    }


def _face_table(faces: Faces, columns: Mapping[str, Sequence[str]], errors: Sequence[FaceErrors]) -> pa.Table:
    found: dict[str, NDArray[np.float64]] = {}
    for each in errors:
        found |= {f"{each.codec} {BYTES}": each.sizes_n}
        found |= {} if each.outside_n is None else {f"{each.codec} is_outside": each.outside_n}
        found |= {f"{each.codec} {name}": values_n for name, values_n in each.metrics_n.items()}
    return pa.table({FILE: faces.names, **{name: list(values) for name, values in columns.items()}, **found})


def _write_extremes(out: Path, faces: Faces, coders: Sequence[FaceCoder], distance_n: NDArray[np.float64]) -> None:
    """Draw the faces that HSC does worst and best on: original, ours, x265; two faces a row, an odd one left out."""
    order = np.argsort(-distance_n).tolist()
    for name, chosen in (("worst", order[:NUM_SHOWN]), ("best", order[::-1][:NUM_SHOWN])):
        shown_nchw = faces.rgb_nchw[chosen]
        coded = [code_each(coder, shown_nchw) for coder in coders]
        tiles = [
            (
                enlarged_tile(shown_nchw[place], f"{faces.names[number]}: {distance_n[number]:.3f}"),
                *(_tile(of_all[place]) for of_all in coded),
            )
            for place, number in enumerate(chosen)
        ]
        pairs = [(*one, *other) for one, other in zip(tiles[::2], tiles[1::2], strict=False)]
        write_sheet(out / f"sheet-{name}.png", pairs)


def _tile(coded: CodedFace) -> SheetTile:
    return enlarged_tile(coded.rgb_chw, f"{coded.codec} {coded.setting}: {coded.payload_bytes} bytes")


def _texts(values: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{value:.6g}" for value in values)
