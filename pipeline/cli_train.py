"""The commands of `framevault train`."""

import os
from typing import Annotated

import typer

from framevault.pipeline.cli_options import Config, Json, read_settings, run_job
from framevault.pipeline.exits import ExitCode

train = typer.Typer(
    name="train",
    help="Fit a codec or the detector to your own footage, backbone, labels or kind of pictures.",
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
    architecture: Annotated[
        str | None, typer.Option(help="The backbone around the codec: mobilenet_v2 (default) or resnet50.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Your weights of it, under torchvision's names: .pth, .safetensors, or such as resnet50_v2."),
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
        "architecture": architecture,
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


@train.command(
    "hsc",
    no_args_is_help=True,
    epilog="Example:  framevault train hsc --data faces/ --from-scratch --out my-hsc --minutes 120",
)
def train_hsc(
    data: Annotated[
        list[str] | None,
        typer.Option(help="Aligned pictures of one domain: a folder, file, glob or URL. May stand several times."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder for checkpoints and metrics; the same one resumes.")] = None,
    domain: Annotated[str | None, typer.Option(help="Whose sizes the networks have (face128).")] = None,
    init: Annotated[str | None, typer.Option(help="Checkpoint to start from; the shipped one, if not given.")] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Start from random networks.")] = False,
    generator: Annotated[
        str | None, typer.Option(help="A trained StyleGAN2 generator to build the codec behind.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="MobileNetV2's weights for the perceptual loss: .pth, .safetensors, or mobilenet_v2."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes (30).")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in steps instead: repeatable to the bit.")] = None,
    stages: Annotated[
        str | None, typer.Option(help="Of generator,inversion,codec,autoencoder,joint (autoencoder,joint).")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures a step and process (12).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all that is random (0).")] = None,
    compile_networks: Annotated[
        bool, typer.Option("--compile", help="Let torch compile the networks: minutes at first, then faster steps.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda (all GPUs), or cuda:1.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes that train together; one a GPU.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch in each process.")] = None,
    data_threads: Annotated[int | None, typer.Option(min=1, help="Threads that decode and cut pictures (1).")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Train the codec of one domain's pictures; run again, it goes on where it stopped. Works with torchrun, too."""
    from framevault.configs.loading import load_job
    from framevault.configs.train_hsc import TrainHscJob

    overrides = {
        "data": tuple(data) if data else None,
        "out": out,
        "domain": domain,
        "init": init,
        "from_scratch": from_scratch or None,
        "generator": generator,
        "backbone": backbone,
        "minutes": minutes,
        "steps": steps,
        "stages": None if stages is None else tuple(name.strip() for name in stages.split(",")),
        "batch_size": batch_size,
        "seed": seed,
        "compile": compile_networks or None,
        "device": device,
        "processes": processes,
        "threads": threads,
        "data_threads": data_threads,
    }
    job = read_settings(lambda: load_job(TrainHscJob, config, overrides=overrides))

    def run() -> ExitCode:
        from framevault.pipeline.jobs.train.job import print_train
        from framevault.pipeline.jobs.train.processes import Launch

        return print_train(job, launch=Launch.read(os.environ), as_json=as_json)

    run_job(run)


@train.command(
    "detector",
    no_args_is_help=True,
    epilog="Example:  framevault train detector --data pictures/ --labels coco.json --out my-detector --minutes 30",
)
def train_detector(
    data: Annotated[
        list[str] | None,
        typer.Option(help="The labelled pictures: a folder, file, glob or URL. May stand several times."),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="A COCO file of their boxes.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder for checkpoints and metrics; the same one resumes.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Detector's checkpoint to start from; the shipped one, if not given.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Codec dicm's checkpoint whose features it reads; the shipped one, if not given.")
    ] = None,
    qualities: Annotated[
        str | None, typer.Option(help="Of the streams that it learns to read (1,2,3,4,5,6,7,8).")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes (30).")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in steps instead: repeatable to the bit.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Canvases a step and process (6).")] = None,
    canvas: Annotated[int | None, typer.Option(min=64, help="Side of a canvas, a multiple of 32 pixels (448).")] = None,
    mirrored: Annotated[
        float | None, typer.Option(help="Share of mirrored cuts (0.5); 0 where letters or sides tell labels apart.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all that is random (0).")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda (all GPUs), or cuda:1.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes that train together; one a GPU.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch in each process.")] = None,
    data_threads: Annotated[int | None, typer.Option(min=1, help="Threads that decode and cut pictures (1).")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Fit the detector on features to your labelled pictures; run again, it goes on where it stopped."""
    from framevault.configs.loading import load_job
    from framevault.configs.train_detector import TrainDetectorJob

    overrides = {
        "data": tuple(data) if data else None,
        "labels": labels,
        "out": out,
        "init": init,
        "weights": weights,
        "qualities": None if qualities is None else tuple(_read_number(word) for word in qualities.split(",")),
        "minutes": minutes,
        "steps": steps,
        "batch_size": batch_size,
        "canvas": canvas,
        "mirrored": mirrored,
        "seed": seed,
        "device": device,
        "processes": processes,
        "threads": threads,
        "data_threads": data_threads,
    }
    job = read_settings(lambda: load_job(TrainDetectorJob, config, overrides=overrides))

    def run() -> ExitCode:
        from framevault.pipeline.jobs.train.job import print_train
        from framevault.pipeline.jobs.train.processes import Launch

        return print_train(job, launch=Launch.read(os.environ), as_json=as_json)

    run_job(run)


def _read_number(word: str) -> int | str:
    """Return a whole number; what is none stays as it is, for the settings to refuse."""
    return int(word) if word.strip().isdecimal() else word


@train.command(
    "directions",
    no_args_is_help=True,
    epilog="Example:  framevault train directions --weights my-hsc.safetensors --data faces/ --sheets sheets",
)
def train_directions(
    data: Annotated[
        list[str] | None,
        typer.Option(help="Aligned faces: a folder, file, glob or URL. May stand several times."),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Checkpoint of codec hsc; the shipped one, if not given.")] = None,
    out: Annotated[
        str | None, typer.Option(help="Where the directions go; beside the checkpoint, if not given.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="CSV with file,attribute,value, for attributes of your own.")
    ] = None,
    moves: Annotated[
        str | None, typer.Option(help="What edits by labels move: both (styles and feature) or styles (both).")
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(help="Rows where a labelled attribute is seen, as glasses=0.15:0.6. May stand several times."),
    ] = None,
    sheets: Annotated[
        str | None, typer.Option(help="Folder for contact sheets: rows are faces, columns amounts.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="What to write, as brightness,fine-2=beard; all, if not given.")
    ] = None,
    faces: Annotated[int | None, typer.Option(min=20, help="Faces to look at (2000).")] = None,
    factors: Annotated[
        int | None, typer.Option(min=0, help="Directions of the weights alone, for each group of styles (4).")
    ] = None,
    ridge: Annotated[float | None, typer.Option(help="How smooth boundaries are (1).")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, or cuda.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Find directions that faces can be edited along, and draw what they do."""
    from framevault.configs.directions import DirectionsJob
    from framevault.configs.loading import load_job

    overrides: dict[str, object] = {
        "data": tuple(data) if data else None,
        "weights": weights,
        "out": out,
        "labels": labels,
        "moves": moves,
        "sheets": sheets,
        "keep": None if keep is None else tuple(name.strip() for name in keep.split(",")),
        "faces": faces,
        "factors": factors,
        "ridge": ridge,
        "device": device,
    }
    if region is not None:
        overrides["regions"] = read_settings(lambda: dict(map(_read_region, region)))
    job = read_settings(lambda: load_job(DirectionsJob, config, overrides=overrides))

    def run() -> ExitCode:
        from framevault.pipeline.jobs.train.directions import print_directions

        return print_directions(job, as_json=as_json)

    run_job(run)


def _read_region(text: str) -> tuple[str, tuple[float, float]]:
    """Return an attribute and its rows, of `glasses=0.15:0.6`; raises ValueError if it is something else."""
    name, _, shares = text.partition("=")
    top, _, bottom = shares.partition(":")
    try:
        return name.strip(), (float(top), float(bottom))
    except ValueError as error:
        raise ValueError(f"--region must be like glasses=0.15:0.6, got {text!r}") from error
