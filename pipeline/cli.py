"""The command line. Environment and arguments are read here and nowhere else.

Each command imports what it needs when it runs: `--help`, `info` and `query` start without torch, av and Ray, `plan`
without torch and Ray.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, TypeVar

import typer

from framevault.pipeline.exits import ExitCode, PreflightError

if TYPE_CHECKING:
    from framevault.configs.run import CompressJob

T = TypeVar("T")

app = typer.Typer(
    name="framevault",
    help="An archive for video that machines read.",
    epilog="First steps:  framevault compress clip.mp4 vault  |  framevault detect vault  |  framevault info vault",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Inputs = Annotated[
    list[str],
    typer.Argument(help="Videos, folders, globs or URLs; the last one is the vault.", metavar="SOURCE... VAULT"),
]
Vault = Annotated[str, typer.Argument(help="A folder, or a URL such as s3://bucket/vault.")]
Codec = Annotated[str | None, typer.Option(help="dicm: features for machines (default). raw: the frames, lossless.")]
Quality = Annotated[int | None, typer.Option(min=1, max=8, help="1 (fewest bytes) to 8 (closest features).")]
Fps = Annotated[float | None, typer.Option(help="Frames a second to keep; all, if not given.")]
ExecutorName = Annotated[
    Literal["local", "ray"] | None, typer.Option("--executor", help="local: this process. ray: a Ray cluster's actors.")
]
RayAddress = Annotated[
    str | None, typer.Option(help="The Ray cluster, as host:port or auto; one on this machine, if not given.")
]
SegmentFrames = Annotated[
    int | None, typer.Option(min=1, help="Frames that a segment should have (128); cuts fall on keyframes.")
]
Config = Annotated[Path | None, typer.Option(help="A YAML file with settings; options given here win over it.")]
Json = Annotated[bool, typer.Option("--json", help="Print events as JSON lines instead of a table.")]


@app.command(no_args_is_help=True, epilog="Example:  framevault plan raw/*.mp4 s3://bucket/vault --fps 5")
def plan(
    paths: Inputs,
    codec: Codec = None,
    quality: Quality = None,
    fps: Fps = None,
    segment_frames: SegmentFrames = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say what compressing would do: sources, segments, frames, expected bytes and time. Writes nothing."""
    from framevault.pipeline.jobs.plan import print_plan

    job = _compress_job(paths, config, codec=codec, quality=quality, fps=fps, segment_frames=segment_frames)
    _run(lambda: print_plan(job, as_json=as_json))


@app.command(no_args_is_help=True, epilog="Example:  framevault compress raw/ vault --quality 5 --fps 5")
def compress(
    paths: Inputs,
    codec: Codec = None,
    quality: Quality = None,
    fps: Fps = None,
    segment_frames: SegmentFrames = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    config: Config = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try what is in quarantine again.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers; as many as fit this machine, if not given.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, or cuda.")] = None,
    as_json: Json = False,
) -> None:
    """Compress videos and folders of pictures into a vault. Interrupted, it goes on when run again."""
    overrides = {
        "codec": codec,
        "quality": quality,
        "fps": fps,
        "segment_frames": segment_frames,
        "executor": executor,
        "ray_address": ray_address,
        "workers": workers,
        "device": device,
    }
    job = _compress_job(paths, config, **overrides, retry_failed=retry_failed or None)

    def run() -> ExitCode:
        from framevault.pipeline.jobs.compress import print_compress

        return print_compress(job, as_json=as_json)

    _run(run)


@app.command(no_args_is_help=True, epilog="Example:  framevault info vault")
def info(vault: Vault, as_json: Json = False) -> None:
    """Show what a vault holds: videos, segments, frames, bytes against the source, codecs, failures."""
    from framevault.pipeline.jobs.info import print_info

    _run(lambda: print_info(vault, as_json=as_json))


