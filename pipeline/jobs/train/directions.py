"""`framevault train directions`: ways among what a trained hsc checkpoint decodes, that edits go along.

Three kinds. Boundaries are fitted to labels: those that a file gives, and what can be measured on the pixels. Contrasts
are fitted to labels too, of faces that are alike outside a region. Factors come from the generator's weights alone, and
what they do is for people to say, who look at the sheets.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from framevault.codecs.errors import CodecError
from framevault.codecs.hsc.attributes import ATTRIBUTES
from framevault.codecs.hsc.boundaries import fit_boundary
from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.hsc.contrasts import Region, fit_contrast
from framevault.codecs.hsc.directions import Direction, directions_path, generator_fingerprint, save_directions
from framevault.codecs.hsc.factorisation import LAYER_GROUPS, factorise, style_numbers
from framevault.codecs.hsc.generator import Generator
from framevault.codecs.spec import CodecSpec
from framevault.configs.directions import DirectionsJob
from framevault.pipeline.events import Note
from framevault.pipeline.executors.base import EventSink
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.train.direction_sheets import draw_direction_sheets
from framevault.pipeline.jobs.train.face_labels import match_labels, read_labels
from framevault.pipeline.jobs.train.face_styles import Faces, load_faces
from framevault.pipeline.progress import open_progress
from framevault.pipeline.tables import print_table
from framevault.workers.output_folder import whole_file


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDirection:
    """One direction, in words."""

    name: str
    """What it is called."""
    about: str
    """What more of it does, or where it comes from."""
    agreement: float | None
    """Of a boundary: correlation with the labels of faces that it was not fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionsResult:
    """What was found."""

    directions: tuple[FoundDirection, ...]
    """What was written."""
    path: str
    """Where to."""
    sheets: tuple[str, ...]
    """Contact sheets that were drawn."""


def print_directions(job: DirectionsJob, *, as_json: bool) -> ExitCode:
    """Find directions, and say which; errors as `run_directions`."""
    with open_progress(as_json=as_json) as on_event:
        result = run_directions(job, on_event=on_event)
    if as_json:
        sys.stdout.write(json.dumps({"event": "summary", **asdict(result)}) + "\n")
        return ExitCode.DONE
    rows = [asdict(each) for each in result.directions]
    schema = pa.schema([("name", pa.string()), ("agreement", pa.float64()), ("about", pa.string())])
    print_table(pa.Table.from_pylist(rows, schema=schema), title=f"Directions in {result.path}")
    if result.sheets:
        sys.stdout.write(
            f"{len(result.sheets)} sheets in {Path(result.sheets[0]).parent}: look at them, and keep what "
        )
        sys.stdout.write("does what its name says (--keep name,factor=name)\n")
    return ExitCode.DONE


def run_directions(job: DirectionsJob, *, on_event: EventSink) -> DirectionsResult:
    """Find directions and write them.

    Raises:
        InputError: A source of faces is not there.
        CheckpointError: The weights can't be read, or are another codec's.
        PreflightError: No picture or label can be read, or what shall be kept was not found.
    """
    labels = {} if job.labels is None else read_labels(Path(job.labels))
    _check_regions(job, labels)
    codec = load_hsc(CodecSpec(name="hsc", weights=job.weights, quality=job.quality, device=_device(job)))
    checkpoint = codec.spec.checkpoint_path
    assert checkpoint is not None
    faces = load_faces(job, codec, on_event=on_event)
    found = [*_boundaries(job, faces, labels, on_event), *_factors(job, codec.networks.generator, faces)]
    kept = _keep(found, job.keep)
    path = directions_path(checkpoint) if job.out is None else Path(job.out)
    items = [direction for direction, _ in kept]
    try:
        with whole_file(path, scratch=path.parent) as temporary:
            save_directions(temporary, items, generator=generator_fingerprint(checkpoint))
    except OSError as error:
        raise PreflightError(f"{path}: can't be written: {error.strerror}; name another file (--out)") from error
    sheets = []
    if job.sheets is not None:
        sheets = draw_direction_sheets(
            Path(job.sheets), codec, faces, items, num_faces=job.sheet_faces, amounts=job.amounts
        )
    return DirectionsResult(
        directions=tuple(
            FoundDirection(name=direction.name, about=direction.about, agreement=agreement)
            for direction, agreement in kept
        ),
        path=str(path),
        sheets=tuple(map(str, sheets)),
    )


