"""The backbones that the codec knows, and how one is built from a weight file.

Letters in shapes: N pictures, C channels, H and W pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from framevault.codecs.dicm import backbone as mobilenet_v2
from framevault.codecs.dicm.backbones import resnet50
from framevault.codecs.dicm.backbones.checkpoints import KeyLayout, known_file
from framevault.codecs.dicm.backbones.files import obtain_weights, read_tensors
from framevault.codecs.dicm.backbones.layouts import backbone_tensors, find_layout, find_norm_epsilon
from framevault.codecs.errors import CheckpointError

Tail = mobilenet_v2.Tail | resnet50.Tail
"""Any backbone's tail: gives its stages' outputs at strides 8, 16 and 32, and logits where it has a classifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneRow:
    """One backbone."""

    head_channels: int
    """C of the features that the codec carries, [N, C, ceil(H/s), ceil(W/s)]."""
    head_stride: int
    """s, pixels to a feature position, in both directions; the codec halves the features twice more."""
    stage_channels: tuple[int, int, int]
    """Channels of the tail's outputs at strides 8, 16 and 32."""
    pooled_channels: int
    """Length of a picture's pooled vector."""
    make_head: Callable[[], nn.Sequential]
    """Makes a head with random weights: ImageNet-normalised RGB (`pixels.py`) -> features."""
    make_tail: Callable[[], Tail]
    """Makes a tail with random weights."""
    usual_weights: str
    """A key of `KNOWN_FILES`: whose head and tail training takes unless a file is named."""


BACKBONES: dict[str, BackboneRow] = {
    "mobilenet_v2": BackboneRow(
        head_channels=mobilenet_v2.HEAD_CHANNELS,
        head_stride=mobilenet_v2.HEAD_STRIDE,
        stage_channels=(32, 96, 320),
        pooled_channels=1280,
        make_head=mobilenet_v2.build_head,
        make_tail=mobilenet_v2.Tail,
        usual_weights="mobilenet_v2",
    ),
    "resnet50": BackboneRow(
        head_channels=resnet50.HEAD_CHANNELS,
        head_stride=resnet50.HEAD_STRIDE,
        stage_channels=resnet50.STAGE_CHANNELS,
        pooled_channels=resnet50.POOLED_CHANNELS,
        make_head=resnet50.build_head,
        make_tail=resnet50.Tail,
        usual_weights="resnet50_v1",
    ),
}
"""Every backbone, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneWeights:
    """A backbone's tensors under torchvision's names."""

    backbone: str
    """A key of `BACKBONES`."""
    tensors: Mapping[str, Tensor]
    """Head, tail, and the classifier where there is one; float32 on the CPU."""
    norm_epsilon: float
    """Of the batch normalisation that they were trained with."""
    path: Path
    """The file they come from, for messages."""


def load_backbone(name: str, *, path: str | Path | None = None) -> BackboneWeights:
    """Read a known file's backbone.

    Args:
        name: A key of `KNOWN_FILES`.
        path: Reads this file instead, with the row's layout.

    Raises:
        CheckpointError: The file is nowhere, damaged, or holds other keys than it should; names them.
    """
    file = known_file(name)
    place = obtain_weights(name, path=path)
    tensors = backbone_tensors(read_tensors(place), backbone=file.backbone, layout=file.layout, path=place)
    return BackboneWeights(backbone=file.backbone, tensors=tensors, norm_epsilon=file.norm_epsilon, path=place)


def read_backbone(path: str | Path, *, backbone: str, norm_epsilon: float | None = None) -> BackboneWeights:
    """Read a backbone from any file; its layout is told from its keys.

    Args:
        path: A torch or safetensors file.
        backbone: A key of `BACKBONES`.
        norm_epsilon: Of the batch normalisation that the weights were trained with; None tells it from the keys.

    Raises:
        CheckpointError: The backbone is unknown, or the file is damaged or holds other keys than it should.
    """
    if backbone not in BACKBONES:
        raise CheckpointError(f"backbone must be one of {', '.join(sorted(BACKBONES))}, got {backbone!r}")
    place = Path(path)
    content = read_tensors(place)
    try:
        layout: KeyLayout = find_layout(content)
    except CheckpointError as error:
        raise CheckpointError(f"weights {place}: {error}") from error
    tensors = backbone_tensors(content, backbone=backbone, layout=layout, path=place)
    if norm_epsilon is None:
        norm_epsilon = find_norm_epsilon(content, layout=layout)
    return BackboneWeights(backbone=backbone, tensors=tensors, norm_epsilon=norm_epsilon, path=place)


def build_head(weights: BackboneWeights) -> nn.Sequential:
    """Build the head, frozen: ImageNet-normalised RGB [N, 3, H, W] -> features [N, C, ceil(H/4), ceil(W/4)].

    Raises:
        CheckpointError: The weights' normalisation is impossible.
    """
    if weights.backbone == "mobilenet_v2":
        return mobilenet_v2.load_head(weights.tensors)
    try:
        return resnet50.load_head(weights.tensors, norm_epsilon=weights.norm_epsilon)
    except ValueError as error:
        raise CheckpointError(f"weights {weights.path}: {error}") from error


def build_tail(weights: BackboneWeights) -> Tail:
    """Build the tail, frozen; its classifier is None where the weights have none.

    Raises:
        CheckpointError: The weights' normalisation is impossible.
    """
    if weights.backbone == "mobilenet_v2":
        return mobilenet_v2.load_tail(weights.tensors)
    try:
        return resnet50.load_tail(weights.tensors, norm_epsilon=weights.norm_epsilon)
    except ValueError as error:
        raise CheckpointError(f"weights {weights.path}: {error}") from error


def pooled_vectors(tail: Tail, deepest_nchw: Tensor) -> Tensor:
    """Return the pooled vectors [N, P] of the last stage's output: what the classifier reads."""
    if isinstance(tail, mobilenet_v2.Tail):
        vectors_np: Tensor = tail.last(deepest_nchw).mean(dim=(2, 3))
        return vectors_np
    return resnet50.pool(deepest_nchw)


def head_difference(one: nn.Module, other: nn.Module) -> float:
    """Return how far apart two heads of a backbone are: the largest difference, relative to its tensor's largest value.

    A tail understands the features of the head that it was trained with: 0 or nearly so for that one, of order 1 for
    another training run's.
    """
    differences = [
        float((a - b.to(a)).abs().max() / a.abs().max().clamp_min(torch.finfo(a.dtype).tiny))
        for a, b in zip(one.parameters(), other.parameters(), strict=True)
    ]
    return max(differences)
