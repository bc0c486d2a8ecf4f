"""`framevault bench rate-accuracy`: real bytes against accuracy, for DICM and other codecs on the same labelled frames.

Every codec gets the same pixels and is decoded to what the same network reads: DICM to features, the others to pixels,
from which DICM's own head makes features. A video is coded whole, with a fresh start every `segment_frames` frames for
all codecs, and only labelled frames are scored.
"""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, get_args

import av

from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.spec import CODECS, CodecSpec, weights_digest
from framevault.pipeline import svt_av1, x265
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.bench.coders import (
    Coder,
    DicmCoder,
    PixelCoder,
    SvtAv1InterCoder,
    X265InterCoder,
    X265IntraCoder,
    require_encoder,
)
from framevault.pipeline.jobs.bench.compressai_anchors import load_anchor
from framevault.pipeline.jobs.bench.material import Material
from framevault.pipeline.jobs.bench.output import OutputFormat, print_rows
from framevault.pipeline.jobs.bench.rate_data import (
    DataSettings,
    Examination,
    Task,
    prepare_classification,
    prepare_detection,
)
from framevault.pipeline.jobs.bench.rate_points import Comparison, Point, compare, measure_points
from framevault.pipeline.jobs.bench.rate_report import (
    Report,
    Result,
    comparisons_table,
    open_folder,
    points_table,
    write_points,
    write_report,
)
from framevault.pipeline.jobs.settings import with_slices, with_usual_slices

T = TypeVar("T")

Anchor = Literal["x265-intra", "x265-inter", "svtav1-inter"]
"""Codecs that need no weights."""

ANCHORS: tuple[Anchor, ...] = get_args(Anchor)
"""All of them."""

INTRA_ANCHORS: tuple[Anchor, ...] = ("x265-intra",)
"""Those that pictures can be coded with, which have nothing to do with one another."""

ENCODERS: dict[Anchor, str] = {"x265-intra": "libx265", "x265-inter": "libx265", "svtav1-inter": svt_av1.ENCODER}
"""libavcodec's names."""

Preset = Literal["fast", "medium", "slow", "slower"]
"""x265's names for speed against size."""

SVT_PRESETS: dict[Preset, int] = {"fast": 8, "medium": 6, "slow": 4, "slower": 2}
"""SVT-AV1 has numbers only: its users take 4 to 6 for files that are kept; below 2 it is for research."""

INTRA_PRESET: Preset = "slow"
"""Of x265 for single frames."""

QPS = (22, 26, 30, 34, 38, 42, 46)
"""Of x265 intra, unless told otherwise."""

X265_CRFS = (22, 28, 34, 40, 46)
"""Of x265 inter, unless told otherwise."""

SVT_CRFS = (30, 40, 48, 55, 60, 63)
"""Of SVT-AV1, unless told otherwise: about the bytes of x265's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecSettings:
    """What is compared."""

    weights: str | None
    """DICM's checkpoint; None for the shipped one."""
    qualities: tuple[int, ...]
    """Of DICM."""
    slices: tuple[int, ...] | None = None
    """Of DICM's latent, each a curve of its own; None for those that are usual at each quality."""
    anchors: tuple[Anchor, ...] | None
    """What it is compared with; None for all that the frames allow."""
    anchor_checkpoints: tuple[tuple[str, Path], ...] = ()
    """Models of CompressAI: architecture and weights."""
    presets: tuple[Preset, ...] = ("medium", "slow")
    """Of the codecs that predict between frames."""
    qps: tuple[int, ...] = QPS
    """Of x265 intra."""
    crfs: tuple[int, ...] = X265_CRFS
    """Of x265 inter."""
    svt_crfs: tuple[int, ...] = SVT_CRFS
    """Of SVT-AV1."""


def print_rate_accuracy(
    task: Task, data: DataSettings, codecs: CodecSettings, *, out: Path, output: OutputFormat
) -> ExitCode:
    """Measure, print the tables, and write rows and plot into a folder.

    Raises:
        CodecError: A checkpoint is missing, damaged or another codec's.
        DetectorError: The detector can't be loaded.
        InputError: The data is not there.
        PreflightError: A setting is wrong, the labels don't fit, an encoder is missing, or the folder can't be written.
    """
    open_folder(out)
    spec = CodecSpec(name="dicm", weights=codecs.weights, bitstream_version=1)

    def keep(report: Report) -> None:
        write_points(out, report)

    if task == "classify":
        report = run_rate_accuracy(prepare_classification(data, spec), data, codecs, on_point=keep)
    else:
        report = run_rate_accuracy(prepare_detection(data, spec), data, codecs, on_point=keep)
    write_report(out, report)
    print_rows(points_table(report), output, title=f"Rate and accuracy: {report.title}")
    print_rows(comparisons_table(report), output, title="BD-rate: percent more or fewer bytes at equal accuracy")
    return ExitCode.DONE


