"""The commands that look into a vault: `detect`, `classify`, `similar`; and `weights` for the networks they need."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from framevault.pipeline.cli_options import (
    CheckpointCache,
    Classifier,
    ClassifierWeights,
    Config,
    Device,
    ExecutorName,
    Json,
    RayAddress,
    StoredWeights,
    Vault,
    Where,
    Workers,
    read_settings,
    run_job,
)
from framevault.pipeline.exits import ExitCode

looking = typer.Typer()


@looking.command(
    no_args_is_help=True, epilog="Example:  framevault detect vault --where \"video = 'x.mp4' and time_s < 10\""
)
def detect(
    vault: Vault,
    where: Where = None,
    score: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score to show (0.3).")] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            help="mobilenet_v2 (default, shipped), dicm_latents (shipped: twice as fast, but misses small "
            "objects; reads what the shipped codec wrote), or a torchvision model for ResNet-50 features."
        ),
    ] = None,
    detector_weights: Annotated[
        str | None, typer.Option(help="The detector's checkpoint, if not the shipped or published one.")
    ] = None,
    masks: Annotated[bool, typer.Option("--masks", help="Store masks beside boxes, with a Mask R-CNN.")] = False,
    weights: StoredWeights = None,
    checkpoint_cache: CheckpointCache = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    config: Config = None,
    workers: Workers = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Find objects in a vault's stored features. What was looked through before costs nothing."""
    from framevault.configs.loading import load_job
    from framevault.configs.run import DetectJob

    overrides = {
        "where": where,
        "score": score,
        "detector": detector,
        "detector_weights": detector_weights,
        "masks": masks or None,
        "weights": tuple(weights) if weights else None,
        "checkpoint_cache": checkpoint_cache,
        "executor": executor,
        "ray_address": ray_address,
        "workers": workers,
        "device": device,
    }
    job = read_settings(lambda: load_job(DetectJob, config, overrides={"vault": vault, **overrides}))

    def run() -> ExitCode:
        from framevault.pipeline.jobs.detect import print_detect

        return print_detect(job, as_json=as_json)

    run_job(run)


@looking.command(no_args_is_help=True, epilog='Example:  framevault classify vault --top 3 --where "time_s < 10"')
def classify(
    vault: Vault,
    where: Where = None,
    top: Annotated[int | None, typer.Option(min=1, max=10, help="Best labels of a frame that are counted (5).")] = None,
    classifier: Classifier = None,
    classifier_weights: ClassifierWeights = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Store vectors for framevault similar, too; 2.3 kB a frame.")
    ] = False,
    weights: StoredWeights = None,
    checkpoint_cache: CheckpointCache = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    config: Config = None,
    workers: Workers = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Say what frames show, in ImageNet's labels, from stored features. What was done before costs nothing."""
    from framevault.configs.loading import load_job
    from framevault.configs.run import ClassifyJob

    overrides = {
        "where": where,
        "top": top,
        "classifier": classifier,
        "classifier_weights": classifier_weights,
        "vectors": vectors or None,
        "weights": tuple(weights) if weights else None,
        "checkpoint_cache": checkpoint_cache,
        "executor": executor,
        "ray_address": ray_address,
        "workers": workers,
        "device": device,
    }
    job = read_settings(lambda: load_job(ClassifyJob, config, overrides={"vault": vault, **overrides}))

    def run() -> ExitCode:
        from framevault.pipeline.jobs.classify import print_classify

        return print_classify(job, as_json=as_json)

    run_job(run)


