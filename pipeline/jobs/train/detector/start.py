"""What the detector's training begins with: a checkpoint's network, its class output fitted to other labels.

Letters in shapes: C labels, m channels of the map that the head reads.
"""

from collections.abc import Sequence

import torch
from torch import nn

from framevault.codecs.layers.pointwise import PointwiseConv2d
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork, NetworkShape


@torch.no_grad()
def relabel(network: DetectorNetwork, labels: Sequence[str], wanted: Sequence[str]) -> DetectorNetwork:
    """Return a network for other labels.

    All but the class output is taken over; of that, the rows [1, m] of labels with the same name. The others are
    random, and unsure of everything.

    Args:
        network: Folded; stays as it is.
        labels: Its labels.
        wanted: The new one's.
    """
    shape = network.shape
    fitted = DetectorNetwork(
        NetworkShape(num_labels=len(wanted), pyramid_channels=shape.pyramid_channels, map_channels=shape.map_channels)
    )
    last, new_last = network.heat[-1], fitted.heat[-1]
    assert isinstance(last, nn.Conv2d)
    assert isinstance(new_last, nn.Conv2d)
    state = network.state_dict()
    for name in ("weight", "bias"):
        rows = getattr(new_last, name).detach().clone()
        for number, label in enumerate(wanted):
            if label in labels:
                rows[number] = getattr(last, name)[list(labels).index(label)]
        state[f"heat.{len(network.heat) - 1}.{name}"] = rows
    fitted.load_state_dict(state)
    return fitted


def use_plain_convolutions(network: nn.Module) -> None:
    """Let 1x1 convolutions run as any other: the same parameters and results, and a third less time for a step.

    `PointwiseConv2d` is faster forwards in float32 only; backwards in bfloat16, torch's own convolution is.
    """
    for module in network.modules():
        if type(module) is PointwiseConv2d:
            module.__class__ = nn.Conv2d  # type: ignore[assignment]  # its base class, with the same members
