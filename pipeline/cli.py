"""The command line. Environment and arguments are read here and in the neighbours `cli_*.py`, and nowhere else.

Each command imports what it needs when it runs: `--help`, `info` and `query` start without torch, av and Ray, `plan`
without torch and Ray.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from framevault.pipeline.cli_bench import bench
from framevault.pipeline.cli_looking import looking
from framevault.pipeline.cli_options import (
    Codec,
    Config,
    Device,
    ExecutorName,
    FaceFps,
    FaceQuality,
    FaceScore,
    FaceSize,
    FaceWeights,
    Fps,
    Inputs,
    Intra,
    Json,
    Quality,
    RayAddress,
    SegmentFrames,
    Slices,
    Vault,
    Weights,
    Workers,
    fail,
    read_settings,
    run_job,
)
from framevault.pipeline.cli_restore import restoring
from framevault.pipeline.cli_train import train
from framevault.pipeline.cli_upkeep import upkeep
from framevault.pipeline.exits import ExitCode

if TYPE_CHECKING:
    from framevault.configs.run import CompressJob

app = typer.Typer(
    name="framevault",
    help="An archive for video that machines read.",
    epilog="First steps:  framevault compress clip.mp4 vault  |  framevault detect vault  |  framevault info vault",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command(no_args_is_help=True, epilog="Example:  framevault plan raw/*.mp4 s3://bucket/vault --fps 5")
def plan(
    paths: Inputs,
    codec: Codec = None,
    quality: Quality = None,
    weights: Weights = None,
    intra: Intra = None,
    slices: Slices = None,
    face_quality: FaceQuality = None,
    face_weights: FaceWeights = None,
    face_score: FaceScore = None,
    face_size: FaceSize = None,
    face_fps: FaceFps = None,
    fps: Fps = None,
    segment_frames: SegmentFrames = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say what compressing would do: sources, segments, frames, expected bytes and time. Writes nothing."""
    from framevault.pipeline.jobs.plan import print_plan

    overrides = {
        "codec": codec,
        "quality": quality,
        "weights": weights,
        "intra": intra,
        "slices": slices,
        "face_quality": face_quality,
        "face_weights": face_weights,
        "face_score": face_score,
        "face_size": face_size,
        "face_fps": face_fps,
        "fps": fps,
        "segment_frames": segment_frames,
    }
    job = _compress_job(paths, config, **overrides)
    run_job(lambda: print_plan(job, as_json=as_json))


@app.command(no_args_is_help=True, epilog="Example:  framevault compress raw/ vault --quality 5 --fps 5")
def compress(
    paths: Inputs,
    codec: Codec = None,
    quality: Quality = None,
    weights: Weights = None,
    intra: Intra = None,
    slices: Slices = None,
    face_quality: FaceQuality = None,
    face_weights: FaceWeights = None,
    face_score: FaceScore = None,
    face_size: FaceSize = None,
    face_fps: FaceFps = None,
    fps: Fps = None,
    segment_frames: SegmentFrames = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    config: Config = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try what is in quarantine again.")] = False,
    workers: Workers = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Compress videos and folders of pictures into a vault. Interrupted, it goes on when run again."""
    overrides = {
        "codec": codec,
        "quality": quality,
        "weights": weights,
        "intra": intra,
        "slices": slices,
        "face_quality": face_quality,
        "face_weights": face_weights,
        "face_score": face_score,
        "face_size": face_size,
        "face_fps": face_fps,
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

    run_job(run)


@app.command(no_args_is_help=True, epilog="Example:  framevault info vault")
def info(vault: Vault, as_json: Json = False) -> None:
    """Show what a vault holds: videos, segments, frames, bytes against the source, codecs, failures."""
    from framevault.pipeline.jobs.info import print_info

    run_job(lambda: print_info(vault, as_json=as_json))


app.add_typer(looking)
app.add_typer(restoring)


@app.command(
    no_args_is_help=True, epilog='Example:  framevault query vault "select label, count(*) from detections group by 1"'
)
def query(
    vault: Vault,
    sql: Annotated[
        str, typer.Argument(help="A SELECT over videos, names, segments, frames, detections, labels, faces, failures.")
    ],
    output: Annotated[
        Literal["table", "csv", "json", "arrow"], typer.Option("--format", help="How rows are printed.")
    ] = "table",
) -> None:
    """Ask a vault in SQL (DuckDB's dialect)."""
    from framevault.pipeline.jobs.query import print_query

    run_job(lambda: print_query(vault, sql, output=output))


@app.command(no_args_is_help=True, epilog="Example:  framevault verify vault && echo clean")
def verify(vault: Vault, as_json: Json = False) -> None:
    """Check every object, checksum and row of a vault against its manifests. Exit code 1: something is wrong."""
    from framevault.pipeline.jobs.verify import print_verify

    run_job(lambda: print_verify(vault, as_json=as_json))


app.add_typer(upkeep)
app.add_typer(bench)
app.add_typer(train)


def _compress_job(paths: list[str], config: Path | None, **overrides: object) -> "CompressJob":
    """Read the settings of `plan` and `compress`; the last path is the vault."""
    from framevault.configs.loading import load_job
    from framevault.configs.run import CompressJob

    if len(paths) < 2:
        fail(ExitCode.USAGE, f"expected at least one source and then the vault, got only {paths[0]!r}")
    places = {"inputs": tuple(paths[:-1]), "vault": paths[-1]}
    return read_settings(lambda: load_job(CompressJob, config, overrides={**places, **overrides}))


def main() -> NoReturn:
    """Run the command line; the exit code says how it ended."""
    app()
    raise SystemExit(ExitCode.DONE)


if __name__ == "__main__":
    main()
