"""torchvision's R50-FPN detectors, cut where the codec sits: they start from layer1's features instead of pixels.

Faster R-CNN (Ren et al., NeurIPS 2015), Mask R-CNN (He et al., ICCV 2017) and RetinaNet (Lin et al., ICCV 2017) with
feature pyramids (Lin et al., CVPR 2017, arXiv 1612.03144), built by torchvision's own builders; only the backbone's
body is ours, with its batch normalisation folded. The pyramid reads layer1 itself, so the features go two ways::

    f [N, 256, h, w] -+-> layer2 [N, 512, h/2, w/2] -> layer3 -> layer4 [N, 2048, h/8, w/8]
                      |      |                           |         |
                      +------+------------ FPN ----------+---------+--> RPN, RoI heads | RetinaNet's heads

RetinaNet's pyramid leaves layer1 out. Letters in shapes: N frames, h and w positions at stride 4, K objects, m
positions of a mask.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.image_list import ImageList

from framevault.codecs.dicm.backbones.checkpoints import KnownFile
from framevault.codecs.dicm.backbones.layouts import PREFIXES, backbone_tensors, name_some
from framevault.codecs.dicm.backbones.registry import BackboneWeights, build_head, build_tail
from framevault.codecs.dicm.backbones.resnet50 import HEAD_STRIDE
from framevault.codecs.errors import CheckpointError

CELL = 8
"""Positions at stride 4 to one at stride 32: torchvision pads frames to multiples of it."""

BODY = PREFIXES["detection"]
"""What the backbone's keys begin with; all others are the pyramid's and the heads'."""

FoundTensors = dict[str, Tensor]
"""Of one frame: `boxes` [K, 4], `labels` [K], `scores` [K], and Mask R-CNN's `masks` [K, 1, m, m], of each box."""


class PyramidOnly(nn.Module):
    """Stands for the backbone in torchvision's model, so that the pyramid's keys keep their names."""

    def __init__(self, fpn: nn.Module) -> None:
        """Take the pyramid."""
        super().__init__()
        self.fpn = fpn


