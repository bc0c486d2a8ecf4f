"""torchvision's detectors with seeded random weights, and their checkpoints in the old and new key layouts."""

import functools
import re
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from framevault.codecs.dicm.backbones.checkpoints import known_file
from framevault.workers.detectors.split_models import SplitModel, build_split_model
from tests.codecs.dicm.backbones.random_weights import randomise

FIRST = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
"""Models whose published files have the old layout."""

NAMES = (*FIRST, *(f"{name}_v2" for name in FIRST))
"""All that framevault knows."""

OUTPUT_SPREADS = {
    "fpn.layer_blocks": 1.0,
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.3,
    "box_predictor.cls_score": 2.0,
    "box_predictor.bbox_pred": 1.0,
    "mask_fcn_logits": 2.0,
    "classification_head.cls_logits": 1.0,
    "regression_head.bbox_reg": 0.3,
}
"""Standard deviations of what trained layers give, roughly: scores that differ, and boxes near their anchors.

Without them, random scores are all 1 or all 0, so that the order of objects hangs on the last bit.
"""

OLD_KEYS = (
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.0\.(weight|bias)$"), r"\1.\2"),
    (re.compile(r"^rpn\.head\.conv\.0\.0\."), r"rpn.head.conv."),
    (
        re.compile(r"^roi_heads\.mask_head\.(\d)\.0\."),
        lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}.",
    ),
    (re.compile(r"^(head\.\w+_head\.conv)\.(\d)\.0\."), lambda m: f"{m[1]}.{2 * int(m[2])}."),
)
"""From today's keys of the first models to those of their published files."""


@functools.cache
def random_detector(name: str, *, short_side: int, long_side: int, seed: int = 0) -> nn.Module:
    """Return torchvision's model, as it runs its published weights; it resizes frames to the given sides.

    Made once; don't change it.
    """
    model = randomise(
        get_model(name, weights=None, weights_backbone=None, min_size=short_side, max_size=long_side), seed=seed
    )
    if name in FIRST:
        for module in model.backbone.body.modules():  # type: ignore[union-attr]  # modules
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    _calibrate(model)
    return model


def lighten(model: nn.Module) -> None:
    """Have a two-stage model look at 60 proposals instead of 1,000: enough for a test."""
    if hasattr(model, "rpn"):
        model.rpn._post_nms_top_n = {"training": 60, "testing": 60}  # type: ignore[union-attr]  # a module
        model.roi_heads.detections_per_img = 20  # type: ignore[union-attr]  # a module


def _calibrate(model: nn.Module) -> None:
    """Scale the last layers while the model runs, until their first outputs spread as `OUTPUT_SPREADS` says."""
    scaled: set[nn.Module] = set()

    def rescale(module: nn.Module, _: object, output: Tensor, *, spread: float) -> Tensor:
        if module in scaled:
            return output
        scaled.add(module)
        factor = spread / float(output.std())
        for parameter in module.parameters():
            parameter.data *= factor
        return output * factor

    last = (nn.Conv2d, nn.Linear)
    hooks = [
        module.register_forward_hook(functools.partial(rescale, spread=spread))
        for name, module in model.named_modules()
        for part, spread in OUTPUT_SPREADS.items()
        if part in name and isinstance(module, last)
    ]
    lighten(model)
    with torch.inference_mode():
        model(list(random_pictures(1, 64, 64, seed=99)))
    for hook in hooks:
        hook.remove()


def published_state(name: str, model: nn.Module) -> dict[str, Tensor]:
    """Return a model's weights under the keys of the published file."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    return {_old_key(key): x for key, x in state.items() if not key.endswith("tracked")} if name in FIRST else state


def _old_key(key: str) -> str:
    for pattern, replacement in OLD_KEYS:
        key = pattern.sub(replacement, key)
    return key


def split(name: str, state: dict[str, Tensor], *, has_masks: bool = False) -> SplitModel:
    """Build our model from such weights."""
    ours = build_split_model(name, state, file=known_file(name), path=Path("own.pth"), has_masks=has_masks)
    lighten(ours.model)
    return ours


def random_pictures(num: int, height: int, width: int, *, seed: int = 1) -> Tensor:
    """Return RGB 0..1, uint8 steps, with structure of several scales."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(-(-height // n), -(-width // n)) for n in (1, 8, 40)]
    layers = [
        nn.functional.interpolate(torch.rand(num, 3, rows, columns, generator=generator), (height, width))
        for rows, columns in sizes
    ]
    mixed: Tensor = torch.stack(layers).mean(0)
    return (mixed * 255).round() / 255
