"""The commands of `framevault bench`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from framevault.pipeline.cli_bench_faces import bench_face_groups, bench_face_sheet, bench_face_tasks
from framevault.pipeline.cli_options import Quality, run_job
from framevault.pipeline.cli_rate_accuracy import bench_rate_accuracy, bench_train_anchor
from framevault.pipeline.cli_rate_perception import bench_rate_perception
from framevault.pipeline.exits import ExitCode, PreflightError

bench = typer.Typer(
    name="bench",
    help="Measure speed, size and accuracy on your own video. Real streams, never estimates.",
    epilog="Example:  framevault bench stages clip.mp4",
    no_args_is_help=True,
)
BenchFormat = Annotated[Literal["table", "json"], typer.Option("--format", help="How rows are printed.")]
Every = Annotated[int, typer.Option(min=1, help="Take frames 0, K, 2K and so on.")]
Qualities = Annotated[str | None, typer.Option(help="Qualities of dicm to measure, such as 1,3,5,8.")]
Frames = Annotated[int | None, typer.Option(min=1, help="Most frames to measure on.")]
DetectorName = Annotated[
    str | None,
    typer.Option(help="dicm_latents, or mobilenet_v2 (default)."),
]
FeatureDetectorName = Annotated[str | None, typer.Option("--detector", help="dicm_latents, or mobilenet_v2 (default).")]


@bench.command("stages", no_args_is_help=True, epilog="Example:  framevault bench stages clip.mp4 --quality 5")
def bench_stages(
    video: Annotated[str, typer.Argument(help="A video, or a folder of pictures of one size.")],
    codec: Annotated[Literal["dicm", "raw"], typer.Option(help="What is measured.")] = "dicm",
    quality: Quality = None,
    frames: Frames = None,
    detector: DetectorName = None,
    size: Annotated[str | None, typer.Option(help="Scale the frames first, such as 1920x1080.", metavar="WxH")] = None,
    output: BenchFormat = "table",
) -> None:
    """Frames a second of compress and detect, of each of their stages alone, and the ratio between them."""

    def run() -> ExitCode:
        from framevault.codecs.spec import DEFAULT_QUALITY
        from framevault.pipeline.jobs.bench.scaling import read_size
        from framevault.pipeline.jobs.bench.stages import print_stages

        return print_stages(
            video,
            codec=codec,
            quality=quality or DEFAULT_QUALITY,
            num_frames=frames,
            output=output,
            detector=detector,
            size=None if size is None else read_size(size),
        )

    run_job(run)


@bench.command("detection", no_args_is_help=True, epilog="Example:  framevault bench detection clip.mp4 --workers 1")
def bench_detection(
    video: Annotated[str, typer.Argument(help="A video, or a folder of pictures of one size.")],
    quality: Quality = None,
    frames: Frames = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; as given, all cores.")] = None,
    output: BenchFormat = "table",
) -> None:
    """Detection from the vault's streams against decoding H.265 and detecting, in turns, on the CPU."""

    def run() -> ExitCode:
        from framevault.codecs.spec import DEFAULT_QUALITY
        from framevault.pipeline.jobs.bench.detection import print_detection

        return print_detection(
            video, quality=quality or DEFAULT_QUALITY, num_frames=frames, workers=workers, output=output
        )

    run_job(run)


@bench.command("rate", no_args_is_help=True, epilog="Example:  framevault bench rate clip.mp4 --frames 60 --every 4")
def bench_rate(
    video: Annotated[str, typer.Argument(help="A video, or a folder of pictures of one size.")],
    frames: Frames = None,
    every: Every = 1,
    qualities: Qualities = None,
    detector: FeatureDetectorName = None,
    output: BenchFormat = "table",
) -> None:
    """Bytes a frame at each quality against x265's, and what the detector still finds. Needs no labels."""

    def run() -> ExitCode:
        from framevault.pipeline.jobs.bench.rate import NUM_FRAMES, QUALITIES, print_rates

        return print_rates(
            video,
            num_frames=frames or NUM_FRAMES,
            every=every,
            qualities=_read_qualities(qualities) or QUALITIES,
            output=output,
            detector_name=detector,
        )

    run_job(run)


