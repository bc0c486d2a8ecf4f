"""The commands that look into a vault: `detect`, `classify`, `similar`; and `weights` for the networks they need."""

from typing import Annotated

import typer

from framevault.pipeline.cli_options import (
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
        str | None, typer.Option(help="mobilenet_v2 (default, shipped), or a torchvision model for ResNet-50 features.")
    ] = None,
    detector_weights: Annotated[
        str | None, typer.Option(help="The detector's checkpoint, if not the shipped or published one.")
    ] = None,
    masks: Annotated[bool, typer.Option("--masks", help="Store masks beside boxes, with a Mask R-CNN.")] = False,
    weights: StoredWeights = None,
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
    where: Where = None,
    top: Annotated[int | None, typer.Option(min=1, help="Frames to show (10).")] = None,
    apart: Annotated[
        float | None, typer.Option(min=0, help="Seconds between two shown frames of a video, at least (1).")
    ] = None,
    classifier: Classifier = None,
    classifier_weights: ClassifierWeights = None,
    weights: StoredWeights = None,
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
        "where": where,
        "top": top,
        "apart_s": apart,
        "classifier": classifier,
        "classifier_weights": classifier_weights,
        "weights": tuple(weights) if weights else None,
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
    help="Published weights of backbones and detectors: where they are, and fetching them.",
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
