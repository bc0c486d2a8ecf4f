"""Which codec, with which settings: the part of a codec that crosses processes. Imports no torch."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal

from framevault.codecs.errors import CheckpointError, CodecError

LOWEST_QUALITY = 1
"""Fewest bytes."""

HIGHEST_QUALITY = 8
"""Most bytes."""

USUAL_VERSION = 0
"""Stands for the bitstream version that a codec writes unless told otherwise."""

DEFAULT_QUALITY = 5
"""Where the shipped detector loses little against the original pixels; the model card has the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecRow:
    """What is known of a codec without loading it."""

    number: int
    """Its number in stored formats; never reused."""
    bitstream_versions: tuple[int, ...]
    """Layouts of its streams that it reads and writes, which `storage/FORMAT.md` specifies: first that of frames
    coded by themselves, last the usual one."""
    decodes_to: Literal["frames", "features"]
    """What its decoder returns."""
    has_quality: bool
    """Whether `quality` changes anything."""
    checkpoint: str | None
    """Path of the shipped weights below this folder; None if it has none."""
    typical_bpp: dict[int, tuple[float, ...]]
    """Bits a pixel at each quality, by bitstream version: the mean of ten real clips, for plans, not for promises. Of
    thinned streams, with the usual slices."""
    typical_pixels_per_s: float
    """Pixels a second and core, compressed end to end, at 640x272 on AMD EPYC cores; of dicm, which looks for motion,
    encoded alone on an Intel Xeon's: a moving scene."""
    frame_pixels: int | None = None
    """Pixels that every frame is coded as, whatever its size; None for its own. Of the shipped weights, for plans."""
    usual_slices: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Slices at each quality, by bitstream version, where fewer than all are enough unless told otherwise."""
    thinned_versions: dict[int, int] = field(default_factory=dict)
    """Which layout streams have that were thinned, by what they were; empty if they can't be (`SupportsThinning`)."""
    frames_codec: str | None = None
    """Name of the codec whose streams of whole frames are in its own; None if its streams are nothing but its own."""
    faces_codec: str | None = None
    """Name of the codec whose streams of faces are in its own; None if there are none."""
    thinned_faces_versions: dict[int, int] = field(default_factory=dict)
    """Which layout streams have whose faces were thinned, by what they have with whole faces; empty without faces."""

    @property
    def intra_version(self) -> int:
        """The layout of frames coded by themselves."""
        return self.bitstream_versions[0]

    @property
    def usual_version(self) -> int:
        """The layout that is written unless told otherwise."""
        return self.bitstream_versions[-1]

    def whole_version(self, version: int) -> int:
        """Return the layout that streams had before they were thinned; itself, if they were not."""
        return {thin: whole for whole, thin in self.thinned_versions.items()}.get(version, version)


_DICM = CodecRow(
    number=1,
    bitstream_versions=(1, 2, 9, 13),
    decodes_to="features",
    has_quality=True,
    checkpoint="dicm/checkpoints/mobilenet_v2.safetensors",
    typical_bpp={
        1: (0.035, 0.049, 0.067, 0.091, 0.123, 0.173, 0.243, 0.351),
        2: (0.005, 0.010, 0.017, 0.025, 0.035, 0.050, 0.076, 0.132),
        4: (0.003, 0.005, 0.008, 0.012, 0.018, 0.038, 0.062, 0.114),
        9: (0.0016, 0.0029, 0.0048, 0.0079, 0.0136, 0.0245, 0.0450, 0.0983),
        10: (0.0016, 0.0029, 0.0046, 0.0071, 0.0110, 0.0227, 0.0413, 0.0882),
        13: (0.0020, 0.0039, 0.0066, 0.0115, 0.0208, 0.0390, 0.0677, 0.1224),
        14: (0.0020, 0.0038, 0.0063, 0.0100, 0.0153, 0.0317, 0.0571, 0.1063),
    },
    typical_pixels_per_s=3.4e6,
    # In predicted frames the other slices are noise that costs half of the bytes: detection is as good without, and
    # the features' error grows by 0 to 5 %.
    usual_slices=dict.fromkeys((2, 9, 13), (2, 2, 2, 2, 2, 3, 3, 3)),
    thinned_versions={1: 3, 2: 4, 9: 10, 13: 14},
)

