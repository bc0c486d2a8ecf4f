"""`framevault bench rate-perception`: real bytes a face against how alike faces look, for HSC and other codecs.

Every codec gets the same aligned faces and is decoded to pixels, which are compared with the originals: as pixels, and
as two networks see them. `face_coders.py` says whose bytes are counted, `face_features.py` what the metrics are.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import PIL
from PIL import features

from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.spec import HIGHEST_QUALITY, CodecSpec, weights_digest
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.jobs.bench.compressai_anchors import load_anchor
from framevault.pipeline.jobs.bench.face_anchors import (
    AVIF_QUALITIES,
    FACE_ANCHORS,
    INTRA_PRESET,
    QPS,
    WEBP_QUALITIES,
    FaceAnchor,
    anchor_coders,
)
from framevault.pipeline.jobs.bench.face_coders import SAVE_OPTIONS, FaceCoder, FrameCoder, hsc_coders
from framevault.pipeline.jobs.bench.face_features import load_networks, make_reference
from framevault.pipeline.jobs.bench.face_pictures import read_faces
from framevault.pipeline.jobs.bench.face_points import (
    FacePoint,
    compare_faces,
    measure_faces,
    msssim_window,
    shown_faces,
)
from framevault.pipeline.jobs.bench.face_report import (
    FaceReport,
    face_comparisons_table,
    face_points_table,
    write_face_points,
    write_face_report,
)
from framevault.pipeline.jobs.bench.output import OutputFormat, print_rows
from framevault.pipeline.jobs.bench.rate_report import open_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class PerceptionSettings:
    """What is compared, and how."""

    weights: str | None
    """HSC's checkpoint; None for the shipped one."""
    device: str = "cpu"
    """Where HSC runs."""
    qualities: tuple[int, ...]
    """Of HSC's whole streams."""
    slices: tuple[int, ...] | None = None
    """To which its streams of the highest quality are thinned; None for all that there are."""
    anchors: tuple[FaceAnchor, ...] = FACE_ANCHORS
    """What it is compared with."""
    anchor_checkpoints: tuple[tuple[str, Path], ...] = ()
    """Models of CompressAI: architecture and weights."""
    backbone: str | None = None
    """MobileNetV2's weights."""
    features: Path | None = None
    """EfficientNet-Lite0's weights."""
    num_faces: int | None = None
    """Most faces, evenly spread; None for all."""
    qps: tuple[int, ...] = QPS
    """Of x265."""
    avif_qualities: tuple[int, ...] = AVIF_QUALITIES
    """Of AVIF."""
    webp_qualities: tuple[int, ...] = WEBP_QUALITIES
    """Of WebP."""


def print_rate_perception(faces: str, settings: PerceptionSettings, *, out: Path, output: OutputFormat) -> ExitCode:
    """Measure, print the tables, and write rows, plot and contact sheets into a folder.

    Raises:
        CheckpointError: Weights are missing, damaged or another network's.
        CodecError: The codec has not so many slices.
        InputError: There are no pictures.
        PreflightError: A setting is wrong, a picture has another size than the codec's, this Pillow or FFmpeg lacks
            a format, or the folder can't be written.
    """
    open_folder(out)
    report = run_rate_perception(faces, settings, out=out)
    write_face_report(out, report)
    print_rows(face_points_table(report.points), output, title=f"Rate and perception: {report.title}")
    title = "BD-rate of hsc: percent more or fewer bytes at an equal metric"
    print_rows(face_comparisons_table(report.comparisons), output, title=title)
    return ExitCode.DONE


def run_rate_perception(faces: str, settings: PerceptionSettings, *, out: Path) -> FaceReport:
    """Measure; each point is told on standard error and written at once. Errors as `print_rate_perception`."""
    spec = CodecSpec(name="hsc", weights=settings.weights, device=settings.device, quality=HIGHEST_QUALITY)
    hsc = load_hsc(spec)
    coders = list(_coders(hsc, settings))
    networks, notes = load_networks(backbone=settings.backbone, features=settings.features)
    for note in notes:
        _say(note)
    side = hsc.networks.config.resolution
    originals_nchw = read_faces(faces, side=side, num_faces=settings.num_faces).rgb_nchw
    references = [make_reference(network, originals_nchw) for network in networks]
    points: list[FacePoint] = []
    for point in measure_faces(coders, originals_nchw, references):
        points.append(point)
        write_face_points(out, points)
        _say(_line(point))
    num_faces = len(originals_nchw)
    return FaceReport(
        title=f"{Path(faces).resolve().name}, {num_faces} faces of {side}x{side} pixels",
        points=points,
        comparisons=compare_faces(points),
        notes=tuple(notes),
        facts=_facts(hsc, settings, num_faces=num_faces, side=side),
        shown_nchw=originals_nchw[shown_faces(num_faces)],
    )


def _coders(hsc: HscCodec, settings: PerceptionSettings) -> Iterator[FaceCoder]:
    """Yield HSC from nothing up, then the anchors."""
    slices = tuple(range(hsc.num_slices)) if settings.slices is None else settings.slices
    yield from hsc_coders(hsc, qualities=settings.qualities, slices=slices)
    for anchor in settings.anchors:
        yield from anchor_coders(
            anchor, qps=settings.qps, avif_qualities=settings.avif_qualities, webp_qualities=settings.webp_qualities
        )
    for name, path in settings.anchor_checkpoints:
        yield FrameCoder(coder=load_anchor(name, path))


def _facts(hsc: HscCodec, settings: PerceptionSettings, *, num_faces: int, side: int) -> dict[str, object]:
    return {
        "hsc_weights_sha256": weights_digest(hsc.spec),
        "faces": num_faces,
        "ms_ssim_window": msssim_window(side),
        "pyav": av.__version__,
        "pillow": PIL.__version__,
        "libavif": features.version("avif"),
        "libwebp": features.version("webp"),
        "x265_intra_preset": INTRA_PRESET,
        "pillow_options": {name: SAVE_OPTIONS[name] for name in SAVE_OPTIONS if name in settings.anchors},
    }


def _line(point: FacePoint) -> str:
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in point.metrics.items())
    whole, own = point.bytes_per_face("file_bytes"), point.bytes_per_face("payload_bytes")
    return f"{point.codec} {point.setting}: {whole:.1f} bytes a face, {own:.1f} without container; {metrics}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
