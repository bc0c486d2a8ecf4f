"""Which checkpoint made a stored stream: found by fingerprint among the shipped one and those that a user names."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.checkpoint_header import read_config
from framevault.codecs.dicm.backbones.registry import BACKBONES, head_difference
from framevault.codecs.dicm.config import BackboneName, DicmConfig
from framevault.codecs.errors import CheckpointError, CodecError
from framevault.codecs.spec import (
    CODECS,
    HIGHEST_QUALITY,
    LOWEST_QUALITY,
    CodecSpec,
    codec_fingerprint,
    frames_spec,
    weights_digest,
)
from framevault.storage.documents import JsonValue
from framevault.storage.index import VideoManifest
from framevault.storage.packs import PackHeader

SAME_HEAD = 1e-4
"""Heads that differ by less, relatively, give features that one detector reads."""

DIGEST = re.compile(r"[0-9a-f]{64}")
"""A SHA-256 in hex."""

_HEAD = "networks.head."


def find_spec(
    name: str,
    fingerprint: str,
    *,
    quality: int,
    bitstream_version: int,
    slices: int | None = None,
    face_slices: int | None = None,
    weights: Iterable[str] = (),
    device: str = "cpu",
    hint: str = "",
) -> CodecSpec:
    """Return the spec whose fingerprint a pack or manifest bears. What codes its faces, if it has any, is found, too.

    Args:
        name: The codec's.
        fingerprint: What the pack or manifest says.
        quality: What it says, too.
        bitstream_version: And this.
        slices: And to how many it was thinned; None for whole streams.
        face_slices: And to how many its faces were; None for whole ones, or no faces.
        weights: Paths of checkpoints that are tried after the shipped one, of either of a codec's two if it has two.
        device: Where the codec shall run.
        hint: What else the message says if there is none.

    Raises:
        CodecError: None of them made it, or a file can't be read; says what to do.
    """
    given = tuple(weights)
    specs = [
        CodecSpec(
            name=name,
            quality=quality,
            weights=path,
            device=device,
            bitstream_version=bitstream_version,
            slices=slices,
            faces=faces,
        )
        for path, faces in itertools.product(_tried_weights(name, given), _tried_faces(name, given, slices=face_slices))
    ]
    tried = [codec_fingerprint(spec) for spec in specs]
    if fingerprint in tried:
        return specs[tried.index(fingerprint)]
    own = f" and the {len(given)} files given as weights have others" if given else ""
    here, named = tried[0][:16], "the checkpoint that it was"
    if specs[0].faces is not None:
        here, named = "others at every quality of faces", "both checkpoints that it and its faces were"
    raise CodecError(
        f"codec {name!r} with fingerprint {fingerprint[:16]} expected, this installation has {here}{own}: "
        f"name {named} encoded with (--weights), or install the framevault version that wrote it{hint}"
    )


def _tried_faces(name: str, weights: Sequence[str], *, slices: int | None) -> list[CodecSpec | None]:
    """Return what may have coded the faces in a codec's streams, the shipped checkpoint first; None for no faces."""
    codec = CODECS[name].faces_codec if name in CODECS else None
    if codec is None:
        return [None]
    qualities = range(LOWEST_QUALITY, HIGHEST_QUALITY + 1)
    tried = itertools.product(_tried_weights(codec, weights), qualities)
    return [CodecSpec(name=codec, weights=path, quality=quality, slices=slices) for path, quality in tried]


def _tried_weights(name: str, weights: Sequence[str]) -> list[str | None]:
    """Return the checkpoints that may have made a codec's streams: the shipped one, if there is one, first."""
    if name not in CODECS or CODECS[name].checkpoint is None:
        return [None]
    shipped = CodecSpec(name=name).checkpoint_path
    others: list[str | None] = [*weights]
    return others if others and shipped is not None and not shipped.exists() else [None, *others]


def find_video_spec(
    manifest: VideoManifest, *, weights: Iterable[str] = (), device: str = "cpu", hint: str = ""
) -> CodecSpec:
    """Return the spec that a video's manifest describes; arguments and errors as of `find_spec`."""
    return find_spec(
        manifest.codec,
        manifest.codec_fingerprint,
        quality=manifest.quality,
        bitstream_version=manifest.bitstream_version,
        slices=manifest.slices,
        face_slices=manifest.face_slices,
        weights=weights,
        device=device,
        hint=hint,
    )


def find_pack_spec(
    header: PackHeader, *, weights: Iterable[str] = (), device: str = "cpu", hint: str = ""
) -> CodecSpec:
    """Return the spec that a pack's header describes; arguments as of `find_spec`.

    Raises:
        CodecError: None of the checkpoints made it, or a file can't be read; names the segment.
    """
    try:
        return find_spec(
            header.codec,
            header.codec_fingerprint,
            quality=header.quality,
            bitstream_version=header.bitstream_version,
            slices=_slices_in(header.settings),
            face_slices=_face_slices_in(header.settings),
            weights=weights,
            device=device,
            hint=hint,
        )
    except CodecError as error:
        raise CodecError(f"segment {header.segment_id}: {error}") from error


