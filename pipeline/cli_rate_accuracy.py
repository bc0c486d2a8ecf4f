"""The commands `framevault bench rate-accuracy` and `train-anchor`."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from framevault.pipeline.cli_options import ClassifierWeights, Weights, run_job
from framevault.pipeline.exits import ExitCode, PreflightError

Word = TypeVar("Word", bound=str)

LARGEST_SIDE = 1 << 14
"""Pixels that frames may be scaled to."""


def bench_rate_accuracy(
    data: Annotated[str, typer.Argument(help="A folder of pictures, or a video.")],
    task: Annotated[Literal["classify", "detect"], typer.Option(help="What the network does.")],
    out: Annotated[Path, typer.Option(help="Folder for points.csv, bd_rates.csv, report.json and plot.png.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="detect: a COCO file. classify: JSON of classes; the folders' names, if not given."),
    ] = None,
    label_names: Annotated[
        str | None, typer.Option(help="Detector's label=file's label, ...; the names both have, if not given.")
    ] = None,
    merge: Annotated[str | None, typer.Option(help="Labels of the file that count as another: bus=vehicle.")] = None,
    anchors: Annotated[
        str | None, typer.Option(help="Of x265-intra,x265-inter,svtav1-inter; all that the frames allow.")
    ] = None,
    anchor_checkpoint: Annotated[
        list[str] | None, typer.Option(help="CompressAI model as mbt2018-mean=FILE. May stand several times.")
    ] = None,
    presets: Annotated[str, typer.Option(help="Of fast,medium,slow,slower, for inter anchors.")] = "medium,slow",
    qualities: Annotated[str, typer.Option(help="Of dicm.")] = "1,2,3,4,5,6,7,8",
    slices: Annotated[
        str | None, typer.Option(help="Of dicm's latent, each number a curve; what compress keeps, if not given.")
    ] = None,
    qps: Annotated[str | None, typer.Option(help="Of x265-intra, 0 to 51 (22,26,30,34,38,42,46).")] = None,
    crfs: Annotated[str | None, typer.Option(help="Of x265-inter, 0 to 51 (22,28,34,40,46).")] = None,
    svt_crfs: Annotated[str | None, typer.Option(help="Of svtav1-inter, 1 to 63 (30,40,48,55,60,63).")] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Take every K-th picture; of a video, score frames K apart, code all.")
    ] = 1,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Most pictures, evenly spread; a video's first frames (300).")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Scale frames to this, as 512x384.")] = None,
    fps_every: Annotated[str, typer.Option(help="Code every frame of a video, every 2nd, ...: 1,2,10.")] = "1",
    segment_frames: Annotated[
        int, typer.Option(min=1, help="Frames after which every codec begins anew, as a vault's segments do.")
    ] = 128,
    weights: Weights = None,
    classifier: Annotated[str | None, typer.Option(help="Classifier, as in framevault classify.")] = None,
    classifier_weights: ClassifierWeights = None,
    detector: Annotated[str | None, typer.Option(help="Detector, as in framevault detect.")] = None,
    detector_weights: Annotated[
        str | None, typer.Option(help="The detector's weights, such as fine-tuned ones.")
    ] = None,
    output: Annotated[Literal["table", "json"], typer.Option("--format", help="How rows are printed.")] = "table",
) -> None:
    """Real bytes against top-1 or AP: dicm, x265, SVT-AV1, CompressAI; BD-rates at equal accuracy; a plot."""

    def run() -> ExitCode:
        from framevault.codecs.sizes import MOST_PARTS
        from framevault.codecs.spec import HIGHEST_QUALITY, LOWEST_QUALITY
        from framevault.pipeline.jobs.bench.rate_accuracy import (
            ANCHORS,
            QPS,
            SVT_CRFS,
            SVT_PRESETS,
            X265_CRFS,
            CodecSettings,
            print_rate_accuracy,
        )
        from framevault.pipeline.jobs.bench.rate_data import DataSettings
        from framevault.pipeline.svt_av1 import HIGHEST_CRF
        from framevault.pipeline.x265 import HIGHEST_RATE

        is_classify = task == "classify"
        data_settings = DataSettings(
            data=data,
            labels=labels,
            label_names=label_names,
            merge=merge,
            every=every,
            num_frames=frames,
            size=None if size is None else read_size(size),
            frame_steps=read_numbers(fps_every, option="--fps-every", low=1, high=1 << 20),
            segment_frames=segment_frames,
            network=classifier if is_classify else detector,
            network_weights=classifier_weights if is_classify else detector_weights,
        )
        codec_settings = CodecSettings(
            weights=weights,
            qualities=read_numbers(qualities, option="--qualities", low=LOWEST_QUALITY, high=HIGHEST_QUALITY),
            slices=None if slices is None else read_numbers(slices, option="--slices", low=0, high=MOST_PARTS),
            anchors=None if anchors is None else read_words(anchors, ANCHORS, option="--anchors"),
            anchor_checkpoints=tuple(read_checkpoint(text) for text in anchor_checkpoint or ()),
            presets=read_words(presets, tuple(SVT_PRESETS), option="--presets"),
            qps=QPS if qps is None else read_numbers(qps, option="--qps", low=0, high=HIGHEST_RATE),
            crfs=X265_CRFS if crfs is None else read_numbers(crfs, option="--crfs", low=0, high=HIGHEST_RATE),
            svt_crfs=SVT_CRFS
            if svt_crfs is None
            else read_numbers(svt_crfs, option="--svt-crfs", low=1, high=HIGHEST_CRF),
        )
        return print_rate_accuracy(task, data_settings, codec_settings, out=out, output=output)

    run_job(run)


def bench_train_anchor(
    name: Annotated[str, typer.Argument(help="bmshj2018-factorized, bmshj2018-hyperprior, mbt2018-mean or mbt2018.")],
    data: Annotated[list[str], typer.Option(help="Pictures and videos, as for framevault train. May stand often.")],
    out: Annotated[Path, typer.Option(help="File for the weights, for rate-accuracy --anchor-checkpoint.")],
    rate_weight: Annotated[
        float, typer.Option("--lambda", help="Larger: more bits, closer pixels. A file is one rate.")
    ] = 0.013,
    minutes: Annotated[float, typer.Option(min=0, help="Budget in minutes.")] = 30,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in steps instead: repeatable.")] = None,
    channels: Annotated[str, typer.Option(help="Of the layers and of the latents.")] = "64,96",
    crop: Annotated[int, typer.Option(help="Side of a crop in pixels, a multiple of 64.")] = 192,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops a step.")] = 8,
    unscaled: Annotated[
        bool, typer.Option("--unscaled", help="Take crops as they are: for aligned faces, with --crop of their size.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is random.")] = 0,
) -> None:
    """Train one of CompressAI's models on your pictures, to compare with: there are no weights to be had offline."""

    def run() -> ExitCode:
        from framevault.pipeline.jobs.bench.anchor_training import AnchorRecipe, print_train_anchor
        from framevault.pipeline.jobs.train.budget import Budget

        sides = read_numbers(channels, option="--channels", low=1, high=1024)
        if len(sides) != 2:
            raise PreflightError(f"--channels must be two numbers, such as 64,96, got {channels!r}")
        recipe = AnchorRecipe(
            name=name,
            rate_weight=rate_weight,
            channels=(sides[0], sides[1]),
            budget=Budget(steps=steps, seconds=60 * minutes if steps is None else None),
            crop=crop,
            batch_size=batch_size,
            is_scaled=not unscaled,
            seed=seed,
        )
        return print_train_anchor(recipe, data, out=out)

    run_job(run)