def run_rate_accuracy(
    exam: Examination[T], data: DataSettings, codecs: CodecSettings, *, on_point: Callable[[Report], None]
) -> Report:
    """Measure each step of frames; each point is told on standard error.

    Args:
        exam: The frames and who looks at them.
        data: What they were chosen by.
        codecs: What is compared.
        on_point: Is given all points so far whenever there is one more, without comparisons.

    Raises:
        CodecError: A checkpoint is missing, damaged or another codec's.
        PreflightError: An encoder is missing, the frames can't be read, or the labels are not theirs.
    """
    dicm = load_dicm(CodecSpec(name="dicm", weights=codecs.weights, bitstream_version=1))
    has_video = dicm.video is not None
    coders = list(_coders(codecs, data, has_video=has_video, is_video=exam.is_video))
    notes = exam.notes
    if exam.is_video and not has_video:
        notes += (f"{codecs.weights} has no networks for predicted frames: dicm video is left out",)
    for note in notes:
        _say(note)
    results: list[Result] = []
    for step in data.frame_steps:
        material = exam.read(step)
        points: list[Point] = []
        for point in measure_points(material, coders, head=dicm.head_features, new_tally=exam.new_tally):
            points.append(point)
            _say(_line(point))
            so_far = [*results, _result(step, material, points, comparisons=())]
            on_point(_report(exam, data, codecs, dicm, so_far, notes=notes))
        results.append(_result(step, material, points, comparisons=compare(points)))
    return _report(exam, data, codecs, dicm, results, notes=notes)


def _result(step: int, material: Material[T], points: Sequence[Point], *, comparisons: Sequence[Comparison]) -> Result:
    return Result(
        frame_step=step,
        num_frames=material.num_frames,
        num_scored=material.num_scored,
        points=tuple(points),
        comparisons=comparisons,
    )


def _report(
    exam: Examination[T],
    data: DataSettings,
    codecs: CodecSettings,
    dicm: DicmCodec,
    results: Sequence[Result],
    *,
    notes: tuple[str, ...],
) -> Report:
    return Report(
        title=_title(exam, data, results),
        results=tuple(results),
        notes=notes,
        facts=_facts(data, codecs, dicm, results),
    )


def choose_anchors(anchors: tuple[Anchor, ...] | None, *, is_video: bool) -> tuple[Anchor, ...]:
    """Return the anchors to run: all that the frames allow, unless told otherwise.

    Raises:
        PreflightError: One of them predicts between frames, and there are only pictures.
    """
    possible = ANCHORS if is_video else INTRA_ANCHORS
    if anchors is None:
        return possible
    if impossible := [anchor for anchor in anchors if anchor not in possible]:
        raise PreflightError(
            f"--anchors: {', '.join(impossible)} predicts between frames, and these are pictures that have nothing to "
            f"do with one another; for them there is {', '.join(possible)}"
        )
    return anchors


def _coders(codecs: CodecSettings, data: DataSettings, *, has_video: bool, is_video: bool) -> Iterator[Coder]:
    """Yield the frames themselves, DICM, and the anchors."""
    anchors = choose_anchors(codecs.anchors, is_video=is_video)
    for anchor in anchors:
        require_encoder(ENCODERS[anchor])
    models = [load_anchor(name, path) for name, path in codecs.anchor_checkpoints]
    yield PixelCoder()
    row = CODECS["dicm"]
    versions = (row.intra_version, row.usual_version) if is_video and has_video else (row.intra_version,)
    for version, quality in itertools.product(versions, codecs.qualities):
        spec = CodecSpec(name="dicm", quality=quality, weights=codecs.weights, bitstream_version=version)
        for slices in codecs.slices or (None,):
            chosen = with_usual_slices(spec) if slices is None else with_slices(spec, slices)
            yield DicmCoder(dicm=load_dicm(chosen), slices=slices)
    for anchor in anchors:
        yield from _anchor_coders(anchor, codecs, segment_frames=data.segment_frames)
    yield from models


def _anchor_coders(anchor: Anchor, codecs: CodecSettings, *, segment_frames: int) -> Iterator[Coder]:
    match anchor:
        case "x265-intra":
            for qp in codecs.qps:
                yield X265IntraCoder(settings=x265.X265Settings(qp=qp, is_intra=True, preset=INTRA_PRESET))
        case "x265-inter":
            inter = x265.X265Settings(crf=0, is_intra=False, keyframe_distance=segment_frames)
            for preset, crf in itertools.product(codecs.presets, codecs.crfs):
                yield X265InterCoder(settings=replace(inter, preset=preset, crf=crf))
        case "svtav1-inter":
            for preset, crf in itertools.product(codecs.presets, codecs.svt_crfs):
                settings = svt_av1.SvtAv1Settings(crf=crf, preset=SVT_PRESETS[preset], keyframe_distance=segment_frames)
                yield SvtAv1InterCoder(settings=settings, preset_name=preset)


def _title(exam: Examination[T], data: DataSettings, results: Sequence[Result]) -> str:
    first = results[0]
    count = f"{first.num_scored} of {first.num_frames} frames" if exam.is_video else f"{first.num_frames} pictures"
    scaled = "" if data.size is None else f" at {data.size[0]}x{data.size[1]}"
    return f"{Path(data.data).resolve().name}, {count}{scaled}, {exam.what}"


def _facts(data: DataSettings, codecs: CodecSettings, dicm: DicmCodec, results: Sequence[Result]) -> dict[str, object]:
    return {
        "dicm_weights_sha256": weights_digest(dicm.spec),
        "pyav": av.__version__,
        "svt_av1_presets": SVT_PRESETS,
        "x265_intra_preset": INTRA_PRESET,
        "segment_frames": data.segment_frames,
        "score_every": data.every,
        "presets": codecs.presets,
        "frames": {result.frame_step: {"coded": result.num_frames, "scored": result.num_scored} for result in results},
    }


def _line(point: Point) -> str:
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in point.scored.metrics.items())
    return f"{point.codec} {point.setting}: {point.bytes_per_frame:.1f} bytes a frame, {metrics}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
