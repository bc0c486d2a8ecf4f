"""Seeded random weights in real files' key layouts: networks whose outputs vary, and neither vanish nor explode."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet50


def randomise(model: nn.Module, *, seed: int) -> nn.Module:
    """Give a model random weights and statistics, and put it in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif value.dim() == 4:
            value.normal_(std=(2 / value[0].numel()) ** 0.5, generator=generator)
        elif value.dim() == 2:
            value.normal_(std=value.shape[1] ** -0.5, generator=generator)
        elif name.endswith("weight"):
            # The last normalisation of a block is small, so that 16 blocks in a row don't explode.
            value.uniform_(0.2, 0.4, generator=generator) if ".bn3." in name else value.uniform_(
                0.8, 1.2, generator=generator
            )
        else:
            value.normal_(std=0.1, generator=generator)
    return model.eval()


def random_resnet50(seed: int = 0) -> nn.Module:
    """Return torchvision's ResNet-50 with random weights."""
    return randomise(resnet50(weights=None), seed=seed)


def random_mobilenet_v2(seed: int = 0) -> nn.Module:
    """Return torchvision's MobileNetV2 with random weights."""
    return randomise(mobilenet_v2(weights=None), seed=seed)


def moco_checkpoint(model: nn.Module) -> dict[str, object]:
    """Return a ResNet-50's weights as MoCo v2's training writes them: two encoders, projections, queue, optimiser."""
    state: OrderedDict[str, Tensor] = OrderedDict()
    for encoder in ("encoder_q", "encoder_k"):
        for name, value in model.state_dict().items():
            if not name.startswith("fc."):
                state[f"module.{encoder}.{name}"] = value
        for layer, width in ((0, 2048), (2, 128)):
            state[f"module.{encoder}.fc.{layer}.weight"] = torch.zeros(width, 2048)
            state[f"module.{encoder}.fc.{layer}.bias"] = torch.zeros(width)
    state["module.queue"] = torch.zeros(128, 16)
    state["module.queue_ptr"] = torch.zeros(1, dtype=torch.long)
    return {"epoch": 800, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}
