"""The network whose features say how alike two pictures look: MobileNetV2's, under the name of what it is.

| given | features | their name |
| --- | --- | --- |
| a file of one's own (`--backbone`) | the file's, up to stride 16, and stride 32 for likeness | `mobilenet_v2` |
| none, but torchvision's weights are on this machine | torchvision's | `mobilenet_v2` |
| none at all | the shipped codec's head, and the shipped detector's stages, tuned for detection | `detector` |

It is neither LPIPS nor an identity network, and is never called so. Letters in shapes: N pictures, C channels, H and W
pixels, h and w positions.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from framevault.codecs.dicm.backbone import IMAGENET_MEAN, IMAGENET_STD
from framevault.codecs.dicm.backbones.checkpoints import KNOWN_FILES
from framevault.codecs.dicm.backbones.files import find_weights
from framevault.codecs.dicm.backbones.registry import (
    BACKBONES,
    BackboneWeights,
    build_head,
    build_tail,
    load_backbone,
    read_backbone,
)
from framevault.codecs.errors import CheckpointError
from framevault.codecs.layers.pointwise import PointwiseConv2d
from framevault.codecs.spec import CodecSpec
from framevault.workers.detectors.checkpoint import load_network
from framevault.workers.detectors.registry import DEFAULT_DETECTOR, checkpoint_path
from framevault.workers.weights import read_head

BACKBONE = "mobilenet_v2"
"""Whose features are compared."""

NUM_LEVEL_STAGES = 2
"""Stages of the tail that are compared, at strides 8 and 16; the third tells likeness."""

FIRST_LEVEL = 1
"""Layer of the head whose output is compared beside the head's own: stride 2."""

LEAST_VARIANCE = 1e-6
"""Features of a flat picture have none to divide by."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """A batch's features."""

    compared: tuple[Tensor, ...]
    """At strides 2, 4, 8 and 16, float32 [N, C, h, w] each."""
    deepest_nc: Tensor | None
    """Means over the last stage's positions, [N, C]; None where they were not asked for."""


class PerceptualNetwork(nn.Module):
    """MobileNetV2's layers, frozen; takes pictures in -1..1."""

    def __init__(self, head: nn.Sequential, stages: Sequence[nn.Module], *, name: str, precision: torch.dtype) -> None:
        """Put it together.

        Args:
            head: Frozen, up to stride 4.
            stages: The frozen tail's three, at strides 8, 16 and 32.
            name: Whose features these are, for figures.
            precision: What it computes in.
        """
        super().__init__()
        # Copies, as others may use the layers in another way.
        self.head = nn.ModuleList(_plain_convolutions(copy.deepcopy(layer)) for layer in head)
        self.stages = nn.ModuleList(_plain_convolutions(copy.deepcopy(stage)) for stage in stages)
        self.name = name
        """Stands in the names of figures."""
        self._precision = precision
        self.register_buffer("mean_c11", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std_c11", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.mean_c11: Tensor
        self.std_c11: Tensor
        self.eval().requires_grad_(False)

    def forward(self, rgb_nchw: Tensor, *, is_deep: bool = False) -> Levels:
        """Return the features of pictures in -1..1, with those that tell likeness if `is_deep`."""
        x_nchw = ((rgb_nchw + 1) / 2 - self.mean_c11) / self.std_c11
        compared: list[Tensor] = []
        with torch.autocast(rgb_nchw.device.type, self._precision, enabled=self._precision != torch.float32):
            for number, layer in enumerate(self.head):
                x_nchw = layer(x_nchw)
                if number == FIRST_LEVEL:
                    compared.append(x_nchw.float())
            compared.append(x_nchw.float())
            for stage in self.stages[:NUM_LEVEL_STAGES]:
                x_nchw = stage(x_nchw)
                compared.append(x_nchw.float())
            deepest_nc = self.stages[NUM_LEVEL_STAGES](x_nchw).float().mean(dim=(2, 3)) if is_deep else None
        return Levels(compared=tuple(compared), deepest_nc=deepest_nc)


def feature_distance(one: Levels, target: Levels) -> Tensor:
    """Return each picture's squared error over the target's variance, summed over the levels, [N].

    Args:
        one: With gradients.
        target: Of what it should be.
    """
    terms = [
        (mine - theirs).square().mean(dim=(1, 2, 3)) / theirs.var().clamp_min(LEAST_VARIANCE)
        for mine, theirs in zip(one.compared, target.compared, strict=True)
    ]
    return torch.stack(terms).sum(dim=0)


def unlikeness(one: Levels, target: Levels) -> Tensor:
    """Return 1 less the cosine between both pictures' deepest features, [N]."""
    assert one.deepest_nc is not None
    assert target.deepest_nc is not None
    return 1 - nn.functional.cosine_similarity(one.deepest_nc, target.deepest_nc, dim=1)


def make_perceptual(backbone: str | None, *, precision: torch.dtype) -> PerceptualNetwork:
    """Build the network from what was given, is on this machine, or is shipped.

    Args:
        backbone: A file with torchvision's names, or a name of `framevault weights`; None if none is given.
        precision: What it computes in.

    Raises:
        CheckpointError: The file that was given is missing, damaged or another network's.
        DetectorError: The shipped detector can't be read.
    """
    weights = _find_weights(backbone)
    if weights is not None:
        head, stages = build_head(weights), list(build_tail(weights).stages)
        return PerceptualNetwork(head, stages, name=BACKBONE, precision=precision)
    network, _ = load_network(checkpoint_path(DEFAULT_DETECTOR), name=DEFAULT_DETECTOR)
    head = read_head(CodecSpec(name="dicm"))
    return PerceptualNetwork(head, list(network.tail), name="detector", precision=precision)


def _find_weights(backbone: str | None) -> BackboneWeights | None:
    if backbone is None:
        usual = BACKBONES[BACKBONE].usual_weights
        return None if find_weights(usual) is None else load_backbone(usual)
    if backbone not in KNOWN_FILES:
        return read_backbone(backbone, backbone=BACKBONE)
    weights = load_backbone(backbone)
    if weights.backbone != BACKBONE:
        raise CheckpointError(f"weights {backbone!r} are of {weights.backbone}, expected those of {BACKBONE}")
    return weights


def _plain_convolutions(module: nn.Module) -> nn.Module:
    """Give a module ordinary 1x1 convolutions: what `PointwiseConv2d` gains forward, its gradient loses."""
    for name, child in module.named_children():
        if isinstance(child, PointwiseConv2d):
            plain = nn.Conv2d(child.in_channels, child.out_channels, 1)
            plain.load_state_dict(child.state_dict())
            setattr(module, name, plain)
        else:
            _plain_convolutions(child)
    return module
