"""The commands `framevault bench face-sheet`, `face-groups` and `face-tasks`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from framevault.pipeline.cli_options import Weights, run_job
from framevault.pipeline.cli_rate_accuracy import read_checkpoint, read_numbers, read_words
from framevault.pipeline.exits import ExitCode

if TYPE_CHECKING:
    from framevault.pipeline.jobs.bench.face_anchors import FaceAnchor

Format = Annotated[Literal["table", "json"], typer.Option("--format", help="How rows are printed.")]
Device = Annotated[str, typer.Option(help="Where hsc runs, such as cpu or cuda.")]


def bench_face_sheet(
    out: Annotated[Path, typer.Option(help="The sheet, a PNG file.")],
    pictures: Annotated[list[Path] | None, typer.Argument(help="Square pictures of aligned faces.")] = None,
    samples: Annotated[
        bool, typer.Option("--samples", help="Begin with faces that installed packages bring, and generated ones.")
    ] = False,
    weights: Weights = None,
    qualities: Annotated[str, typer.Option("--qualities", "--quality", help="Of hsc: rows of a picture.")] = "5",
    anchors: Annotated[
        str | None, typer.Option(help="What hsc is compared with: x265-intra,avif,webp; with --edit nothing.")
    ] = None,
    anchor_checkpoint: Annotated[
        list[str] | None, typer.Option(help="CompressAI model as mbt2018-mean=FILE. May stand several times.")
    ] = None,
    edit: Annotated[
        list[str] | None, typer.Option(help="A column of edited faces, as smile=+1.5. May stand several times.")
    ] = None,
    device: Device = "cpu",
    output: Format = "table",
) -> None:
    """Faces beside what hsc and others make of them: a contact sheet, each tile with its real bytes."""

    def run() -> ExitCode:
        from framevault.codecs.hsc.editing import parse_edit
        from framevault.codecs.spec import HIGHEST_QUALITY, LOWEST_QUALITY
        from framevault.pipeline.jobs.bench.face_sheet import SheetSettings, print_face_sheet

        settings = SheetSettings(
            weights=weights,
            device=device,
            qualities=read_numbers(qualities, option="--qualities", low=LOWEST_QUALITY, high=HIGHEST_QUALITY),
            anchors=_sheet_anchors(anchors, has_edits=bool(edit)),
            anchor_checkpoints=tuple(read_checkpoint(text) for text in anchor_checkpoint or ()),
            edits=tuple(parse_edit(text) for text in edit or ()),
            has_samples=samples,
        )
        return print_face_sheet(pictures or (), settings, out=out, output=output)

    run_job(run)


def _sheet_anchors(text: str | None, *, has_edits: bool) -> "tuple[FaceAnchor, ...]":
    """Return what hsc is compared with: all, or nothing beside edits, unless something is named."""
    from framevault.pipeline.jobs.bench.face_anchors import FACE_ANCHORS

    if text is None:
        return () if has_edits else FACE_ANCHORS
    return read_words(text, FACE_ANCHORS, option="--anchors")


def bench_face_groups(
    faces: Annotated[str, typer.Argument(help="A folder of aligned faces, of the checkpoint's size.")],
    out: Annotated[Path, typer.Option(help="Folder for groups.csv, faces.csv and sheets of the worst and the best.")],
    by: Annotated[str, typer.Option(help="Measured on pixels.")] = "lightness,contrast,sharpness,side-light,busyness",
    labels: Annotated[
        Path | None, typer.Option(help="CSV file with a column file, and others to group by: numbers or words.")
    ] = None,
    weights: Weights = None,
    quality: Annotated[int, typer.Option(min=1, max=8, help="Of hsc.")] = 5,
    qp: Annotated[int, typer.Option(min=0, max=51, help="Of x265-intra, which stands beside it.")] = 48,
    backbone: Annotated[
        str | None, typer.Option(help="MobileNetV2's weights; those on this machine, or the detector's, if not given.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="EfficientNet-Lite0's weights, which no codec was trained with.")
    ] = None,
    num_faces: Annotated[
        int | None, typer.Option("--frames", min=2, help="Most faces, evenly spread; all, if not given.")
    ] = None,
    device: Device = "cpu",
    output: Format = "table",
) -> None:
    """Whom hsc fails on: errors over groups of faces, with intervals; sheets of the worst and best faces."""

    def run() -> ExitCode:
        from framevault.pipeline.jobs.bench.face_groups import GroupSettings, print_face_groups
        from framevault.pipeline.jobs.bench.face_measures import MEASURES

        settings = GroupSettings(
            weights=weights,
            device=device,
            quality=quality,
            qp=qp,
            by=read_words(by, tuple(MEASURES), option="--by"),
            labels=labels,
            backbone=backbone,
            features=features,
            num_faces=num_faces,
        )
        return print_face_groups(faces, settings, out=out, output=output)

    run_job(run)


def bench_face_tasks(
    faces: Annotated[str, typer.Argument(help="A folder of aligned faces to learn from, of the checkpoint's size.")],
    landmarks: Annotated[
        Path, typer.Option(help="CSV of a teacher's: file, left_eye_x, left_eye_y, right_eye_x... in pixels.")
    ],
    test: Annotated[str, typer.Option(help="A folder of other faces.")],
    test_landmarks: Annotated[Path, typer.Option(help="The teacher's landmarks of them.")],
    out: Annotated[Path, typer.Option(help="Folder for landmarks.csv and retrieval.csv.")],
    weights: Weights = None,
    quality: Annotated[int, typer.Option(min=1, max=8, help="Of hsc.")] = 5,
    backbone: Annotated[
        str | None, typer.Option(help="MobileNetV2's weights; those on this machine, or the detector's, if not given.")
    ] = None,
    num_faces: Annotated[
        int | None, typer.Option("--frames", min=1, help="Most faces to learn from, evenly spread; all, if not given.")
    ] = None,
    device: Device = "cpu",
    output: Format = "table",
) -> None:
    """Machine tasks on hsc's meaning against x265's pixels at as many bytes: landmarks, and finding a picture."""

    def run() -> ExitCode:
        from framevault.pipeline.jobs.bench.face_tasks import TaskSettings, print_face_tasks

        settings = TaskSettings(
            landmarks=landmarks,
            test=test,
            test_landmarks=test_landmarks,
            weights=weights,
            device=device,
            quality=quality,
            backbone=backbone,
            num_faces=num_faces,
        )
        return print_face_tasks(faces, settings, out=out, output=output)

    run_job(run)
