"""`framevault bench face-tasks`: what machines read from HSC's meaning, and from x265's pixels at as many bytes.

Two tasks: five landmarks, by a linear head that is fitted to each kind of reading alike; and finding a picture by a
changed version of it. Real streams of all faces, those that heads learn from included.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.jobs.bench.coders import UNCOMPRESSED, PixelCoder
from framevault.pipeline.jobs.bench.face_anchors import FINE_QPS, anchor_coders
from framevault.pipeline.jobs.bench.face_coders import FaceCoder, FrameCoder
from framevault.pipeline.jobs.bench.face_landmarks import Landmarks, fit_head, landmark_errors, read_landmarks
from framevault.pipeline.jobs.bench.face_pictures import read_faces
from framevault.pipeline.jobs.bench.face_readers import PIXELS, FaceReader, HscReader, PictureReader, Reading
from framevault.pipeline.jobs.bench.face_report import write_csv
from framevault.pipeline.jobs.bench.face_retrieval import CHANGES, is_first
from framevault.pipeline.jobs.bench.intervals import mean_columns
from framevault.pipeline.jobs.bench.material import spread
from framevault.pipeline.jobs.bench.output import OutputFormat, print_rows
from framevault.pipeline.jobs.bench.rate_report import open_folder
from framevault.pipeline.jobs.train.hsc.perceptual import make_perceptual


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettings:
    """What is read, and from which faces."""

    landmarks: Path
    """A teacher's landmarks of the faces that heads learn from; their pictures are the gallery, too."""
    test: str
    """A folder of other faces."""
    test_landmarks: Path
    """The teacher's landmarks of them."""
    weights: str | None
    """HSC's checkpoint; None for the shipped one."""
    device: str = "cpu"
    """Where HSC runs."""
    quality: int
    """Of HSC."""
    backbone: str | None = None
    """MobileNetV2's weights."""
    num_faces: int | None = None
    """Most faces to learn from, evenly spread; None for all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """The faces that have landmarks."""

    learned_nchw: Tensor
    """Those that heads learn from, uint8."""
    tested_nchw: Tensor
    """Those that are scored, uint8."""
    learned: Landmarks
    """Of the first."""
    tested: Landmarks
    """Of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of one codec."""

    landmark_rows: tuple[dict[str, object], ...]
    """A row a kind of reading."""
    search_rows: tuple[dict[str, object], ...]
    """A row a kind of vector."""
    whole_bytes: float
    """Of a test face's whole stream, in the mean."""


def print_face_tasks(folder: str, settings: TaskSettings, *, out: Path, output: OutputFormat) -> ExitCode:
    """Measure both tasks, print their tables and write them into a folder.

    Raises:
        CheckpointError: Weights are missing, damaged or another network's.
        InputError: There are no pictures.
        PreflightError: Landmarks or pictures are missing, a picture has another size than the codec's, there are too
            few, or the folder can't be written.
    """
    open_folder(out)
    hsc = load_hsc(CodecSpec(name="hsc", weights=settings.weights, device=settings.device, quality=settings.quality))
    material = _read(folder, settings, side=hsc.networks.config.resolution)
    network = make_perceptual(settings.backbone, precision=torch.float32)
    ours = _measure(HscReader(hsc=hsc, network=network), material)
    x265 = choose_qp(material.tested_nchw, ours.whole_bytes)
    others = [
        _measure(PictureReader(coder=coder, network=network), material)
        for coder in (x265, FrameCoder(coder=PixelCoder()))
    ]
    found = (ours, *others)
    landmark_rows = [_mean_row(material), *(row for each in found for row in each.landmark_rows)]
    search_rows = [row for each in found for row in each.search_rows]
    for name, title, rows in (
        ("landmarks", "Landmarks: error in % of the distance between the eyes", landmark_rows),
        ("retrieval", "Found first by a changed version, % of the pictures", search_rows),
    ):
        table = pa.Table.from_pylist(rows)
        write_csv(out / f"{name}.csv", table)
        print_rows(table, output, title=title)
    return ExitCode.DONE


