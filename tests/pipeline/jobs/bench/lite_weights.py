"""A weight file of EfficientNet-Lite0's names, with random numbers."""

from pathlib import Path

import torch

from framevault.pipeline.jobs.bench.efficientnet_lite import EfficientNetLite0


def write_lite_weights(path: Path) -> Path:
    """Write it, with the classifier's layers that are not used."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        tensors = EfficientNetLite0().state_dict()
    unused = {"_conv_head.weight": torch.zeros(4, 320, 1, 1), "_bn1.bias": torch.zeros(4), "_fc.bias": torch.zeros(9)}
    torch.save(tensors | unused, path)
    return path
