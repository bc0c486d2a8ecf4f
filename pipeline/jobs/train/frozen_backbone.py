"""The frozen backbone around the codec: its head, and its tail for the deep losses.

| given | head | tail |
| --- | --- | --- |
| stage `pretrain` ran before | as it left it | as it left it, without a classifier |
| a file of one's own | the file's | the file's |
| none, but torchvision's weights are on this machine | the start's | torchvision's, if the start's head is theirs |
| none at all | the start's | none: only the codec's own features are compared, and it is said |

A codec from random networks has its head from the shipped checkpoint, if that is of the same architecture; otherwise
from weights that are given or on this machine.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from framevault.codecs.dicm.backbones.checkpoints import KNOWN_FILES, known_file
from framevault.codecs.dicm.backbones.files import find_weights, hub_path, read_tensors
from framevault.codecs.dicm.backbones.layouts import CLASSIFIER_KEYS, NORM_EPSILON, backbone_shapes, backbone_tensors
from framevault.codecs.dicm.backbones.registry import (
    BACKBONES,
    BackboneWeights,
    Tail,
    build_head,
    build_tail,
    head_difference,
    load_backbone,
    read_backbone,
)
from framevault.codecs.errors import CheckpointError
from framevault.codecs.spec import CodecSpec
from framevault.configs.train import TrainDicmJob
from framevault.pipeline.jobs.train.backbone_parts import load_parts, read_parts
from framevault.pipeline.jobs.train.precision import choose_precision
from framevault.pipeline.jobs.train.stages import StageSetup
from framevault.workers.weights import SAME_HEAD, backbone_of, read_head


class FrozenTail(nn.Module):
    """A backbone's tail as training runs it: in bfloat16 where that is faster; or none, which gives no stages."""

    def __init__(self, tail: Tail | None, *, precision: torch.dtype, has_classifier: bool = True) -> None:
        """Wrap a frozen tail; without a classifier it gives no logits."""
        super().__init__()
        self.tail = tail
        self.precision = precision
        self.has_classifier = has_classifier
        self.num_stages = 0 if tail is None else len(tail.stages)
        """Stages that there are."""
        self.register_buffer("place", torch.zeros(0), persistent=False)
        self.place: Tensor
        """Empty; lies where the tail does, and where it would if there is none."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.place.device

    def forward(self, features_nchw: Tensor, num_stages: int) -> tuple[list[Tensor], Tensor | None]:
        """Return the outputs of the first stages, and logits where all ran and there is a classifier; float32."""
        if self.tail is None or num_stages == 0:
            return [], None
        is_low = self.precision != torch.float32
        with torch.autocast(features_nchw.device.type, self.precision, enabled=is_low):
            outputs, logits = self.tail(features_nchw, num_stages)
        has_logits = logits is not None and self.has_classifier
        return [output.float() for output in outputs], logits.float() if has_logits else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrozenBackbone:
    """Head and tail, on the CPU."""

    head: nn.Module
    """Gives the features that the codec carries."""
    tail: FrozenTail
    """Gives what must survive of them."""
    is_starts: bool
    """Whether the head is that of the checkpoint which the training starts from."""


def start_path(job: TrainDicmJob) -> Path | None:
    """Return the checkpoint that gives the networks, or with random ones at least the head; None if none is needed.

    Raises:
        CheckpointError: It can't be read, or is of another architecture, and networks are to come from it.
    """
    spec = _start_spec(job)
    return None if spec is None else spec.checkpoint_path


def _start_spec(job: TrainDicmJob) -> CodecSpec | None:
    spec = CodecSpec(name="dicm", weights=job.init)
    stored = backbone_of(spec)
    if stored == job.architecture:
        return spec
    if job.from_scratch:
        return None
    raise CheckpointError(
        f"{spec.checkpoint_path} is a codec of {stored}, expected one of {job.architecture}: name another (--init) or "
        f"architecture (--architecture), or start from random networks (--from-scratch)"
    )


def make_backbone(setup: StageSetup[TrainDicmJob]) -> FrozenBackbone:
    """Build the backbone, and say what can't be done without its weights.

    Raises:
        CheckpointError: A file is missing, damaged or another's; names it and the key.
    """
    spec = _start_spec(setup.job)
    weights, classes = _find_weights(setup.job)
    if "pretrain" in setup.earlier:
        return _pretrained(setup)
    own_head = None if weights is None else build_head(weights)
    head = own_head if spec is None else read_head(spec)
    if head is None:
        raise CheckpointError(_missing_head(setup.job))
    is_starts = own_head is None or head_difference(own_head, head) < SAME_HEAD
    is_given = setup.job.backbone is not None
    tail = build_tail(weights) if weights is not None and (is_given or is_starts) else None
    if tail is not None and classes is not None:
        tail.classifier = classes
    _say_which(setup, weights, has_tail=tail is not None)
    if own_head is not None and is_given:
        head = own_head
    return FrozenBackbone(
        head=head,
        tail=FrozenTail(tail, precision=choose_precision(setup.job, setup.device)),
        is_starts=is_starts or not is_given,
    )


def _missing_head(job: TrainDicmJob) -> str:
    name = BACKBONES[job.architecture].usual_weights
    return (
        f"a codec of {job.architecture} needs weights of it: name their file with --backbone, or put "
        f"{known_file(name).file_name} into {hub_path(known_file(name)).parent} (framevault weights fetch {name})"
    )


def _find_weights(job: TrainDicmJob) -> tuple[BackboneWeights | None, nn.Linear | None]:
    """Read the weights that were given, or else those that are on this machine; nothing is downloaded.

    Returns:
        The weights, None if there are none; and their classifier, if it has other classes than ImageNet's.
    """
    usual = BACKBONES[job.architecture].usual_weights
    if job.backbone is None:
        return (None if find_weights(usual) is None else load_backbone(usual)), None
    path = Path(job.backbone)
    if path.exists() or job.backbone not in KNOWN_FILES:
        return _read_own(path, job.architecture)
    weights = load_backbone(job.backbone)
    if weights.backbone != job.architecture:
        raise CheckpointError(
            f"weights {job.backbone!r} are of {weights.backbone}, expected those of {job.architecture}"
        )
    return weights, None


def _read_own(path: Path, architecture: str) -> tuple[BackboneWeights, nn.Linear | None]:
    """Read a backbone from a file, with whatever classes its classifier has."""
    for name, file in KNOWN_FILES.items():
        if file.file_name == path.name and file.backbone == architecture:
            # Its layout and normalisation are known, and so is its checksum.
            return load_backbone(name, path=path), None
    content = read_tensors(path)
    weight_name, bias_name = CLASSIFIER_KEYS[architecture]
    weight, bias = content.get(weight_name), content.get(bias_name)
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        return read_backbone(path, backbone=architecture), None
    # Only the number of classes may be another, so the rest is checked beside a classifier of the usual size.
    shapes = backbone_shapes(architecture, has_classifier=True)
    usual = {name: torch.zeros(shapes[name]) for name in (weight_name, bias_name)}
    if weight.shape == shapes[weight_name] or weight.shape[1] != shapes[weight_name][1]:
        return read_backbone(path, backbone=architecture), None
    tensors = backbone_tensors({**content, **usual}, backbone=architecture, layout="torchvision", path=path)
    classes = nn.Linear(weight.shape[1], weight.shape[0]).requires_grad_(False)
    classes.load_state_dict({"weight": weight, "bias": bias})
    return BackboneWeights(backbone=architecture, tensors=tensors, norm_epsilon=NORM_EPSILON, path=path), classes


def _pretrained(setup: StageSetup[TrainDicmJob]) -> FrozenBackbone:
    """Build the backbone that stage `pretrain` left; its classifier was trained on other features."""
    path = setup.earlier["pretrain"]
    tensors = read_parts(path)
    row = BACKBONES[setup.job.architecture]
    head, tail = row.make_head(), row.make_tail()
    load_parts(head, "head", tensors)
    load_parts(tail.stages, "tail", tensors)
    setup.say(f"deep losses: with {path.name}, without classes")
    frozen = FrozenTail(
        tail.eval().requires_grad_(False), precision=choose_precision(setup.job, setup.device), has_classifier=False
    )
    return FrozenBackbone(head=head.eval().requires_grad_(False), tail=frozen, is_starts=False)


def _say_which(setup: StageSetup[TrainDicmJob], weights: BackboneWeights | None, *, has_tail: bool) -> None:
    if has_tail and weights is not None:
        setup.say(f"deep losses: with {weights.path.name}")
    elif weights is None:
        setup.say(
            f"deep losses: none, since torchvision's weights of {setup.job.architecture} are not on this machine. Only "
            "the codec's own features are compared, and classes and objects may suffer; --backbone names a file"
        )
    else:
        setup.say(
            f"deep losses: none, since the start's head is another than that of {weights.path.name}. Only the codec's "
            "own features are compared; --backbone names the file that the start was trained with"
        )
