"""Tests of `framevault bench rate-accuracy`: pixels score one, for the network wrote the truth."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.coders import X265IntraCoder
from framevault.pipeline.jobs.bench.rate_accuracy import choose_anchors
from framevault.workers.classifier import Classifier
from framevault.workers.detectors.registry import load_detector
from tests.media import make_pictures
from tests.pipeline.command_line import Ended, run_command
from tests.pipeline.jobs.bench.portrait import SIDE, portrait_frames, write_portraits
from tests.workers.classifier_weights import write_classifier

pytest.importorskip("faster_coco_eval", reason="average precision needs the extra 'bench'")

NUM_PICTURES = 4
NUM_FRAMES = 6


def measure(data: Path, out: Path, *arguments: str | Path) -> Ended:
    return run_command("bench", "rate-accuracy", data, "--out", out, *arguments)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("weights") / "own.pth")


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A folder a picture, named by the class that the classifier takes the picture for."""
    folder = tmp_path_factory.mktemp("classes")
    classifier = Classifier("mobilenet_v2", weights)
    head = load_dicm(CodecSpec(name="dicm"))
    rgb_nchw = portrait_frames(NUM_PICTURES)[:, :, :96, 20:132].contiguous()
    for number, rgb_chw in enumerate(rgb_nchw):
        class_id = int(classifier(head.head_features(rgb_chw[None])).label_ids_nk[0, 0])
        (folder / str(class_id)).mkdir(exist_ok=True)
        Image.fromarray(rgb_chw.permute(1, 2, 0).numpy()).save(folder / str(class_id) / f"{number}.png")
    return folder


