"""Which checkpoint made a stored stream: found by fingerprint among the shipped one and those that a user names."""

from collections.abc import Iterable

from torch import nn

from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.dicm.backbone import build_head
from framevault.codecs.dicm.backbones.registry import head_difference
from framevault.codecs.errors import CheckpointError, CodecError
from framevault.codecs.spec import CodecSpec, codec_fingerprint

SAME_HEAD = 1e-4
"""Heads that differ by less, relatively, give features that one detector reads."""

_HEAD = "networks.head."


def find_spec(
    name: str,
    fingerprint: str,
    *,
    quality: int,
    bitstream_version: int,
    weights: Iterable[str] = (),
    device: str = "cpu",
) -> CodecSpec:
    """Return the spec whose fingerprint a pack or manifest bears.

    Args:
        name: The codec's.
        fingerprint: What the pack or manifest says.
        quality: What it says, too.
        bitstream_version: And this.
        weights: Paths of checkpoints that are tried after the shipped one.
        device: Where the codec shall run.

    Raises:
        CodecError: None of them made it, or a file can't be read; says what to do.
    """
    specs = [
        CodecSpec(name=name, quality=quality, weights=path, device=device, bitstream_version=bitstream_version)
        for path in (None, *(weights if name == "dicm" else ()))
    ]
    tried = [codec_fingerprint(spec) for spec in specs]
    if fingerprint in tried:
        return specs[tried.index(fingerprint)]
    own = f" and the {len(tried) - 1} files given as weights have others" if len(tried) > 1 else ""
    raise CodecError(
        f"codec {name!r} with fingerprint {fingerprint[:16]} expected, this installation has {tried[0][:16]}{own}: "
        "name the checkpoint that it was encoded with (--weights), or install the framevault version that wrote it"
    )


def has_shipped_head(spec: CodecSpec) -> bool:
    """Whether a `dicm` checkpoint's features are those of the shipped one's backbone, which detectors were trained on.

    Raises:
        CheckpointError: The file can't be read, or is another codec's.
    """
    if spec.weights is None:
        return True
    return head_difference(read_head(spec), read_head(CodecSpec(name=spec.name))) < SAME_HEAD


def read_head(spec: CodecSpec) -> nn.Sequential:
    """Return the head in a `dicm` checkpoint, frozen, on the CPU.

    Raises:
        CheckpointError: The file can't be read, or is another codec's.
    """
    path = spec.checkpoint_path
    assert path is not None
    tensors, _ = load_checkpoint(path, codec=spec.name)
    head = build_head().requires_grad_(False)
    try:
        head.load_state_dict({name.removeprefix(_HEAD): t for name, t in tensors.items() if name.startswith(_HEAD)})
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the {spec.name} codec: {error}") from error
    return head
