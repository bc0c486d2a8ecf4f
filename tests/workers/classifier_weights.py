"""MobileNetV2 weights whose head is the shipped codec's and whose tail is random: a classifier that fits, for tests."""

from pathlib import Path

import torch
from torch import Tensor, nn

from framevault.codecs.dicm.backbone import HEAD_LAYERS
from framevault.codecs.spec import CodecSpec
from framevault.workers.weights import read_head
from tests.codecs.dicm.backbones.random_weights import random_mobilenet_v2


def write_classifier(path: Path, *, seed: int = 0) -> Path:
    """Write weights under torchvision's names."""
    model = random_mobilenet_v2(seed)
    state = model.state_dict()
    features = model.features
    assert isinstance(features, nn.Sequential)
    ours = read_head(CodecSpec(name="dicm"))
    for number in range(HEAD_LAYERS):
        mine = [each for each in ours[number].modules() if isinstance(each, nn.Conv2d)]
        theirs = [
            name for name, each in features[number].named_modules() if isinstance(each, nn.Conv2d | nn.BatchNorm2d)
        ]
        for convolution, conv, norm in zip(mine, theirs[::2], theirs[1::2], strict=True):
            _put(state, convolution, conv=f"features.{number}.{conv}", norm=f"features.{number}.{norm}")
    torch.save(state, path)
    return path


def _put(state: dict[str, Tensor], convolution: nn.Conv2d, *, conv: str, norm: str) -> None:
    """Write a folded convolution as one with a normalisation that only adds the bias."""
    assert convolution.bias is not None
    state[f"{conv}.weight"] = convolution.weight.clone()
    state[f"{norm}.weight"] = torch.ones_like(convolution.bias)
    state[f"{norm}.bias"] = convolution.bias.clone()
    state[f"{norm}.running_mean"] = torch.zeros_like(convolution.bias)
    # The square root of this and of torch's epsilon is 1.
    state[f"{norm}.running_var"] = torch.full_like(convolution.bias, 1 - 1e-5)
