"""What the stages before `codec` hand on: tensors of the backbone's head and tail, and of RE, in one file.

| names | what they hold |
| --- | --- |
| `head.*`, `tail.*` | the backbone as stage `pretrain` left it, normalisation folded in |
| `redundancy.*`, `density.*` | RE and the density of its bottleneck |
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.errors import CheckpointError

PARTS_CODEC = "dicm-parts"
"""Stands in the file where a codec's checkpoint has the codec's name: neither is taken for the other."""


def read_parts(path: Path) -> dict[str, Tensor]:
    """Read what an earlier stage exported.

    Raises:
        CheckpointError: It is missing, damaged, or no such file.
    """
    tensors, _ = load_checkpoint(path, codec=PARTS_CODEC)
    return tensors


def load_parts(module: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Fill a module with the tensors below a name.

    Raises:
        CheckpointError: They are not the module's.
    """
    prefix = f"{name}."
    try:
        module.load_state_dict({key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)})
    except RuntimeError as error:
        raise CheckpointError(f"the earlier stage's {name} does not fit: {error}") from error
