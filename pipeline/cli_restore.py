"""The command `framevault restore`."""

from typing import Annotated, Literal

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

restoring = typer.Typer()


@restoring.command(
    no_args_is_help=True,
    epilog="Example:  framevault restore vault faces --as video --slices 2 --edit brightness=+1.5",
)
def restore(
    vault: Vault,
    out: Annotated[str, typer.Argument(help="A folder for pictures or videos; a .png file for a sheet.")],
    where: Where = None,
    kind: Annotated[
        Literal["frames", "video", "sheet"] | None,
        typer.Option("--as", help="A PNG a frame (default), a video a stored video, or many frames on one PNG."),
    ] = None,
    slices: Annotated[
        str | None,
        typer.Option(help="Use less of each face of hsc or dicm+hsc: nothing (the mean face), core, or 1 to 8."),
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(help="NAME=AMOUNT, as smile=+1.5: change faces of hsc or dicm+hsc. May stand several times."),
    ] = None,
    directions: Annotated[
        str | None,
        typer.Option(
            help="File with the edits' directions; the one beside the checkpoint or in the vault, if not given."
        ),
    ] = None,
    weights: StoredWeights = None,
    checkpoint_cache: CheckpointCache = None,
    video_codec: Annotated[
        Literal["h264", "ffv1"] | None, typer.Option(help="h264 (default) plays everywhere, ffv1 loses nothing.")
    ] = None,
    start_at_zero: Annotated[
        bool, typer.Option("--start-at-zero", help="Count a video's times from its first restored frame.")
    ] = False,
    tiles: Annotated[int | None, typer.Option(min=1, help="Frames on a sheet, at most (48).")] = None,
    tile_side: Annotated[int | None, typer.Option(min=16, help="Their longest side in pixels (160).")] = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    config: Config = None,
    workers: Workers = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Make stored frames into pictures again, for people to look at. Files that are there are never replaced."""
    from framevault.configs.loading import load_job
    from framevault.configs.restore import RestoreJob

    overrides = {
        "vault": vault,
        "out": out,
        "where": where,
        "kind": kind,
        "slices": int(slices) if slices is not None and slices.isdecimal() else slices,
        "edits": tuple(edit) if edit else None,
        "directions": directions,
        "weights": tuple(weights) if weights else None,
        "checkpoint_cache": checkpoint_cache,
        "video_codec": video_codec,
        "starts_at_zero": start_at_zero or None,
        "tiles": tiles,
        "tile_side": tile_side,
        "executor": executor,
        "ray_address": ray_address,
        "workers": workers,
        "device": device,
    }
    job = read_settings(lambda: load_job(RestoreJob, config, overrides=overrides))

    def run() -> ExitCode:
        from framevault.pipeline.jobs.restore import print_restore

        return print_restore(job, as_json=as_json)

    run_job(run)