@looking.command(no_args_is_help=True, epilog="Example:  framevault similar vault --image x.jpg --top 10")
def similar(
    vault: Vault,
    image: Annotated[str, typer.Option(help="The picture that frames are compared with.")],
    face: Annotated[
        bool,
        typer.Option(
            "--face",
            help="Compare faces of codecs hsc and dicm+hsc by their symbols alone: with the surest one on the "
            "picture, or, where only hsc wrote the vault, with the picture itself.",
        ),
    ] = False,
    where: Where = None,
    top: Annotated[int | None, typer.Option(min=1, help="Frames to show (10).")] = None,
    apart: Annotated[
        float | None, typer.Option(min=0, help="Seconds between two shown frames of a video, at least (1).")
    ] = None,
    classifier: Classifier = None,
    classifier_weights: ClassifierWeights = None,
    weights: StoredWeights = None,
    checkpoint_cache: CheckpointCache = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    config: Config = None,
    workers: Workers = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Find the frames that look most like a picture, from stored features."""
    from framevault.configs.loading import load_job
    from framevault.configs.run import SimilarJob

    overrides = {
        "image": image,
        "face": face or None,
        "where": where,
        "top": top,
        "apart_s": apart,
        "classifier": classifier,
        "classifier_weights": classifier_weights,
        "weights": tuple(weights) if weights else None,
        "checkpoint_cache": checkpoint_cache,
        "executor": executor,
        "ray_address": ray_address,
        "workers": workers,
        "device": device,
    }
    job = read_settings(lambda: load_job(SimilarJob, config, overrides={"vault": vault, **overrides}))

    def run() -> ExitCode:
        from framevault.pipeline.jobs.similar import print_similar

        return print_similar(job, as_json=as_json)

    run_job(run)


weights_commands = typer.Typer(
    name="weights",
    help="Published weights of backbones, detectors and generators: where they are, fetching and importing them.",
    epilog="Example:  framevault weights fetch maskrcnn_resnet50_fpn",
    no_args_is_help=True,
)
looking.add_typer(weights_commands)


@weights_commands.command("list", epilog="Example:  framevault weights list")
def weights_list(as_json: Json = False) -> None:
    """List the files that framevault knows by name, and where they are on this machine."""

    def run() -> ExitCode:
        from framevault.pipeline.jobs.weights import print_weights

        return print_weights(as_json=as_json)

    run_job(run)


@weights_commands.command("fetch", no_args_is_help=True, epilog="Example:  framevault weights fetch mobilenet_v2")
def weights_fetch(name: Annotated[str, typer.Argument(help="A name of the list.")]) -> None:
    """Download a file into torch's hub cache, its SHA-256 checked, unless it is on this machine."""

    def run() -> ExitCode:
        from framevault.pipeline.jobs.weights import print_fetch

        return print_fetch(name)

    run_job(run)


@weights_commands.command(
    "import-generator",
    no_args_is_help=True,
    epilog="Example:  framevault weights import-generator stylegan2-ffhq-config-f.pt face.safetensors --domain face",
)
def weights_import_generator(
    file: Annotated[Path, typer.Argument(help="Checkpoint of rosinality's, pSp, e4e or stylegan2-ada-pytorch.")],
    out: Annotated[Path, typer.Argument(help="File to write, .safetensors.")],
    domain: Annotated[str, typer.Option(help="face128, face, car or church: says the resolution.")],
    layout: Annotated[
        Literal["auto", "rosinality", "psp", "ada"], typer.Option(help="Whose keys the file has; psp is e4e's, too.")
    ] = "auto",
) -> None:
    """Read a StyleGAN2 generator of another project, every tensor checked, and store it for hsc. No code is run."""

    def run() -> ExitCode:
        from framevault.pipeline.jobs.generators import print_import

        return print_import(file, out, domain=domain, layout=None if layout == "auto" else layout)

    run_job(run)


@weights_commands.command(
    "sample-generator",
    no_args_is_help=True,
    epilog="Example:  framevault weights sample-generator face.safetensors sheet.png --truncation 0.7",
)
def weights_sample_generator(
    file: Annotated[Path, typer.Argument(help="What import-generator wrote.")],
    out: Annotated[Path, typer.Argument(help="Picture to write, .png.")],
    count: Annotated[int, typer.Option(min=1, max=256, help="How many pictures.")] = 8,
    truncation: Annotated[float, typer.Option(min=0, max=1, help="1: all kinds; towards 0: all alike.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the random styles.")] = 0,
) -> None:
    """Draw pictures of random styles, to see whether a generator came over well."""

    def run() -> ExitCode:
        from framevault.pipeline.jobs.generators import print_sample

        return print_sample(file, out, count=count, truncation=truncation, seed=seed)

    run_job(run)
