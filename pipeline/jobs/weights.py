"""`framevault weights`: the published weight files that framevault knows by name."""

import json
import sys

import pyarrow as pa

from framevault.codecs.dicm.backbones.checkpoints import KNOWN_FILES
from framevault.codecs.dicm.backbones.files import fetch_weights, find_weights, hub_path
from framevault.codecs.errors import CheckpointError
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.tables import print_table

_COLUMNS = ("name", "backbone", "task", "file", "on this machine")


def print_weights(*, as_json: bool) -> ExitCode:
    """Print every known file, and where it is on this machine.

    Returns:
        `FAILED` if one is there but damaged.
    """
    rows = [(name, file.backbone, file.task, file.file_name, _place(name)) for name, file in KNOWN_FILES.items()]
    if as_json:
        for row in rows:
            sys.stdout.write(json.dumps(dict(zip(_COLUMNS, row, strict=True))) + "\n")
    else:
        columns = [pa.array(list(column), pa.string()) for column in zip(*rows, strict=True)]
        print_table(pa.Table.from_arrays(columns, names=list(_COLUMNS)))
        sys.stdout.write(f"framevault weights fetch NAME downloads to {hub_path(KNOWN_FILES[rows[0][0]]).parent}\n")
    return ExitCode.FAILED if any(place.startswith("damaged") for *_, place in rows) else ExitCode.DONE


def print_fetch(name: str) -> ExitCode:
    """Download a known file unless it is on this machine already, and print where it is.

    Raises:
        CheckpointError: It is unknown, can't be downloaded, or is there but damaged.
    """
    place = find_weights(name)
    if place is None:
        sys.stdout.write(f"downloading {KNOWN_FILES[name].file_name} ...\n")
        sys.stdout.flush()
        place = fetch_weights(name)
    sys.stdout.write(f"{name}: {place}\n")
    return ExitCode.DONE


def _place(name: str) -> str:
    try:
        place = find_weights(name)
    except CheckpointError as error:
        return f"damaged: {error}"
    return "no" if place is None else str(place)
