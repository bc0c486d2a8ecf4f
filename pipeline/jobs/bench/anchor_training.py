"""`framevault bench train-anchor`: one of CompressAI's models, trained on the user's pictures for as long as DICM was.

The loss is CompressAI's own: bits a pixel + lambda * 255^2 * squared error of the pixels (0..1). A file is one rate; a
curve takes a training for each lambda. Weeks on a million pictures would give a better model: this one says what the
architecture does with the same pictures in the same time. Letters in shapes: N crops, S their side.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.bench.compressai_anchors import STRIDE, architecture_class
from framevault.pipeline.jobs.bench.rate_report import open_folder
from framevault.pipeline.jobs.train.budget import Budget
from framevault.pipeline.jobs.train.candidates import find_candidates
from framevault.pipeline.jobs.train.crops import plain_crops, random_crops
from framevault.pipeline.jobs.train.errors import TrainingError
from framevault.pipeline.jobs.train.pictures import PictureSet, load_pictures
from framevault.pipeline.jobs.train.saved_state import put_in_place
from framevault.pipeline.sources import expand_inputs
from framevault.workers.limits import DecodeLimits

SHORT_SIDE = 540
"""Larger pictures are scaled down to this, as for DICM."""

REPORT_EVERY = 100
"""Steps between two lines."""

LEARNING_RATE, QUANTILE_RATE = 5e-4, 1e-3
"""Of the networks, falling as a cosine, and of the quantiles that tables are cut by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorRecipe:
    """How a model is trained."""

    name: str
    """CompressAI's name of the architecture."""
    rate_weight: float
    """Lambda: larger is more bits and closer pixels. CompressAI's own go from 0.0018 to 0.18."""
    channels: tuple[int, int]
    """N and M: of the layers, and of the latents."""
    budget: Budget
    """How long."""
    crop: int = 192
    """S, a multiple of 64."""
    batch_size: int = 8
    """Crops a step."""
    is_scaled: bool = True
    """Whether crops are scaled and changed in brightness, as for DICM, or as they are, as aligned faces want it."""
    seed: int = 0
    """Of all that is random."""

    def __post_init__(self) -> None:
        """Check the numbers; raises PreflightError."""
        if self.crop < STRIDE or self.crop % STRIDE:
            raise PreflightError(f"--crop must be a multiple of {STRIDE}, got {self.crop}")
        if not 0 < self.rate_weight < math.inf:
            raise PreflightError(f"--lambda must be a positive number, got {self.rate_weight}")
        if min(self.channels) < 1:
            raise PreflightError(f"--channels must be two positive numbers, got {self.channels}")


def print_train_anchor(recipe: AnchorRecipe, data: Sequence[str], *, out: Path) -> ExitCode:
    """Train a model on pictures and frames, and write its `state_dict`; tells on standard error how it goes.

    Raises:
        InputError: The data is not there.
        PreflightError: There is no such architecture, no picture can be read, one is smaller than a crop that may not
            be scaled, or the file can't be written.
        TrainingError: The loss is no number any more.
    """
    architecture_class(recipe.name)
    open_folder(out.absolute().parent)
    limits = DecodeLimits()
    found = find_candidates(expand_inputs(data), video_fps=2, short_side=SHORT_SIDE, limits=limits)
    loaded = load_pictures(found.candidates, cache_dir=None, num_threads=1, limits=limits, on_progress=lambda _: None)
    if not len(loaded.pictures):
        raise PreflightError(f"data: expected pictures or videos that can be read, got none from {', '.join(data)}")
    _check_sides(loaded.pictures, recipe)
    _say(f"{len(loaded.pictures)} pictures, {len(found.unreadable) + len(loaded.unreadable)} can't be read")
    state = train_anchor(loaded.pictures, recipe, on_report=_say)
    temporary = out.with_name(f"{out.name}.tmp")
    torch.save(state, temporary)
    put_in_place(temporary, out)
    return ExitCode.DONE


def train_anchor(pictures: PictureSet, recipe: AnchorRecipe, *, on_report: Callable[[str], None]) -> dict[str, Tensor]:
    """Train a model; returns its `state_dict` with tables.

    Raises:
        TrainingError: The loss is no number any more.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    model = architecture_class(recipe.name)(*recipe.channels).train()
    networks, quantiles = _optimisers(model)
    draw_crops = random_crops if recipe.is_scaled else plain_crops
    started_s, step, progress = time.monotonic(), 0, 0.0
    while progress < 1:
        for group in networks.param_groups:
            group["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * progress)) / 2
        rgb_nchw = draw_crops(pictures, rng, num_crops=recipe.batch_size, side=recipe.crop).float() / 255
        bits, error = _losses(model, rgb_nchw)
        loss = bits + recipe.rate_weight * 255**2 * error
        if not bool(torch.isfinite(loss)):
            raise TrainingError(f"step {step}: the loss is {loss.item()}; take a smaller --lambda")
        _descend(networks, loss, model)
        _descend(quantiles, model.aux_loss(), model)
        step += 1
        progress = recipe.budget.progress(step, time.monotonic() - started_s)
        if step % REPORT_EVERY == 0 or progress >= 1:
            psnr = -10 * math.log10(max(error.item(), 1e-10))
            on_report(f"step {step}: {bits.item():.4f} bits a pixel, {psnr:.2f} dB")
    model.eval().update(force=True)
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _check_sides(pictures: PictureSet, recipe: AnchorRecipe) -> None:
    for rgb_hwc, name in zip(pictures.rgb_hwc, pictures.names, strict=True):
        height, width = rgb_hwc.shape[:2]
        if not recipe.is_scaled and min(height, width) < recipe.crop:
            raise PreflightError(
                f"{name}: expected {recipe.crop} pixels a side or more, as --crop, got {width}x{height}; "
                "give a smaller --crop, or leave --unscaled out"
            )


def _losses(model: Any, rgb_nchw: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401  # CompressAI ships no types
    """Return bits a pixel, and the mean squared error, of crops [N, 3, S, S], values 0 to 1."""
    found = model(rgb_nchw)
    num_pixels = rgb_nchw.numel() / 3
    bits = sum(-torch.log2(likelihoods).sum() / num_pixels for likelihoods in found["likelihoods"].values())
    return torch.as_tensor(bits), (found["x_hat"] - rgb_nchw).square().mean()


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor, model: torch.nn.Module) -> None:
    """Make a step; gradients are clipped to norm 1."""
    model.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def _optimisers(model: torch.nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Return one for the networks, and one for the quantiles, which only the auxiliary loss moves."""
    named = dict(model.named_parameters())
    quantiles = [parameter for name, parameter in named.items() if name.endswith("quantiles")]
    networks = [parameter for name, parameter in named.items() if not name.endswith("quantiles")]
    return torch.optim.Adam(networks, lr=LEARNING_RATE), torch.optim.Adam(quantiles, lr=QUANTILE_RATE)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