def _check_regions(job: DirectionsJob, labels: Mapping[str, Mapping[str, float]]) -> None:
    """Check that each region is of a labelled attribute whose feature is moved."""
    if unknown := sorted(set(job.regions) - set(labels)):
        known = ", ".join(sorted(labels)) or "none"
        raise PreflightError(f"region: {', '.join(unknown)} has no labels; labelled are {known}")
    if job.regions and job.moves == "styles":
        raise PreflightError("region: styles have no place in the picture; expected moves both, got styles")


def _device(job: DirectionsJob) -> str:
    if job.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return job.device


_Found = tuple[Direction, float | None]
"""A direction, and a boundary's agreement."""


def _boundaries(
    job: DirectionsJob, faces: Faces, labels: Mapping[str, Mapping[str, float]], on_event: EventSink
) -> Iterator[_Found]:
    """Fit a direction to each attribute; those that faces say too little of are left out, and it is said."""
    for name, (numbers, labels_n) in _labelled(faces, labels).items():
        moves_feature = name in labels and job.moves == "both"
        try:
            direction, agreement = _fit(job, faces, name, numbers, labels_n, moves_feature=moves_feature)
        except CodecError as error:
            if name in labels:
                raise PreflightError(f"attribute {name}: {error}") from error
            on_event(Note(text=f"{name} is left out: {error}"))
            continue
        if agreement < job.least_agreement:
            what = "styles and features agree" if moves_feature else "styles agree"
            on_event(Note(text=f"{name} is left out: {what} with it by {agreement:.2f} only, on other faces"))
            continue
        about = ATTRIBUTES[name][1] if name in ATTRIBUTES and name not in labels else f"more {name}, as labelled"
        yield replace(direction, about=about), agreement


def _fit(
    job: DirectionsJob, faces: Faces, name: str, numbers: Sequence[int], labels_n: Tensor, *, moves_feature: bool
) -> tuple[Direction, float]:
    """Return one attribute's direction, and how well its boundary holds on other faces."""
    if not moves_feature:
        styles_nld = faces.values.styles_nld[torch.tensor(numbers, dtype=torch.long)]
        boundary = fit_boundary(styles_nld.flatten(1), labels_n, ridge=job.ridge)
        shift_ld = boundary.shift_m.reshape(styles_nld.shape[1:])
        return Direction(name=name, about="", shift_ld=shift_ld), boundary.agreement
    boundary = fit_boundary(faces.values.vectors(numbers), labels_n, ridge=job.ridge)
    if name in job.regions:
        shift = fit_contrast(faces.values, numbers, labels_n, region=Region(*job.regions[name]))
    else:
        shift = faces.values.split(boundary.shift_m)
    direction = Direction(name=name, about="", shift_ld=shift.styles_ld, shift_chw=shift.feature_chw)
    return direction, boundary.agreement


def _labelled(faces: Faces, labels: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[list[int], Tensor]]:
    """Return each attribute's faces and labels; those of a file count more than those of pixels."""
    measured = {name: (list(range(len(faces.names))), values_n) for name, values_n in faces.attributes.items()}
    given = {}
    for name, by_file in labels.items():
        found = match_labels(by_file, faces.names)
        given[name] = (list(found), torch.tensor(list(found.values())))
    return {**measured, **given}


def _factors(job: DirectionsJob, generator: Generator, faces: Faces) -> Iterator[_Found]:
    """Factorise the generator's weights, group by group of styles."""
    styles_nld = faces.values.styles_nld
    for group in LAYER_GROUPS:
        styles = style_numbers(styles_nld.shape[1], group)
        if not (styles and job.factors):
            continue
        shifts_kld = factorise(generator, styles_nld, style_numbers=styles, num_directions=job.factors)
        for number, shift_ld in enumerate(shifts_kld, start=1):
            about = f"factor {number} of the generator's {group} styles"
            yield Direction(name=f"{group}-{number}", about=about, shift_ld=shift_ld), None


def _keep(found: Sequence[_Found], keep: Sequence[str]) -> list[_Found]:
    """Return what shall be kept, under the names that it shall have."""
    if not keep:
        return list(found)
    by_name = {direction.name: (direction, agreement) for direction, agreement in found}
    kept = []
    for text in keep:
        name, _, new_name = text.partition("=")
        if name not in by_name:
            raise PreflightError(f"keep: {name!r} was not found; found were {', '.join(by_name)}")
        direction, agreement = by_name[name]
        kept.append((replace(direction, name=new_name or name), agreement))
    return kept
