"""What the commands' modules share: options that several commands have, and how a command begins and ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NoReturn, TypeVar

import typer

from framevault.pipeline.exits import ExitCode, PreflightError

T = TypeVar("T")

Inputs = Annotated[
    list[str],
    typer.Argument(help="Videos, folders, globs or URLs; the last one is the vault.", metavar="SOURCE... VAULT"),
]
Vault = Annotated[str, typer.Argument(help="A folder, or a URL such as s3://bucket/vault.")]
Codec = Annotated[
    str | None, typer.Option(help="dicm: features for machines (default). hsc: faces. dicm+hsc: both. raw: lossless.")
]
Quality = Annotated[int | None, typer.Option(min=1, max=8, help="1 (fewest bytes) to 8 (closest features).")]
Weights = Annotated[
    str | None,
    typer.Option(
        help="The codec's checkpoint, from framevault train (the shipped one, if not given); vaults keep a copy."
    ),
]
StoredWeights = Annotated[
    list[str] | None,
    typer.Option(help="Checkpoint that the vault was written with, if it keeps none itself. May stand several times."),
]
CheckpointCache = Annotated[
    str | None,
    typer.Option(
        "--checkpoint-cache",
        envvar="FRAMEVAULT_CHECKPOINT_CACHE",
        help="Folder for checkpoints fetched from vaults; ~/.cache/framevault/checkpoints, if not given.",
    ),
]
Where = Annotated[str | None, typer.Option(help="SQL condition over the frames view; all frames, if not given.")]
Classifier = Annotated[
    str | None, typer.Option(help="mobilenet_v2 (default); resnet50_v1 or _v2 for ResNet-50 features.")
]
ClassifierWeights = Annotated[
    str | None,
    typer.Option(help="The classifier's weights; by its name from torch's cache or a download, if not given."),
]
Intra = Annotated[
    bool | None, typer.Option("--intra", help="Code every frame by itself, not against the one before it.")
]
Slices = Annotated[
    int | None, typer.Option(min=0, help="Slices that streams hold; as many as are of use, if not given.")
]
FaceQuality = Annotated[
    int | None, typer.Option("--face-quality", min=1, max=8, help="Of the faces that dicm+hsc codes (5).")
]
FaceWeights = Annotated[str | None, typer.Option("--face-weights", help="As --weights, of what codes faces.")]
FaceScore = Annotated[
    float | None, typer.Option("--face-score", min=0.05, max=1, help="Lowest score of a face that is coded (0.4).")
]
FaceSize = Annotated[
    int | None,
    typer.Option(
        "--face-size", min=0, metavar="PIXELS", help="Shorter side of the box from which on a face is coded (0: all)."
    ),
]
FaceFps = Annotated[
    float | None, typer.Option("--face-fps", help="Frames a second that faces are looked for in; all, if not given.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Workers; as many as fit this machine, if not given.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, or cuda.")]
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


def read_settings(read: Callable[[], T]) -> T:
    """Read settings; a wrong one ends the command with exit code 2."""
    try:
        return read()
    except (ValueError, OSError) as error:
        fail(ExitCode.USAGE, str(error))


def run_job(job: Callable[[], ExitCode]) -> NoReturn:
    """Run a job; an error that it names ends the command without a traceback."""
    from framevault.codecs.errors import CodecError
    from framevault.pipeline.executors.base import ExecutorError, JobStoppedError
    from framevault.pipeline.jobs.train.errors import TrainingError
    from framevault.pipeline.sources import InputError
    from framevault.storage.errors import PackError, QueryError, StoreError, VaultError
    from framevault.workers.detectors.base import DetectorError

    try:
        code = job()
    except (PreflightError, InputError, VaultError, QueryError, CodecError, DetectorError, ExecutorError) as error:
        fail(ExitCode.USAGE, str(error))
    except (JobStoppedError, StoreError, PackError, TrainingError) as error:
        fail(ExitCode.FAILED, str(error))
    except KeyboardInterrupt:
        fail(ExitCode.INTERRUPTED, "interrupted; the same command goes on where it stopped")
    raise typer.Exit(code)


def fail(code: ExitCode, message: str) -> NoReturn:
    """Print an error and end the command."""
    typer.echo(f"framevault: {message}", err=True)
    raise typer.Exit(code)
