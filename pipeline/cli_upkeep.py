"""The commands that make a vault smaller: `thin` and `vacuum`."""

from typing import Annotated

import typer

from framevault.pipeline.cli_options import (
    CheckpointCache,
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

upkeep = typer.Typer()


@upkeep.command(
    no_args_is_help=True, epilog="Example:  framevault thin vault --slices 2 --where \"video like '2023/%'\""
)
def thin(
    vault: Vault,
    slices: Annotated[
        int | None, typer.Option(min=0, help="Slices to keep, most important first; 0 keeps least.")
    ] = None,
    face_slices: Annotated[
        int | None, typer.Option("--face-slices", min=0, help="The same of each face that dicm+hsc coded besides.")
    ] = None,
    where: Where = None,
    weights: StoredWeights = None,
    checkpoint_cache: CheckpointCache = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    config: Config = None,
    workers: Workers = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Rewrite stored streams at a lower rate, without their sources. The old packs go at framevault vacuum."""
    from framevault.configs.loading import load_job
    from framevault.configs.run import ThinJob

    overrides = {
        "slices": slices,
        "face_slices": face_slices,
        "where": where,
        "weights": tuple(weights) if weights else None,
        "checkpoint_cache": checkpoint_cache,
        "executor": executor,
        "ray_address": ray_address,
        "workers": workers,
        "device": device,
    }
    job = read_settings(lambda: load_job(ThinJob, config, overrides={"vault": vault, **overrides}))

    def run() -> ExitCode:
        from framevault.pipeline.jobs.thin import print_thin

        return print_thin(job, as_json=as_json)

    run_job(run)


@upkeep.command(no_args_is_help=True, epilog="Example:  framevault vacuum vault --grace-days 30")
def vacuum(
    vault: Vault,
    grace_days: Annotated[
        float, typer.Option(min=0, help="Days that objects must have been without a name: more than any job runs.")
    ] = 7.0,
    as_json: Json = False,
) -> None:
    """Remove for good what no manifest has named for a while: thinned packs, and what killed jobs left behind."""
    from framevault.pipeline.jobs.vacuum import print_vacuum

    run_job(lambda: print_vacuum(vault, grace_days=grace_days, as_json=as_json))