def lacking_checkpoints(header: PackHeader, *, weights: Iterable[str] = ()) -> list[str]:
    """Return the SHA-256, in hex, of the checkpoints that a pack needs and that are neither shipped nor given.

    Raises:
        CodecError: The header says of its faces what can't be, or a given file can't be read.
    """
    row, given = CODECS.get(header.codec), tuple(weights)
    if row is None or row.checkpoint is None:
        return []
    needed = {header.codec: header.weights_digest}
    if row.faces_codec is not None:
        needed[row.faces_codec] = _faces_digest(header)
    return [digest for codec, digest in needed.items() if digest not in _digests_here(codec, given)]


def _faces_digest(header: PackHeader) -> str:
    """Return the SHA-256 of the checkpoint that coded a pack's faces, in hex."""
    faces = header.settings.get("faces")
    digest = faces.get("weights") if isinstance(faces, dict) else None
    if not isinstance(digest, str) or DIGEST.fullmatch(digest) is None:
        raise CodecError(
            f"segment {header.segment_id}: faces in the settings must name weights by 64 hex digits, got {digest!r}"
        )
    return digest


def _digests_here(codec: str, weights: Sequence[str]) -> set[str]:
    """Return the SHA-256 of a codec's shipped checkpoint, if there is one, and of those given, in hex."""
    specs = [CodecSpec(name=codec, weights=path) for path in (None, *weights)]
    shipped = specs[0].checkpoint_path
    return {weights_digest(spec) for spec in (specs if shipped is not None and shipped.exists() else specs[1:])}


def pack_settings(spec: CodecSpec) -> dict[str, JsonValue]:
    """Return the settings that the header of a spec's pack has: all that a decoder must know besides."""
    settings: dict[str, JsonValue] = {} if spec.slices is None else {"slices": spec.slices}
    if spec.faces is not None:
        faces = spec.faces
        version = faces.bitstream_version
        said: dict[str, JsonValue] = {
            "weights": weights_digest(faces),
            "quality": faces.quality,
            "version": version,
        }
        settings["faces"] = said if faces.slices is None else {**said, "slices": faces.slices}
    return settings


def _slices_in(settings: Mapping[str, JsonValue], *, of: str = "the settings") -> int | None:
    """Return to how many slices a pack's streams were thinned; None for whole ones."""
    slices = settings.get("slices")
    if slices is not None and (isinstance(slices, bool) or not isinstance(slices, int)):
        raise CodecError(f"slices in {of} must be a whole number, got {slices!r}")
    return slices


def _face_slices_in(settings: Mapping[str, JsonValue]) -> int | None:
    """Return to how many slices the faces in a pack's streams were thinned; None for whole ones, or no faces."""
    faces = settings.get("faces")
    return _slices_in(faces, of="faces in the settings") if isinstance(faces, dict) else None


def backbone_of(spec: CodecSpec) -> BackboneName | None:
    """Return whose features a codec's streams hold; None for pixels. Loads no tensor.

    Raises:
        CheckpointError: The checkpoint can't be read, or is another codec's.
    """
    if spec.row.decodes_to == "frames":
        return None
    frames = frames_spec(spec)
    path = frames.checkpoint_path
    assert path is not None
    return _config(frames, read_config(path, codec=frames.name)).backbone


def check_latents(spec: CodecSpec, latents_of: str, *, name: str) -> None:
    """Check that stored latents are those that something reads.

    Args:
        spec: What made them.
        latents_of: SHA-256 in hex of the codec checkpoint whose latents are read.
        name: Of the video or segment, for the message.

    Raises:
        CodecError: They are another checkpoint's, or there are none.
    """
    if spec.row.decodes_to == "frames":
        raise CodecError(f"{name} holds pixels, and latents are wanted: choose a detector that reads features")
    if (found := weights_digest(spec)) != latents_of:
        raise CodecError(
            f"{name} holds latents of codec checkpoint {found[:16]}, and those of {latents_of[:16]} are wanted: "
            "choose a detector that reads features, or one that was trained on these latents"
        )


def has_head(spec: CodecSpec, head: nn.Module) -> bool:
    """Whether a checkpoint's features are those of a backbone's head, which something was trained behind.

    Raises:
        CheckpointError: The checkpoint can't be read, or is another codec's.
    """
    return head_difference(read_head(spec), head) < SAME_HEAD


def read_head(spec: CodecSpec) -> nn.Sequential:
    """Return the head in a checkpoint, frozen, on the CPU.

    Raises:
        CheckpointError: The file can't be read, or is another codec's.
    """
    frames = frames_spec(spec)
    path = frames.checkpoint_path
    assert path is not None
    tensors, config_json = load_checkpoint(path, codec=frames.name)
    head = BACKBONES[_config(frames, config_json).backbone].make_head().eval().requires_grad_(False)
    try:
        head.load_state_dict({name.removeprefix(_HEAD): t for name, t in tensors.items() if name.startswith(_HEAD)})
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the {frames.name} codec: {error}") from error
    return head


def _config(spec: CodecSpec, config_json: Mapping[str, object]) -> DicmConfig:
    try:
        return DicmConfig.from_json(config_json)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{spec.checkpoint_path} does not fit the {spec.name} codec: {error}") from error