CODECS: dict[str, CodecRow] = {
    "raw": CodecRow(
        number=0,
        bitstream_versions=(1,),
        decodes_to="frames",
        has_quality=False,
        checkpoint=None,
        typical_bpp={1: (7.2,) * HIGHEST_QUALITY},
        typical_pixels_per_s=15.6e6,
    ),
    "dicm": _DICM,
    "hsc": CodecRow(
        number=2,
        bitstream_versions=(1,),
        decodes_to="frames",
        has_quality=True,
        checkpoint="hsc/checkpoints/face128.safetensors",
        typical_bpp={1: (0.025, 0.033, 0.053, 0.079, 0.108, 0.144, 0.188, 0.233)},
        typical_pixels_per_s=0.5e6,
        frame_pixels=128 * 128,
        thinned_versions={1: 2},
    ),
    # Bytes are of the frames alone: what faces cost depends on how many there are. Time is with a face in each frame of
    # 1280x720, where encoding takes 2.1 times dicm's.
    "dicm+hsc": replace(
        _DICM,
        number=3,
        typical_pixels_per_s=2.3e6,
        frames_codec="dicm",
        faces_codec="hsc",
        thinned_faces_versions={1: 5, 2: 6, 3: 7, 4: 8, 9: 11, 10: 12, 13: 15, 14: 16},
    ),
}
"""Every codec there is, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecSpec:
    """A codec and its settings. Checked once, here.

    Of a codec that codes faces besides frames, all but `faces` is about the frames.

    Raises:
        CodecError: The codec is unknown, the quality out of range, there is no such bitstream version, or faces are
            given to a codec that has none, or of a codec that codes none.
    """

    name: str
    """A key of `CODECS`."""
    quality: int = DEFAULT_QUALITY
    """1 (fewest bytes) to 8; codecs without a quality ignore it."""
    weights: str | None = None
    """Path of a checkpoint; None for the shipped one."""
    device: str = "cpu"
    """A torch device, as `cpu` or `cuda:0`; not part of the fingerprint."""
    bitstream_version: int = USUAL_VERSION
    """Layout of the streams; as given, the codec's usual one."""
    slices: int | None = None
    """Slices that streams were thinned to, from 0; None for whole ones. How many there are is the checkpoint's say."""
    faces: "CodecSpec | None" = None
    """What codes the faces, for a codec that does so; as given, the shipped one. It runs on this spec's device. Its own
    `slices` says what faces were thinned to."""

    def __post_init__(self) -> None:
        """Check what can be checked without the checkpoint."""
        if self.name not in CODECS:
            raise CodecError(f"codec must be one of {', '.join(sorted(CODECS))}, got {self.name!r}")
        if not LOWEST_QUALITY <= self.quality <= HIGHEST_QUALITY:
            raise CodecError(f"quality must be {LOWEST_QUALITY} to {HIGHEST_QUALITY}, got {self.quality}")
        self._check_faces()
        versions, of_slices = self.row.bitstream_versions, ""
        if self.slices is not None:
            versions, of_slices = tuple(self.row.thinned_versions.values()), f", thinned to {self.slices} slices,"
            if not versions or self.slices < 0:
                raise CodecError(f"codec {self.name!r} has no streams of {self.slices} slices")
        if self.faces is not None and self.faces.slices is not None:
            versions = tuple(self.row.thinned_faces_versions[version] for version in versions)
            of_slices += f" with faces thinned to {self.faces.slices} slices,"
        if self.bitstream_version == USUAL_VERSION:
            object.__setattr__(self, "bitstream_version", versions[-1])
        elif self.bitstream_version not in versions:
            known = " or ".join(str(version) for version in versions)
            raise CodecError(
                f"bitstream version of codec {self.name!r}{of_slices} must be {known}, got {self.bitstream_version}: "
                "a newer framevault may know it"
            )

    def _check_faces(self) -> None:
        """Check what codes the faces, and fill it in."""
        codec, given = self.row.faces_codec, self.faces
        if codec is None:
            if given is not None:
                raise CodecError(f"codec {self.name!r} codes no faces, got codec {given.name!r} for them")
            return
        if given is not None and given.name != codec:
            raise CodecError(f"faces of codec {self.name!r} must be coded by codec {codec!r}, got {given.name!r}")
        faces = CodecSpec(name=codec) if given is None else given
        object.__setattr__(self, "faces", replace(faces, device=self.device))

    @property
    def row(self) -> CodecRow:
        """The codec's row of the table."""
        return CODECS[self.name]

    @property
    def frames_version(self) -> int:
        """Layout of the streams of its frames: its own, but where faces were thinned."""
        whole_of = {thin: whole for whole, thin in self.row.thinned_faces_versions.items()}
        return whole_of.get(self.bitstream_version, self.bitstream_version)

    @property
    def checkpoint_path(self) -> Path | None:
        """The file its weights are read from; None for a codec without weights."""
        if self.weights is not None:
            return Path(self.weights)
        return None if self.row.checkpoint is None else Path(__file__).parent / self.row.checkpoint


