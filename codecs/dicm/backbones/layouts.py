"""From the keys of a weight file to the backbone's tensors under torchvision's names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from framevault.codecs.dicm.backbones.checkpoints import KeyLayout
from framevault.codecs.errors import CheckpointError

PREFIXES: dict[KeyLayout, str] = {
    "torchvision": "",
    "moco_v2": "module.encoder_q.",
    "detection": "backbone.body.",
}
"""What stands before the backbone's names in each layout."""

CLASSIFIER_KEYS: dict[str, tuple[str, ...]] = {
    "mobilenet_v2": ("classifier.1.weight", "classifier.1.bias"),
    "resnet50": ("fc.weight", "fc.bias"),
}
"""The classifier's tensors of each backbone; only the layout `torchvision` has them."""

NORM_EPSILON = 1e-5
"""Of batch normalisation, unless told otherwise; torch's own default."""

MOST_NAMES = 8
"""So many names of wrong keys stand in a message; the rest is counted."""


def find_layout(tensors: Mapping[str, Tensor]) -> KeyLayout:
    """Say how a file's keys are laid out: by the prefix that its backbone's names have.

    Raises:
        CheckpointError: No layout has such keys; names some of them.
    """
    for layout, prefix in PREFIXES.items():
        if prefix and any(key.startswith(prefix) for key in tensors):
            return layout
    if any(key.startswith(("conv1.", "features.0.")) for key in tensors):
        return "torchvision"
    raise CheckpointError(
        "keys must be torchvision's (conv1.weight), MoCo's (module.encoder_q.conv1.weight) or a torchvision detector's "
        f"(backbone.body.conv1.weight), got {name_some(sorted(tensors))}"
    )


def find_norm_epsilon(tensors: Mapping[str, Tensor], *, layout: KeyLayout) -> float:
    """Say which epsilon the backbone's batch normalisation has.

    torchvision's first detectors have a frozen one, which counts no batches, and run it without epsilon.
    """
    is_frozen = layout == "detection" and not any(key.endswith(".num_batches_tracked") for key in tensors)
    return 0.0 if is_frozen else NORM_EPSILON


def backbone_tensors(
    tensors: Mapping[str, Tensor], *, backbone: str, layout: KeyLayout, path: Path
) -> dict[str, Tensor]:
    """Return a backbone's tensors under torchvision's names, each with the right shape and none too many.

    Args:
        tensors: What the file holds; what belongs to something else than the backbone is left out.
        backbone: A key of `CLASSIFIER_KEYS`.
        layout: How the file's keys are laid out.
        path: Of the file, for messages.

    Raises:
        CheckpointError: A tensor is missing, is too many, or has another shape; names all such keys as in the file.
    """
    prefix = PREFIXES[layout]
    found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    if layout != "torchvision":
        # MoCo's `fc` is a projection that classifies nothing; detectors have none.
        found = {key: value for key, value in found.items() if not key.startswith("fc.")}
    found = {key: value for key, value in found.items() if not key.endswith(".num_batches_tracked")}
    shapes = backbone_shapes(backbone, has_classifier=layout == "torchvision")
    problems = _compare(found, shapes, prefix=prefix)
    if problems:
        raise CheckpointError(f"weights {path} are not those of {backbone} in {layout}'s layout: {'; '.join(problems)}")
    return found


def backbone_shapes(backbone: str, *, has_classifier: bool) -> dict[str, torch.Size]:
    """Return the shape of each of a backbone's tensors by torchvision's name."""
    # Imported here: torchvision's models take a second to import.
    from torchvision.models import get_model

    with torch.device("meta"):
        model = get_model(backbone, weights=None)
    left_out = () if has_classifier else CLASSIFIER_KEYS[backbone]
    return {
        key: value.shape
        for key, value in model.state_dict().items()
        if key not in left_out and not key.endswith(".num_batches_tracked")
    }


def _compare(found: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], *, prefix: str) -> list[str]:
    """Say in words what is missing, too many, or of another shape."""
    missing = [f"{prefix}{key}" for key in shapes if key not in found]
    extra = [f"{prefix}{key}" for key in found if key not in shapes]
    other = [
        f"{prefix}{key} must be {list(shape)}, is {list(found[key].shape)}"
        for key, shape in shapes.items()
        if key in found and found[key].shape != shape
    ]
    named = (("missing", missing), ("too many", extra), ("of another shape", other))
    return [f"{what}: {name_some(names)}" for what, names in named if names]


def name_some(names: Sequence[str]) -> str:
    """Return the first few of many names, for messages."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
