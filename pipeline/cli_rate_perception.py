"""The command `framevault bench rate-perception`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from framevault.pipeline.cli_options import Weights, run_job
from framevault.pipeline.cli_rate_accuracy import read_checkpoint, read_numbers, read_words
from framevault.pipeline.exits import ExitCode

MOST_SLICES = 64
"""More than any checkpoint has; the checkpoint itself says how many."""


def bench_rate_perception(
    faces: Annotated[str, typer.Argument(help="A folder of aligned faces, of the checkpoint's size.")],
    out: Annotated[Path, typer.Option(help="Folder for tables, report.json, plot and contact sheets.")],
    weights: Weights = None,
    qualities: Annotated[str, typer.Option(help="Of hsc.")] = "1,2,3,4,5,6,7,8",
    slices: Annotated[
        str | None,
        typer.Option(help="Thin the highest quality to so many slices, as 0,2,4; 0 is the core alone (all)."),
    ] = None,
    anchors: Annotated[str, typer.Option(help="What hsc is compared with.")] = "x265-intra,avif,webp",
    anchor_checkpoint: Annotated[
        list[str] | None, typer.Option(help="CompressAI model as mbt2018-mean=FILE. May stand several times.")
    ] = None,
    qps: Annotated[str | None, typer.Option(help="Of x265-intra, 0 to 51.")] = None,
    avif_qualities: Annotated[str | None, typer.Option(help="Of avif, 0 to 100.")] = None,
    webp_qualities: Annotated[str | None, typer.Option(help="Of webp, 0 to 100.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="MobileNetV2's weights; those on this machine, or the detector's, if not given.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="EfficientNet-Lite0's weights, which no codec was trained with.")
    ] = None,
    num_faces: Annotated[
        int | None, typer.Option("--frames", min=2, help="Most faces, evenly spread; all, if not given.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where hsc runs, such as cpu or cuda.")] = "cpu",
    output: Annotated[Literal["table", "json"], typer.Option("--format", help="How rows are printed.")] = "table",
) -> None:
    """Real bytes a face against likeness: hsc, x265, AVIF, WebP, CompressAI; BD-rates; a plot; contact sheets."""

    def run() -> ExitCode:
        from framevault.codecs.spec import HIGHEST_QUALITY, LOWEST_QUALITY
        from framevault.pipeline.jobs.bench.face_anchors import AVIF_QUALITIES, FACE_ANCHORS, QPS, WEBP_QUALITIES
        from framevault.pipeline.jobs.bench.rate_perception import PerceptionSettings, print_rate_perception
        from framevault.pipeline.x265 import HIGHEST_RATE

        settings = PerceptionSettings(
            weights=weights,
            device=device,
            qualities=read_numbers(qualities, option="--qualities", low=LOWEST_QUALITY, high=HIGHEST_QUALITY),
            slices=None if slices is None else read_numbers(slices, option="--slices", low=0, high=MOST_SLICES),
            anchors=read_words(anchors, FACE_ANCHORS, option="--anchors"),
            anchor_checkpoints=tuple(read_checkpoint(text) for text in anchor_checkpoint or ()),
            backbone=backbone,
            features=features,
            num_faces=num_faces,
            qps=_given(qps, QPS, option="--qps", high=HIGHEST_RATE),
            avif_qualities=_given(avif_qualities, AVIF_QUALITIES, option="--avif-qualities", high=100),
            webp_qualities=_given(webp_qualities, WEBP_QUALITIES, option="--webp-qualities", high=100),
        )
        return print_rate_perception(faces, settings, out=out, output=output)

    run_job(run)


def _given(text: str | None, usual: tuple[int, ...], *, option: str, high: int) -> tuple[int, ...]:
    return usual if text is None else read_numbers(text, option=option, low=0, high=high)
