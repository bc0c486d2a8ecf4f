"""The commands of `framevault bench`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from framevault.pipeline.cli_options import Quality, run_job
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


@bench.command("stages", no_args_is_help=True, epilog="Example:  framevault bench stages clip.mp4 --quality 5")
def bench_stages(
    video: Annotated[str, typer.Argument(help="A video, or a folder of pictures of one size.")],
    codec: Annotated[Literal["dicm", "raw"], typer.Option(help="What is measured.")] = "dicm",
    quality: Quality = None,
    frames: Frames = None,
    output: BenchFormat = "table",
) -> None:
    """Frames a second of compress and detect, of each of their stages alone, and the ratio between them."""

    def run() -> ExitCode:
        from framevault.codecs.spec import DEFAULT_QUALITY
        from framevault.pipeline.jobs.bench.stages import print_stages

        return print_stages(video, codec=codec, quality=quality or DEFAULT_QUALITY, num_frames=frames, output=output)

    run_job(run)


@bench.command("rate", no_args_is_help=True, epilog="Example:  framevault bench rate clip.mp4 --frames 60 --every 4")
def bench_rate(
    video: Annotated[str, typer.Argument(help="A video, or a folder of pictures of one size.")],
    frames: Frames = None,
    every: Every = 1,
    qualities: Qualities = None,
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
        )

    run_job(run)


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