def best_faces(frames_nchw: Tensor) -> list[list[float]]:
    """Return the best face of each frame as x, y, width, height."""
    detector = load_detector()
    face = detector.labels.index("face")
    features_nchw = load_dicm(CodecSpec(name="dicm")).head_features(frames_nchw)
    boxes = []
    for found in detector(features_nchw, height=frames_nchw.shape[2], width=frames_nchw.shape[3]):
        x_min, y_min, x_max, y_max = found.boxes_xyxy[found.labels == face][0].tolist()
        boxes.append([x_min, y_min, x_max - x_min, y_max - y_min])
    return boxes


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`clip.mkv`, lossless; the same frames in `pictures/`; their faces in `clip.json` and `pictures.json`."""
    folder = tmp_path_factory.mktemp("faces")
    paths = write_portraits(folder / "pictures", NUM_FRAMES)
    _write_clip(folder / "clip.mkv", [np.asarray(Image.open(path)) for path in paths])
    boxes = best_faces(portrait_frames(NUM_FRAMES))
    for name in ("clip", "pictures"):
        places = [{"frame_index": n} if name == "clip" else {"file_name": f"{n}.png"} for n in range(NUM_FRAMES)]
        members: dict[str, Any] = {
            "images": [{"id": n, "width": SIDE, "height": SIDE, **place} for n, place in enumerate(places)],
            "categories": [{"id": 3, "name": "face"}],
            "annotations": [{"id": n + 1, "image_id": n, "category_id": 3, "bbox": box} for n, box in enumerate(boxes)],
        }
        (folder / f"{name}.json").write_text(json.dumps(members))
    return folder


def _write_clip(path: Path, frames: list[np.ndarray[Any, Any]]) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "bgr0"
        for rgb_hwc in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb_hwc, format="rgb24")))
        container.mux(stream.encode(None))


def test_pictures_are_classified_after_every_intra_codec(classes: Path, weights: Path, tmp_path: Path) -> None:
    ended = measure(
        classes, tmp_path / "out", "--task", "classify", "--classifier-weights", weights,
        "--qualities", "2,8", "--qps", "20,45", "--format", "json",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    points = [row for row in rows if "setting" in row]
    assert [(row["codec"], row["setting"]) for row in points] == [
        ("uncompressed", ""),
        ("dicm intra", "quality 2"),
        ("dicm intra", "quality 8"),
        ("x265-intra slow", "qp 20"),
        ("x265-intra slow", "qp 45"),
    ]
    assert (points[0]["top1"], points[0]["top5"], points[0]["bytes_per_frame"]) == (1, 1, None)
    sizes = [row["bytes_per_frame"] for row in points[1:]]
    assert 0 < sizes[0] < sizes[1]
    assert sizes[2] > sizes[3] > 0
    assert [(row["codec"], row["anchor"], row["metric"]) for row in rows if "anchor" in row] == [
        ("dicm intra", "x265-intra slow", "top1"),
        ("dicm intra", "x265-intra slow", "top5"),
    ]
    written = read_rows(tmp_path / "out" / "points.csv")
    assert [float(row["top1"]) for row in written] == [row["top1"] for row in points]
    assert (tmp_path / "out" / "plot.png").stat().st_size > 1000
    assert "dicm intra quality 8: " in ended.stderr


def test_a_video_is_coded_whole_by_every_codec_and_scored_where_it_has_boxes(faces: Path, tmp_path: Path) -> None:
    ended = measure(
        faces / "clip.mkv", tmp_path, "--task", "detect", "--labels", faces / "clip.json", "--every", "2",
        "--qualities", "8", "--qps", "20", "--crfs", "15", "--svt-crfs", "20", "--presets", "fast",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    assert "clip.mkv, 3 of 6 frames, detector mobilenet_v2, face" in ended.stdout
    points = {row["codec"]: row for row in read_rows(tmp_path / "points.csv")}
    assert list(points) == [
        "uncompressed", "dicm intra", "dicm video", "x265-intra slow", "x265-inter fast", "svtav1-inter fast",
    ]  # fmt: skip
    assert float(points["uncompressed"]["ap50"]) == pytest.approx(1)
    for kind in ("dicm", "x265"):
        intra, inter = (points[next(name for name in points if name.startswith(f"{kind}{end}"))] for end in
                        ((" intra", " video") if kind == "dicm" else ("-intra", "-inter")))  # fmt: skip
        assert 0 < float(inter["bytes_per_frame"]) < float(intra["bytes_per_frame"])
    rates = read_rows(tmp_path / "bd_rates.csv")
    assert {(row["codec"], row["anchor"]) for row in rates} == {
        ("dicm intra", "x265-intra slow"),
        ("dicm video", "x265-inter fast"),
        ("dicm video", "svtav1-inter fast"),
    }
    assert all(row["reason"].startswith("the codec has 1 settings") for row in rates)


def test_each_number_of_slices_is_a_curve_of_its_own(faces: Path, tmp_path: Path) -> None:
    ended = measure(
        faces / "clip.mkv", tmp_path, "--task", "detect", "--labels", faces / "clip.json", "--every", "2",
        "--qualities", "8", "--slices", "1,4", "--anchors", "x265-inter", "--crfs", "15", "--presets", "fast",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    points = {row["codec"]: float(row["bytes_per_frame"] or 0) for row in read_rows(tmp_path / "points.csv")}
    names = [f"dicm {kind} slices {slices}" for kind in ("intra", "video") for slices in (1, 4)]
    assert list(points) == ["uncompressed", *names, "x265-inter fast"]
    assert 0 < points["dicm intra slices 1"] < points["dicm intra slices 4"]
    assert 0 < points["dicm video slices 1"] < points["dicm video slices 4"]
    assert {(row["codec"], row["anchor"]) for row in read_rows(tmp_path / "bd_rates.csv")} == {
        (f"dicm video slices {slices}", "x265-inter fast") for slices in (1, 4)
    }


def test_more_slices_than_there_are_is_an_error(faces: Path, tmp_path: Path) -> None:
    ended = measure(
        faces / "clip.mkv", tmp_path, "--task", "detect", "--labels", faces / "clip.json", "--qualities", "8",
        "--slices", "5", "--anchors", "x265-inter",
    )  # fmt: skip

    assert ended.code == 2
    assert "slices must be 0 to 4, as many as the codec has, got 5" in ended.stderr


def test_frames_are_left_out_and_scaled(faces: Path, tmp_path: Path) -> None:
    ended = measure(
        faces / "clip.mkv", tmp_path, "--task", "detect", "--labels", faces / "clip.json", "--fps-every", "2,3",
        "--size", "160x160", "--frames", "5", "--qualities", "5", "--anchors", "x265-inter", "--crfs", "20",
        "--presets", "fast", "--segment-frames", "2",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    rows = read_rows(tmp_path / "points.csv")
    assert [(row["frame_step"], row["codec"]) for row in rows] == [
        (step, codec)
        for step in ("2", "3")
        for codec in ("uncompressed", "dicm intra", "dicm video", "x265-inter fast")
    ]
    facts = json.loads((tmp_path / "report.json").read_text())
    assert facts["frames"] == {"2": {"coded": 3, "scored": 3}, "3": {"coded": 2, "scored": 2}}
    assert all(float(row["ap50"]) > 0.9 for row in rows if row["codec"] == "uncompressed")
    intra, video = (float(row["bytes_per_frame"]) for row in rows[5:7])
    # Everything moved, so nothing is predicted; but the usual streams of predicted frames have fewer slices.
    assert 0.5 * intra < video < intra


def test_pictures_with_boxes_are_detected_in(faces: Path, tmp_path: Path) -> None:
    ended = measure(
        faces / "pictures", tmp_path, "--task", "detect", "--labels", faces / "pictures.json", "--frames", "3",
        "--qualities", "5", "--qps", "30",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    assert "pictures, 3 pictures, detector mobilenet_v2, face" in ended.stdout
    rows = read_rows(tmp_path / "points.csv")
    assert [row["codec"] for row in rows] == ["uncompressed", "dicm intra", "x265-intra slow"]
    assert float(rows[0]["ap50"]) == pytest.approx(1)


def test_a_compressai_model_is_a_point_of_its_own(classes: Path, weights: Path, tmp_path: Path) -> None:
    from framevault.pipeline.jobs.bench.compressai_anchors import architecture_class

    torch.manual_seed(0)
    torch.save(architecture_class("bmshj2018-factorized")(4, 6).state_dict(), tmp_path / "lowest.pth")

    ended = measure(
        classes, tmp_path / "out", "--task", "classify", "--classifier-weights", weights, "--qualities", "5",
        "--qps", "40", "--anchor-checkpoint", f"bmshj2018-factorized={tmp_path / 'lowest.pth'}",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    last = read_rows(tmp_path / "out" / "points.csv")[-1]
    assert (last["codec"], last["setting"]) == ("bmshj2018-factorized", "lowest")
    assert float(last["bytes_per_frame"]) > 0


def test_wrong_arguments_are_named_and_nothing_is_measured(
    classes: Path, faces: Path, weights: Path, tmp_path: Path
) -> None:
    classify = ("--task", "classify", "--classifier-weights", weights)
    detect = ("--task", "detect", "--labels", faces / "clip.json")
    flat = make_pictures(tmp_path / "flat" / "n01440764", sizes=[(64, 64)]).parent
    cats = tmp_path / "cats.json"
    cats.write_text(json.dumps(json.loads((faces / "clip.json").read_text()) | {"annotations": []}))
    clip = faces / "clip.mkv"
    cases: list[tuple[Path, tuple[str | Path, ...], str]] = [
        (flat, classify, "folder n01440764: 'n01440764' is none of the classifier's 1000 classes"),
        (clip, classify, "clip.mkv: expected a folder of pictures to classify"),
        (clip, ("--task", "detect"), "name a COCO file with --labels"),
        (clip, ("--task", "detect", "--labels", cats), "no boxes of face in the 6 frames to score"),
        (clip, (*detect, "--label-names", "cat=face,cow=face"), "--label-names: the detector has no cow"),
        (clip, (*detect, "--detector", "fasterrcnn_resnet50_fpn"), "reads those of resnet50: name one that reads"),
        (clip, (*detect, "--detector", "dicm_latents"), "reads dicm's latents, which no other codec has"),
        (classes, (*classify, "--classifier", "resnet50_v2"), "reads those of resnet50: name one that reads"),
        (classes, (*classify, "--anchors", "svtav1-inter"), "svtav1-inter predicts between frames, and these are"),
        (classes, (*classify, "--anchors", "x265"), "--anchors must be of x265-intra,x265-inter,svtav1-inter, each"),
        (classes, (*classify, "--fps-every", "2"), "--fps-every leaves out frames of a video, these are pictures"),
        (classes, (*classify, "--qualities", "5,9"), "--qualities must be whole numbers from 1 to 8, each once"),
        (classes, (*classify, "--qualities", "5,5"), "each once"),
        (classes, (*classify, "--qps", "52"), "--qps must be whole numbers from 0 to 51"),
        (classes, (*classify, "--crfs", "-1"), "--crfs must be whole numbers from 0 to 51"),
        (classes, (*classify, "--svt-crfs", "64"), "--svt-crfs must be whole numbers from 1 to 63"),
        (classes, (*classify, "--presets", "slowest"), "--presets must be of fast,medium,slow,slower"),
        (classes, (*classify, "--size", "640"), "--size must be WIDTHxHEIGHT"),
        (classes, (*classify, "--anchor-checkpoint", "mbt2018"), "--anchor-checkpoint must be NAME=FILE"),
        (classes, (*classify, "--anchor-checkpoint", "mbt=x"), "expected one of bmshj2018-factorized"),
        (classes, (*classify, "--weights", tmp_path / "none"), "none"),
    ]

    for data, arguments, message in cases:
        ended = measure(data, tmp_path / "out", *arguments)
        assert (ended.code, message in ended.stderr) == (2, True), (arguments, ended)
        assert "bytes a frame" not in ended.stderr
    assert not list((tmp_path / "out").iterdir())


def test_an_output_folder_that_cannot_be_written_is_named(classes: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    ended = measure(classes, tmp_path / "file", "--task", "classify", "--classifier-weights", weights)

    assert (ended.code, "file: expected a folder that can be written" in ended.stderr) == (2, True), ended


def test_a_missing_encoder_is_named_before_anything_is_measured(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("framevault.pipeline.jobs.bench.rate_accuracy.ENCODERS", {"svtav1-inter": "libnone"})

    ended = measure(
        faces / "clip.mkv", tmp_path, "--task", "detect", "--labels", faces / "clip.json", "--anchors", "svtav1-inter"
    )

    assert (ended.code, "has no encoder libnone" in ended.stderr) == (2, True), ended
    assert "bytes a frame" not in ended.stderr


def test_anchors_are_all_that_the_frames_allow_unless_they_are_named() -> None:
    assert choose_anchors(None, is_video=True) == ("x265-intra", "x265-inter", "svtav1-inter")
    assert choose_anchors(None, is_video=False) == ("x265-intra",)
    assert choose_anchors(("svtav1-inter",), is_video=True) == ("svtav1-inter",)
    with pytest.raises(PreflightError, match="x265-inter predicts between frames"):
        choose_anchors(("x265-intra", "x265-inter"), is_video=False)


def test_a_measurement_that_is_stopped_leaves_its_points(
    classes: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: X265IntraCoder, runs: object, *, fps: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(X265IntraCoder, "code", stop)

    ended = measure(classes, tmp_path, "--task", "classify", "--classifier-weights", weights, "--qualities", "5")

    assert ended.code == 130
    assert [row["codec"] for row in read_rows(tmp_path / "points.csv")] == ["uncompressed", "dicm intra"]
    assert [path.name for path in tmp_path.iterdir()] == ["points.csv"]