@app.command(
    no_args_is_help=True, epilog="Example:  framevault detect vault --where \"video = 'x.mp4' and time_s < 10\""
)
def detect(
    vault: Vault,
    where: Annotated[
        str | None, typer.Option(help="SQL condition over the frames view; all frames, if not given.")
    ] = None,
    score: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score to show (0.3).")] = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    config: Config = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers; as many as fit this machine, if not given.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, or cuda.")] = None,
    as_json: Json = False,
) -> None:
    """Find objects in a vault's stored features. What was looked through before costs nothing."""
    from framevault.configs.loading import load_job
    from framevault.configs.run import DetectJob

    overrides = {
        "where": where,
        "score": score,
        "executor": executor,
        "ray_address": ray_address,
        "workers": workers,
        "device": device,
    }
    job = _usage(lambda: load_job(DetectJob, config, overrides={"vault": vault, **overrides}))

    def run() -> ExitCode:
        from framevault.pipeline.jobs.detect import print_detect

        return print_detect(job, as_json=as_json)

    _run(run)


@app.command(
    no_args_is_help=True, epilog='Example:  framevault query vault "select label, count(*) from detections group by 1"'
)
def query(
    vault: Vault,
    sql: Annotated[str, typer.Argument(help="A SELECT over videos, names, segments, frames, detections, failures.")],
    output: Annotated[
        Literal["table", "csv", "json", "arrow"], typer.Option("--format", help="How rows are printed.")
    ] = "table",
) -> None:
    """Ask a vault in SQL (DuckDB's dialect)."""
    from framevault.pipeline.jobs.query import print_query

    _run(lambda: print_query(vault, sql, output=output))


@app.command(no_args_is_help=True, epilog="Example:  framevault verify vault && echo clean")
def verify(vault: Vault, as_json: Json = False) -> None:
    """Check every object, checksum and row of a vault against its manifests. Exit code 1: something is wrong."""
    from framevault.pipeline.jobs.verify import print_verify

    _run(lambda: print_verify(vault, as_json=as_json))


bench = typer.Typer(
    name="bench",
    help="Measure speed, size and accuracy on your own video. Real streams, never estimates.",
    epilog="Example:  framevault bench stages clip.mp4",
    no_args_is_help=True,
)
app.add_typer(bench)

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

    _run(run)


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

    _run(run)


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

    _run(run)


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


def _compress_job(paths: list[str], config: Path | None, **overrides: object) -> "CompressJob":
    """Read the settings of `plan` and `compress`; the last path is the vault."""
    from framevault.configs.loading import load_job
    from framevault.configs.run import CompressJob

    if len(paths) < 2:
        _fail(ExitCode.USAGE, f"expected at least one source and then the vault, got only {paths[0]!r}")
    places = {"inputs": tuple(paths[:-1]), "vault": paths[-1]}
    return _usage(lambda: load_job(CompressJob, config, overrides={**places, **overrides}))


def _usage(read: Callable[[], T]) -> T:
    """Read settings; a wrong one ends the command with exit code 2."""
    try:
        return read()
    except (ValueError, OSError) as error:
        _fail(ExitCode.USAGE, str(error))


def _run(job: Callable[[], ExitCode]) -> NoReturn:
    """Run a job; an error that it names ends the command without a traceback."""
    from framevault.codecs.errors import CodecError
    from framevault.pipeline.executors.base import ExecutorError, JobStoppedError
    from framevault.pipeline.sources import InputError
    from framevault.storage.errors import PackError, QueryError, StoreError, VaultError
    from framevault.workers.detectors.base import DetectorError

    try:
        code = job()
    except (PreflightError, InputError, VaultError, QueryError, CodecError, DetectorError, ExecutorError) as error:
        _fail(ExitCode.USAGE, str(error))
    except (JobStoppedError, StoreError, PackError) as error:
        _fail(ExitCode.FAILED, str(error))
    except KeyboardInterrupt:
        _fail(ExitCode.INTERRUPTED, "interrupted; the same command goes on where it stopped")
    raise typer.Exit(code)


def _fail(code: ExitCode, message: str) -> NoReturn:
    """Print an error and end the command."""
    typer.echo(f"framevault: {message}", err=True)
    raise typer.Exit(code)


def main() -> NoReturn:
    """Run the command line; the exit code says how it ended."""
    app()
    raise SystemExit(ExitCode.DONE)


if __name__ == "__main__":
    main()
