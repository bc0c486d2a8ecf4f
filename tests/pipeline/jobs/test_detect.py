"""`framevault detect` with the shipped codec and detector, on a real picture and a real clip."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from framevault.storage.packs import PackWriter, read_pack
from tests.pipeline.command_line import query_rows, run_command

SIDES = ("x_min", "y_min", "x_max", "y_max")
FACE = [180.0, 70.0, 270.0, 175.0]


def overlap(a: list[float], b: list[float]) -> float:
    """Return the intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault of two portraits, the second mirrored: a face in each."""
    folder = tmp_path_factory.mktemp("detect")
    portrait = np.asarray(astronaut())  # type: ignore[no-untyped-call]  # scikit-image has no types
    (folder / "portraits").mkdir()
    for number, picture in enumerate((portrait, portrait[:, ::-1])):
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / "portraits" / f"{number}.png")
    ended = run_command("compress", folder / "portraits", folder / "vault")
    assert ended.code == 0, ended.stderr
    ended = run_command("detect", folder / "vault")
    assert ended.code == 0, ended.stderr
    return folder / "vault"


def test_the_face_is_found_where_it_is(vault: Path) -> None:
    """The portrait's face spans x 180 to 270 and y 70 to 175 of 512 pixels; an IoU of a half is what AP50 asks for."""
    sql = "select time_s, x_min, y_min, x_max, y_max from detections where label = 'face' order by time_s, score desc"
    best = {row["time_s"]: row for row in reversed(query_rows(vault, sql))}

    boxes = {time_s: [float(str(row[side])) for side in SIDES] for time_s, row in best.items()}

    assert set(boxes) == {0.0, 1.0}
    assert overlap(boxes[0.0], FACE) > 0.5
    assert overlap(boxes[1.0], [512 - FACE[2], FACE[1], 512 - FACE[0], FACE[3]]) > 0.5


def test_asking_twice_costs_nothing(vault: Path) -> None:
    ended = run_command("detect", vault, "--json")

    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.code == 0
    assert events[-1]["num_cached"] == events[-1]["num_segments"] == 1
    assert not [event for event in events if event["event"] == "task_done"]


def test_a_condition_chooses_frames(vault: Path) -> None:
    ended = run_command("detect", vault, "--where", "video = 'portraits' and time_s < 0.5", "--json")

    summary = json.loads(ended.stdout.splitlines()[-1])
    assert summary["num_frames"] == 1
    faces = [row for row in summary["labels"] if row["label"] == "face"]
    assert [row["frames"] for row in faces] == [1]


def test_a_higher_score_shows_fewer_objects(vault: Path) -> None:
    few, many = (
        json.loads(run_command("detect", vault, "--score", score, "--json").stdout.splitlines()[-1])["labels"]
        for score in ("0.9", "0.05")
    )

    assert sum(row["objects"] for row in few) < sum(row["objects"] for row in many)


def test_a_wrong_condition_is_a_usage_error(vault: Path) -> None:
    ended = run_command("detect", vault, "--where", "colour = 'red'")

    assert ended.code == 2
    assert "colour" in ended.stderr


def test_detections_are_verified(vault: Path) -> None:
    ended = run_command("verify", vault)

    assert ended.code == 0
    assert " 2 frames" in ended.stdout


def test_a_raw_vault_gives_detections_from_pixels(tmp_path: Path) -> None:
    portrait = np.asarray(astronaut())  # type: ignore[no-untyped-call]  # scikit-image has no types
    (tmp_path / "portrait").mkdir()
    Image.fromarray(portrait).save(tmp_path / "portrait" / "0.png")

    run_command("compress", tmp_path / "portrait", tmp_path / "vault", "--codec", "raw")
    ended = run_command("detect", tmp_path / "vault")

    assert ended.code == 0, ended.stderr
    assert query_rows(tmp_path / "vault", "select count(*) > 0 as found from detections where label = 'face'") == [
        {"found": True}
    ]


def test_a_vault_written_with_other_weights_is_refused_before_anything_runs(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("framevault.workers.weights.codec_fingerprint", lambda spec: "0" * 64)

    ended = run_command("detect", vault)

    assert ended.code == 2
    assert "install the framevault version that wrote it" in ended.stderr


def test_a_stream_that_no_codec_wrote_costs_its_frame_alone(vault: Path, tmp_path: Path) -> None:
    """A pack whose checksums are right but whose stream no codec wrote."""
    from framevault.storage.store import Store, open_store
    from framevault.workers.detect import DetectSettings
    from framevault.workers.features import StoredSegment

    (path,) = vault.rglob("*.fvp")
    pack = read_pack(path.read_bytes())
    writer = PackWriter(pack.header)
    writer.add(pack.payload(0), pts=0, is_keyframe=True, is_independent=True)
    writer.add(b"junk!", pts=1, is_keyframe=True, is_independent=True)
    store: Store = open_store(str(tmp_path / "other"))
    ref = store.create("packs/junk.fvp", writer.finish())
    settings = DetectSettings(
        vault_url=store.url, detector="mobilenet_v2", detector_fp="0" * 16, device="cpu", batch_size=2, num_slots=1,
        threads_per_slot=1,
    )  # fmt: skip
    task = StoredSegment(segment_id=pack.header.segment_id, video_id="0" * 32, run_fp="0" * 16, pack=ref, num_frames=2)

    receipt = settings()(task)

    (fault,) = receipt.faults
    assert (fault.first_frame, fault.last_frame) == (1, 1)
    assert "packs/junk.fvp: frame 1: " in fault.reason
    assert (receipt.num_frames, receipt.part.num_frames, receipt.part.num_lost) == (1, 2, 1)
