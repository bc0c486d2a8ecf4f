"""The commands of `framevault train`."""

import os
from typing import Annotated

import typer

from framevault.pipeline.cli_options import Config, Json, read_settings, run_job
from framevault.pipeline.exits import ExitCode

train = typer.Typer(
    name="train",
    help="Fit a codec to your own footage and backbone.",
    epilog="Example:  framevault train dicm --data frames/ --out my-codec --minutes 30",
    no_args_is_help=True,
)


@train.command(
    "dicm",
    no_args_is_help=True,
    epilog="Example:  framevault train dicm --data s3://frames/ --backbone my.pth --out my-codec --minutes 30",
)
def train_dicm(
    data: Annotated[
        list[str] | None,
        typer.Option(help="Pictures and videos: a folder, file, glob or URL. May stand several times."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder for checkpoints and metrics; the same one resumes.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Weights of your mobilenet_v2, under torchvision's names: .pth or .safetensors.")
    ] = None,
    init: Annotated[str | None, typer.Option(help="Checkpoint to start from; the shipped one, if not given.")] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Start from random networks.")] = False,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes (30).")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in steps instead: repeatable to the bit.")] = None,
    stages: Annotated[str | None, typer.Option(help="Of pretrain,re,codec,video: what is learnt (codec,video)")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Crops a step and process (12).")] = None,
    crop: Annotated[int | None, typer.Option(min=64, help="Side of a crop in pixels, a multiple of 64 (192).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all that is random (0).")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda (all GPUs), or cuda:1.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes that train together; one a GPU.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch in each process.")] = None,
    data_threads: Annotated[int | None, typer.Option(min=1, help="Threads that decode and cut crops (1).")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Train the codec on your footage; run again, it goes on where it stopped. Works with torchrun, too."""
    from framevault.configs.loading import load_job
    from framevault.configs.train import TrainDicmJob

    overrides = {
        "data": tuple(data) if data else None,
        "out": out,
        "backbone": backbone,
        "init": init,
        "from_scratch": from_scratch or None,
        "minutes": minutes,
        "steps": steps,
        "stages": None if stages is None else tuple(name.strip() for name in stages.split(",")),
        "batch_size": batch_size,
        "crop": crop,
        "seed": seed,
        "device": device,
        "processes": processes,
        "threads": threads,
        "data_threads": data_threads,
    }
    job = read_settings(lambda: load_job(TrainDicmJob, config, overrides=overrides))

    def run() -> ExitCode:
        from framevault.pipeline.jobs.train.job import print_train
        from framevault.pipeline.jobs.train.processes import Launch

        return print_train(job, launch=Launch.read(os.environ), as_json=as_json)

    run_job(run)
