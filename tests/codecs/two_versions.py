"""Whether two versions of torch write and read the same streams.

    python -m tests.codecs.two_versions write FOLDER     with the one interpreter
    python -m tests.codecs.two_versions check FOLDER     with the other

`write` stores latents, their streams and the symbols that these decode to, for the toy and the shipped checkpoint.
`check` computes all of it again from the stored latents and checkpoints; a line a checkpoint and size says how many
streams and symbols are the same, and the exit code is 1 if not all are. Needs torch, numpy, numba and safetensors, and
`PYTHONPATH=.src`.
"""

import argparse
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
import torch

from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.spec import CodecSpec
from tests.codecs.dicm.toy import random_latents, save_toy

GRIDS = (LatentGrid(1, 1), LatentGrid(7, 5), LatentGrid(17, 40))
"""Positions of the latents that are coded: frames of up to 640x272."""

NUM_FRAMES = 5
"""Of each grid: one of each magnitude that `random_latents` makes."""

Arrays = dict[str, npt.NDArray[np.generic]]


def main(arguments: list[str]) -> int:
    """Run as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.codecs.two_versions")
    parser.add_argument("what", choices=["write", "check"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    _say(f"torch {torch.__version__}, numba {numba.__version__}, numpy {np.__version__}, {platform.machine()}")
    return write(options.folder) if options.what == "write" else check(options.folder)


def write(folder: Path) -> int:
    """Store latents, streams and symbols."""
    folder.mkdir(parents=True, exist_ok=True)
    save_toy(folder / "toy.safetensors")
    shutil.copyfile(CodecSpec(name="dicm").checkpoint_path or "", folder / "shipped.safetensors")
    for name, codec in _codecs(folder):
        for grid in GRIDS:
            y_nchw, z_nchw = random_latents(codec.networks.config, NUM_FRAMES, grid=grid)
            latents: Arrays = {"y": y_nchw.numpy(), "z": z_nchw.numpy()}
            np.savez(_path(folder, name, grid), **latents, **_code(codec, latents, grid))
    return 0


def check(folder: Path) -> int:
    """Compute everything again and compare."""
    num_different = 0
    for name, codec in _codecs(folder):
        for grid in GRIDS:
            stored: Arrays = dict(np.load(_path(folder, name, grid)))
            found = _code(codec, stored, grid)
            same = [part for part in found if np.array_equal(found[part], stored[part])]
            num_different += len(found) - len(same)
            sizes = [stored[f"stream_{number}"].size for number in range(NUM_FRAMES)]
            _say(f"{name} {grid.height}x{grid.width}: {len(same)} of {len(found)} the same; streams of {sizes} bytes")
    _say("all the same" if num_different == 0 else f"{num_different} DIFFER")
    return 1 if num_different else 0


def _codecs(folder: Path) -> Iterator[tuple[str, DicmCodec]]:
    for name in ("toy", "shipped"):
        yield name, load_dicm(CodecSpec(name="dicm", weights=str(folder / f"{name}.safetensors"), bitstream_version=1))


def _code(codec: DicmCodec, latents: Arrays, grid: LatentGrid) -> Arrays:
    """Return the latents' streams, and the symbols of the streams."""
    streams = codec.bitstream.encode(torch.from_numpy(latents["y"]), torch.from_numpy(latents["z"]))
    coded: Arrays = {f"stream_{number}": np.frombuffer(stream, np.uint8) for number, stream in enumerate(streams)}
    # Where streams were stored, those are what must be decoded.
    stored = [latents.get(name, stream).tobytes() for name, stream in coded.items()]
    return {**coded, "latent16": codec.bitstream.decode(stored, grid, device="cpu").numpy()}


def _path(folder: Path, name: str, grid: LatentGrid) -> Path:
    return folder / f"{name}_{grid.height}x{grid.width}.npz"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
