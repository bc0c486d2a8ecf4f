"""CompressAI's learned picture codecs as anchors: real bitstreams of their own coders, decoded to pixels.

No weights come with framevault. A file holds one model's `state_dict`, as CompressAI's own training writes it or as
`framevault bench train-anchor` does, and is one point of a curve: give a file for each rate.
Letters in shapes: N frames, H and W pixels.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.dicm.backbones.files import read_tensors
from framevault.codecs.errors import CheckpointError
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.coders import Coded
from framevault.pipeline.jobs.bench.material import Run

Architecture = Literal["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "mbt2018"]
"""CompressAI's names: Balle et al. (arXiv 1802.01436) and Minnen et al. (arXiv 1809.02736)."""

ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
"""All of them."""

STRIDE = 64
"""Sides are padded to multiples of the hyper-latent's stride."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressaiCoder:
    """One model of CompressAI's: every frame by itself."""

    codec: str
    """The architecture's name."""
    setting: str
    """The file's name."""
    model: Any
    """The model, with its tables."""
    is_intra: bool = True
    """Whether every frame is coded by itself."""

    @torch.inference_mode()
    def code(self, runs: Sequence[Run], *, fps: float) -> Iterator[Coded]:
        """Encode to real streams and decode them; see `Coder.code`."""
        for batch_nchw in chain.from_iterable(runs):
            height, width = batch_nchw.shape[2:]
            padding = (0, -width % STRIDE, 0, -height % STRIDE)
            padded_nchw = functional.pad(batch_nchw.float() / 255, padding, mode="replicate")
            coded = self.model.compress(padded_nchw)
            strings = coded["strings"]
            sizes = tuple(sum(len(part[n]) for part in strings) for n in range(len(batch_nchw)))
            rgb_nchw: Tensor = self.model.decompress(strings, coded["shape"])["x_hat"][:, :, :height, :width]
            yield Coded(sizes=sizes, decoded_nchw=(rgb_nchw.clamp(0, 1) * 255).round().to(torch.uint8))


def load_anchor(name: str, path: Path) -> CompressaiCoder:
    """Load a model.

    Args:
        name: Its architecture; the numbers of its channels follow from the weights.
        path: Its `state_dict`, in torch's format or safetensors.

    Raises:
        PreflightError: There is no such architecture, the file can't be read, or holds another one's weights.
    """
    model_class = architecture_class(name)
    if not path.is_file():
        raise PreflightError(f"--anchor-checkpoint {name}: there is no file {path}")
    try:
        model = model_class.from_state_dict(read_tensors(path)).eval().requires_grad_(False)
    except CheckpointError as error:
        raise PreflightError(f"--anchor-checkpoint {name}: {error}") from error
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise PreflightError(f"--anchor-checkpoint {name}: {path} holds no weights of it: {error!r:.300}") from error
    model.update()
    return CompressaiCoder(codec=name, setting=path.stem, model=model)


def architecture_class(name: str) -> Any:  # noqa: ANN401  # CompressAI ships no types
    """Return the class of an architecture.

    Raises:
        PreflightError: There is none of that name.
    """
    if name not in ARCHITECTURES:
        raise PreflightError(f"--anchor-checkpoint: expected one of {', '.join(ARCHITECTURES)}, got {name!r}")
    with warnings.catch_warnings():
        # compressai 1.2.8 imports torch_geometric, which uses torch.jit.script; nothing that a user could change.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        from compressai import models
    classes = {
        "bmshj2018-factorized": models.FactorizedPrior,
        "bmshj2018-hyperprior": models.ScaleHyperprior,
        "mbt2018-mean": models.MeanScaleHyperprior,
        "mbt2018": models.JointAutoregressiveHierarchicalPriors,
    }
    return classes[name]