def frames_spec(spec: CodecSpec) -> CodecSpec:
    """Return what decodes the streams of whole frames in those of a spec: itself, but for a codec with faces."""
    if spec.row.frames_codec is None:
        return spec
    return replace(spec, name=spec.row.frames_codec, faces=None, bitstream_version=spec.frames_version)


def thinned(spec: CodecSpec, *, slices: int) -> CodecSpec:
    """Return what decodes the streams of a spec once they are thinned.

    Raises:
        CodecError: The codec's streams can't be thinned, or have no more slices than that by what the spec says.
    """
    if not spec.row.thinned_versions:
        able = ", ".join(sorted(name for name, row in CODECS.items() if row.thinned_versions))
        raise CodecError(f"streams of codec {spec.name!r} can't be thinned, only those of {able}")
    if spec.slices is None:
        version = spec.row.thinned_versions[spec.frames_version]
        has_thin_faces = spec.frames_version != spec.bitstream_version
        return replace(
            spec,
            slices=slices,
            bitstream_version=spec.row.thinned_faces_versions[version] if has_thin_faces else version,
        )
    if slices >= spec.slices:
        raise CodecError(f"streams that were thinned to {spec.slices} slices can't be thinned to {slices}")
    return replace(spec, slices=slices)


def thinned_faces(spec: CodecSpec, *, slices: int) -> CodecSpec:
    """Return what decodes the streams of a spec once those of its faces are thinned; frames stay as they are.

    Raises:
        CodecError: The codec codes no faces besides frames, or theirs have no more slices than that by what the spec
            says.
    """
    if spec.faces is None:
        able = ", ".join(sorted(name for name, row in CODECS.items() if row.faces_codec is not None))
        raise CodecError(f"codec {spec.name!r} codes no faces besides frames, which can be thinned; {able} does")
    try:
        faces = thinned(spec.faces, slices=slices)
    except CodecError as error:
        raise CodecError(f"faces: {error}") from error
    return replace(spec, faces=faces, bitstream_version=spec.row.thinned_faces_versions[spec.frames_version])


def weights_digest(spec: CodecSpec) -> str:
    """Return the SHA-256 of the codec's checkpoint file in hex; of nothing for a codec without weights.

    Raises:
        CheckpointError: The file can't be read.
    """
    path = spec.checkpoint_path
    if path is None:
        return hashlib.sha256(b"").hexdigest()
    try:
        status = path.stat()
        return _file_digest(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        hint = " (this installation ships none: name one with --weights)" if spec.weights is None else ""
        raise CheckpointError(
            f"weights of codec {spec.name!r} can't be read: {path}: {error.strerror}{hint}"
        ) from error


@cache
def _file_digest(path: Path, mtime_ns: int, size_bytes: int) -> str:
    """Hash a file; its time and size are there to key the cache."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def codec_fingerprint(spec: CodecSpec) -> str:
    """Return the hex SHA-256 over everything that makes streams of one spec decode with another."""
    facts: dict[str, str | int | None] = {
        "codec": spec.name,
        "number": spec.row.number,
        "bitstream_version": spec.bitstream_version,
        "quality": spec.quality if spec.row.has_quality else None,
        "weights": weights_digest(spec),
    }
    if spec.slices is not None:
        facts["slices"] = spec.slices
    if spec.faces is not None:
        facts["faces"] = codec_fingerprint(spec.faces)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