def choose_qp(faces_nchw: Tensor, least_bytes: float) -> FaceCoder:
    """Return x265 at the coarsest quantiser whose pictures take at least so many bytes, in the mean."""
    *coders, finest = anchor_coders("x265-intra", qps=FINE_QPS)
    for coder in coders:
        sizes = [size for coded in coder.code(faces_nchw) for size in coded.payload_bytes]
        if sum(sizes) / len(sizes) >= least_bytes:
            return coder
    return finest


def _read(folder: str, settings: TaskSettings, *, side: int) -> Material:
    learned = _choose(read_landmarks(settings.landmarks), settings.num_faces)
    tested = read_landmarks(settings.test_landmarks)
    return Material(
        learned_nchw=read_faces(folder, side=side, names=learned.names).rgb_nchw,
        tested_nchw=read_faces(settings.test, side=side, names=tested.names).rgb_nchw,
        learned=learned,
        tested=tested,
    )


def _choose(landmarks: Landmarks, num_faces: int | None) -> Landmarks:
    chosen = spread(range(len(landmarks.names)), num_faces)
    return Landmarks(names=tuple(landmarks.names[n] for n in chosen), points_np2=landmarks.points_np2[chosen])


def _measure(reader: FaceReader, material: Material) -> Measured:
    sys.stderr.write(f"{reader.codec} {reader.setting}\n")
    sys.stderr.flush()
    learned, tested = reader.read(material.learned_nchw), reader.read(material.tested_nchw)
    return Measured(
        landmark_rows=tuple(_landmark_rows(reader, learned, tested, material)),
        search_rows=tuple(_search_rows(reader, learned, tested, material)),
        whole_bytes=float(tested.sizes_n[PIXELS].mean()),
    )


def _mean_row(material: Material) -> dict[str, object]:
    """Return what the mean of the learned landmarks would say of everybody."""
    said_np2 = material.learned.points_np2.mean(dim=0).expand_as(material.tested.points_np2)
    return {
        "codec": "none",
        "setting": "",
        "read_from": "nothing: the mean",
        "bytes": 0.0,
        **mean_columns("error", landmark_errors(said_np2, material.tested.points_np2)),
    }


def _landmark_rows(
    reader: FaceReader, learned: Reading, tested: Reading, material: Material
) -> Iterator[dict[str, object]]:
    for name, inputs_nm in learned.places_nm.items():
        head = fit_head(inputs_nm, material.learned.points_np2.flatten(1))
        said_np2 = head(tested.places_nm[name]).reshape(material.tested.points_np2.shape)
        errors_n = landmark_errors(said_np2, material.tested.points_np2)
        yield _row(reader, tested, name) | mean_columns("error", errors_n)


def _search_rows(
    reader: FaceReader, learned: Reading, tested: Reading, material: Material
) -> Iterator[dict[str, object]]:
    """Yield a row a vector: of each change, how often the test face is first among all faces."""
    first = len(material.learned_nchw)
    wanted_q = torch.arange(first, first + len(material.tested_nchw))
    changed = {name: reader.read(change(material.tested_nchw)) for name, change in CHANGES.items()}
    for name in tested.search_nm:
        gallery_nv = torch.cat([learned.search_nm[name], tested.search_nm[name]])
        row = _row(reader, tested, name) | {"gallery": len(gallery_nv)}
        for change, reading in changed.items():
            percent_q = 100 * is_first(reading.search_nm[name], gallery_nv, wanted_q).double()
            row |= mean_columns(change, percent_q.numpy())
        yield row


def _row(reader: FaceReader, tested: Reading, name: str) -> dict[str, object]:
    row: dict[str, object] = {"codec": reader.codec, "setting": reader.setting, "read_from": name}
    is_coded = reader.codec != UNCOMPRESSED
    return row | {"bytes": round(float(tested.sizes_n[name].mean()), 1) if is_coded else None}
