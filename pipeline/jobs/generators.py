"""`framevault weights import-generator` and `sample-generator`: StyleGAN2 generators from elsewhere."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from framevault.codecs.hsc.importing.generators import (
    GeneratorParts,
    ImportedGenerator,
    import_generator,
    load_generator,
    save_generator,
)
from framevault.codecs.hsc.importing.layouts import GeneratorLayout
from framevault.pipeline.contact_sheet import SheetTile, choose_columns, draw_sheet
from framevault.pipeline.exits import ExitCode, PreflightError

BATCH_SIZE = 4
"""Pictures that are generated together: at 1024 pixels, each takes a gigabyte."""


def print_import(file: Path, out: Path, *, domain: str, layout: GeneratorLayout | None) -> ExitCode:
    """Read another project's generator, store it in our format, and print what was found.

    Raises:
        CheckpointError: The file is no such generator's.
        PreflightError: `out` exists, or its folder doesn't.
    """
    _check_out(out, suffix=".safetensors")
    imported = import_generator(file, domain=domain, layout=layout)
    save_generator(imported.parts, out)
    sys.stdout.writelines(line + "\n" for line in _describe(imported, out))
    return ExitCode.DONE


def print_sample(file: Path, out: Path, *, count: int, truncation: float, seed: int) -> ExitCode:
    """Draw pictures of random styles beside each other, and print where they are.

    Raises:
        CheckpointError: The file is none that `print_import` wrote.
        PreflightError: `out` exists, or its folder doesn't.
    """
    _check_out(out, suffix=".png")
    parts = load_generator(file)
    random = torch.Generator().manual_seed(seed)
    z_nz = torch.randn(count, parts.mapping.width, generator=random)
    pictures_nhwc = torch.cat([_draw(parts, part_nz, truncation) for part_nz in torch.split(z_nz, BATCH_SIZE)])
    tiles = [
        SheetTile(picture=Image.fromarray(picture_hwc.numpy()), caption=str(number))
        for number, picture_hwc in enumerate(pictures_nhwc)
    ]
    draw_sheet(tiles, num_columns=choose_columns(count)).save(out)
    sys.stdout.write(f"{count} pictures of {parts.config.resolution} x {parts.config.resolution} pixels: {out}\n")
    return ExitCode.DONE


def _check_out(out: Path, *, suffix: str) -> None:
    if out.suffix != suffix:
        raise PreflightError(f"the output must end in {suffix}, got {out}")
    if out.exists():
        raise PreflightError(f"{out} exists: remove it, or name another")
    if not out.parent.is_dir():
        raise PreflightError(f"there is no folder {out.parent}")


def _describe(imported: ImportedGenerator, out: Path) -> Iterator[str]:
    config, mapping = imported.parts.config, imported.parts.mapping
    yield f"{out}: {config.resolution} x {config.resolution} pixels, {config.num_styles} styles of {config.style}"
    yield f"layout: {imported.layout}; channels: {', '.join(map(str, config.channels))}"
    yield f"mapping network: {len(mapping.layers)} layers; mean style: {'stored' if imported.has_mean else 'measured'}"
    for name, number in Counter(name.partition(".")[0] for name in imported.unused).items():
        yield f"not used: {name} ({number} {'entry' if number == 1 else 'entries'})"


@torch.inference_mode()
def _draw(parts: GeneratorParts, z_nz: torch.Tensor, truncation: float) -> torch.Tensor:
    """Return pictures, u8 [N, H, W, 3]."""
    styles_nld = parts.mapping.styles(z_nz, num_styles=parts.config.num_styles, truncation=truncation)
    rgb_nchw: torch.Tensor = parts.generator(styles_nld)
    return rgb_nchw.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