def read_numbers(text: str, *, option: str, low: int, high: int) -> tuple[int, ...]:
    """Read `1,3,5`.

    Raises:
        PreflightError: It is something else, a number is out of range, or stands twice.
    """
    words = [word.strip() for word in text.split(",")]
    numbers = [int(word) for word in words if word.isascii() and word.isdigit()]
    is_known = len(numbers) == len(words) and all(low <= number <= high for number in numbers)
    if not is_known or len(set(numbers)) < len(numbers):
        raise PreflightError(f"{option} must be whole numbers from {low} to {high}, each once, as 1,2; got {text!r}")
    return tuple(numbers)


def read_words(text: str, known: tuple[Word, ...], *, option: str) -> tuple[Word, ...]:
    """Read `a,b`.

    Raises:
        PreflightError: A word is unknown, or stands twice.
    """
    words = [word.strip() for word in text.split(",")]
    chosen = tuple(each for word in words for each in known if each == word)
    if len(chosen) < len(words) or len(set(chosen)) < len(chosen):
        raise PreflightError(f"{option} must be of {','.join(known)}, each once, got {text!r}")
    return chosen


def read_size(text: str) -> tuple[int, int]:
    """Read `512x384`.

    Raises:
        PreflightError: It is something else, or too large.
    """
    sides = [int(side) for side in text.split("x") if side.isascii() and side.isdigit()]
    if len(sides) != 2 or text.count("x") != 1 or not all(2 <= side <= LARGEST_SIDE for side in sides):
        raise PreflightError(f"--size must be WIDTHxHEIGHT, sides of 2 to {LARGEST_SIDE} pixels, got {text!r}")
    width, height = sides
    return width, height


def read_checkpoint(text: str) -> tuple[str, Path]:
    """Read `NAME=FILE`.

    Raises:
        PreflightError: It is something else.
    """
    name, _, path = text.partition("=")
    if not (name and path):
        raise PreflightError(f"--anchor-checkpoint must be NAME=FILE, as mbt2018-mean=model.pth, got {text!r}")
    return name, Path(path)