@bench.command(
    "accuracy",
    no_args_is_help=True,
    epilog="Example:  framevault bench accuracy labels.json clip.mp4 --labels person=person,car=vehicle --every 5",
)
def bench_accuracy(
    labels_file: Annotated[Path, typer.Argument(help="A COCO file of boxes.", metavar="LABELS.json")],
    frames: Annotated[str, typer.Argument(help="The video, or the folder that picture names are relative to.")],
    labels: Annotated[
        str | None, typer.Option(help="Detector's label=file's label, ...; the names both have, if not given.")
    ] = None,
    merge: Annotated[str | None, typer.Option(help="Labels of the file that count as another: bus=vehicle.")] = None,
    every: Every = 1,
    qualities: Qualities = None,
    detector: FeatureDetectorName = None,
    detector_weights: Annotated[
        str | None, typer.Option(help="The detector's weights, such as framevault train detector makes.")
    ] = None,
    output: BenchFormat = "table",
) -> None:
    """The detector's AP50 on labelled frames: from original pixels, and through real streams at each quality."""

    def run() -> ExitCode:
        from framevault.pipeline.jobs.bench.accuracy import QUALITIES, print_accuracy

        return print_accuracy(
            labels_file,
            frames,
            labels=labels,
            merge=merge,
            every=every,
            qualities=_read_qualities(qualities) or QUALITIES,
            output=output,
            detector_name=detector,
            detector_weights=detector_weights,
        )

    run_job(run)


bench.command(
    "rate-accuracy",
    no_args_is_help=True,
    epilog="Example:  framevault bench rate-accuracy clip.mp4 --task detect --labels boxes.json --every 3 --out result",
)(bench_rate_accuracy)
bench.command(
    "train-anchor",
    no_args_is_help=True,
    epilog="Example:  framevault bench train-anchor mbt2018-mean --data frames/ --lambda 0.01 --out anchor-010.pth",
)(bench_train_anchor)
bench.command(
    "rate-perception",
    no_args_is_help=True,
    epilog="Example:  framevault bench rate-perception faces/ --weights face128.safetensors --out result",
)(bench_rate_perception)
bench.command(
    "face-sheet",
    no_args_is_help=True,
    epilog="Example:  framevault bench face-sheet --samples --qualities 3,5 --out sheet.png",
)(bench_face_sheet)
bench.command(
    "face-groups",
    no_args_is_help=True,
    epilog="Example:  framevault bench face-groups faces/ --labels pose.csv --out groups",
)(bench_face_groups)
bench.command(
    "face-tasks",
    no_args_is_help=True,
    epilog="Example:  framevault bench face-tasks train/ --landmarks train.csv --test test/ --test-landmarks test.csv "
    "--out tasks",
)(bench_face_tasks)


@bench.command("entropy", epilog="Example:  framevault bench entropy --frames 64")
def bench_entropy(
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a batch (32).")] = None,
    symbols: Annotated[int | None, typer.Option(min=1, help="Symbols of a frame (50000).")] = None,
    output: BenchFormat = "table",
) -> None:
    """The entropy coder alone: symbols a second, by threads, and bytes over the ideal length. Needs no video."""

    def run() -> ExitCode:
        from framevault.pipeline.jobs.bench.entropy import print_entropy

        return print_entropy(num_frames=frames, num_symbols=symbols, output=output)

    run_job(run)


def _read_qualities(text: str | None) -> tuple[int, ...]:
    """Read `1,3,5`; empty if not given."""
    from framevault.codecs.spec import HIGHEST_QUALITY, LOWEST_QUALITY

    words = [] if text is None else text.split(",")
    known = {str(quality): quality for quality in range(LOWEST_QUALITY, HIGHEST_QUALITY + 1)}
    if not all(word.strip() in known for word in words) or len(set(words)) < len(words):
        raise PreflightError(
            f"--qualities must be like 1,3,5, from {LOWEST_QUALITY} to {HIGHEST_QUALITY}, each once, got {text!r}"
        )
    return tuple(known[word.strip()] for word in words)