class SplitModel(nn.Module):
    """A detector that starts from features; deterministic, and thread-safe once built."""

    def __init__(self, model: nn.Module, weights: BackboneWeights) -> None:
        """Put the parts together.

        Args:
            model: torchvision's, with a `PyramidOnly` for a backbone, in evaluation mode.
            weights: The backbone's.
        """
        super().__init__()
        self.head = build_head(weights)
        self.tail = build_tail(weights)
        self.model = model
        self.is_one_stage = isinstance(model, RetinaNet)
        if not self.is_one_stage:
            _fix_scales(model)
        with torch.inference_mode():
            blank_nchw = self.head(torch.zeros(1, 3, 64, 64))
        self.blank_c: Tensor
        self.register_buffer("blank_c", blank_nchw[0, :, CELL, CELL].clone())

    def features_of(self, normalised_nchw: Tensor) -> Tensor:
        """Return what the detector's own head makes of ImageNet-normalised RGB, [N, 256, ceil(H/4), ceil(W/4)]."""
        features_nchw: Tensor = self.head(normalised_nchw)
        return features_nchw

    def forward(self, features_nchw: Tensor, *, height: int, width: int) -> list[FoundTensors]:
        """Find the objects in frames of one size.

        Args:
            features_nchw: [N, 256, h, w] of frames of height x width pixels, which may be padded below and right.
                Missing cells are filled up with what the head makes of torchvision's own padding.
            height: Of the frames, in pixels; boxes are cut there.
            width: Of the frames, in pixels.
        """
        padded_nchw = self._pad(features_nchw)
        num_frames, _, rows, columns = padded_nchw.shape
        # Only the shape of the pixels is asked for; a meta tensor has nothing else.
        pixels = torch.empty((num_frames, 3, rows * HEAD_STRIDE, columns * HEAD_STRIDE), device="meta")
        images = ImageList(pixels, [(height, width)] * num_frames)
        levels = self._pyramid(padded_nchw)
        return self._one_stage(images, levels) if self.is_one_stage else self._two_stages(images, levels)

    def _pad(self, features_nchw: Tensor) -> Tensor:
        """Fill rows and columns up to whole cells."""
        rows, columns = features_nchw.shape[2:]
        if rows % CELL == 0 and columns % CELL == 0:
            return features_nchw
        shape = (-(-rows // CELL) * CELL, -(-columns // CELL) * CELL)
        padded_nchw = self.blank_c[:, None, None].expand(len(features_nchw), -1, *shape).clone()
        padded_nchw[:, :, :rows, :columns] = features_nchw
        return padded_nchw

    def _pyramid(self, features_nchw: Tensor) -> "OrderedDict[str, Tensor]":
        stages, _ = self.tail(features_nchw)
        inputs = stages if self.is_one_stage else [features_nchw, *stages]
        backbone = self.model.backbone
        assert isinstance(backbone, PyramidOnly)
        levels: OrderedDict[str, Tensor] = backbone.fpn(OrderedDict((str(n), x) for n, x in enumerate(inputs)))
        return levels

    def _two_stages(self, images: ImageList, levels: "OrderedDict[str, Tensor]") -> list[FoundTensors]:
        """Propose regions, then classify them; as torchvision's `GeneralizedRCNN` does."""
        model = self.model
        proposals, _ = model.rpn(images, levels)  # type: ignore[operator]  # a module
        found: list[FoundTensors]
        found, _ = model.roi_heads(levels, proposals, images.image_sizes)  # type: ignore[operator]  # a module
        return found

    def _one_stage(self, images: ImageList, levels: "OrderedDict[str, Tensor]") -> list[FoundTensors]:
        """Classify every anchor; as torchvision's `RetinaNet` does."""
        model = self.model
        maps = list(levels.values())
        outputs = model.head(maps)  # type: ignore[operator]  # a module
        anchors = model.anchor_generator(images, maps)  # type: ignore[operator]  # a module
        num_positions = [x_nchw.shape[2] * x_nchw.shape[3] for x_nchw in maps]
        num_anchors = outputs["cls_logits"].shape[1] // sum(num_positions)
        sizes = [num_anchors * number for number in num_positions]
        found: list[FoundTensors] = model.postprocess_detections(  # type: ignore[operator]  # a method
            {name: list(output.split(sizes, dim=1)) for name, output in outputs.items()},
            [list(each.split(sizes)) for each in anchors],
            images.image_sizes,
        )
        return found


def build_split_model(
    name: str, tensors: Mapping[str, Tensor], *, file: KnownFile, path: Path, has_masks: bool
) -> SplitModel:
    """Build a detector from a checkpoint, in torchvision's old or new key layout; frozen, on the CPU.

    Args:
        name: torchvision's name of the model, such as `maskrcnn_resnet50_fpn`.
        tensors: What the file holds.
        file: The file's row.
        path: Of the file, for messages.
        has_masks: Whether Mask R-CNN gives masks; without, its mask branch is left out.

    Raises:
        CheckpointError: Keys are missing, too many or of another shape; names them.
    """
    body = backbone_tensors(tensors, backbone=file.backbone, layout=file.layout, path=path)
    model = get_model(name, weights=None, weights_backbone=None)
    model.backbone = PyramidOnly(model.backbone.fpn)
    _load_heads(model, {key: x for key, x in tensors.items() if not key.startswith(BODY)}, name=name, path=path)
    if not has_masks and not isinstance(model, RetinaNet):
        model.roi_heads.mask_roi_pool = model.roi_heads.mask_head = model.roi_heads.mask_predictor = None
    weights = BackboneWeights(backbone=file.backbone, tensors=body, norm_epsilon=file.norm_epsilon, path=path)
    split = SplitModel(model.eval(), weights)
    return split.eval().requires_grad_(False)


def _load_heads(model: nn.Module, tensors: Mapping[str, Tensor], *, name: str, path: Path) -> None:
    """Load pyramid and heads; torchvision's modules rename the keys of their older versions themselves."""
    try:
        result = model.load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise CheckpointError(f"weights {path} are not those of {name}: {name_some(lines)}") from error
    named = (("missing", result.missing_keys), ("too many", result.unexpected_keys))
    problems = [f"{what}: {name_some(keys)}" for what, keys in named if keys]
    if problems:
        raise CheckpointError(f"weights {path} are not those of {name}: {'; '.join(problems)}")


def _fix_scales(model: nn.Module) -> None:
    """Have the RoI poolings note the levels' scales, 1/4 to 1/32, which they read off the first frame they see.

    A first frame of a few pixels, padded to 32, would give them others, for ever.
    """
    side = 64 * HEAD_STRIDE
    levels = OrderedDict((str(n), torch.zeros(1, 1, 64 >> n, 64 >> n)) for n in range(4))
    for pooling in (model.roi_heads.box_roi_pool, getattr(model.roi_heads, "mask_roi_pool", None)):  # type: ignore[union-attr]  # a module
        if pooling is not None:
            pooling(levels, [torch.tensor([[0.0, 0.0, 8.0, 8.0]])], [(side, side)])  # type: ignore[operator]  # a module
