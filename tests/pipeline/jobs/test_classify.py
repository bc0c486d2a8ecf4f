"""`framevault classify` and `framevault similar` with the shipped codec and a classifier of random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from framevault.storage.frame_facts import load_fact_manifests
from framevault.storage.vault import open_vault
from framevault.workers.classifier import Classifier
from tests.codecs.dicm.backbones.random_weights import random_mobilenet_v2
from tests.pipeline.command_line import Ended, query_rows, run_command
from tests.workers.classifier_weights import write_classifier

SIDE = 128


def pictures() -> list[Image.Image]:
    """Return four pictures that have little in common."""
    portrait = Image.fromarray(astronaut()).resize((SIDE, SIDE))  # type: ignore[no-untyped-call]  # scikit-image has no types
    rows, columns = np.mgrid[:SIDE, :SIDE]
    chequers = np.where(((rows // 32 + columns // 32) % 2 == 0)[..., None], (240, 240, 230), (10, 120, 30)).astype(
        np.uint8
    )
    stripes = np.zeros((SIDE, SIDE, 3), np.uint8)
    stripes[:, ::8] = (250, 40, 10)
    return [
        portrait,
        Image.fromarray(chequers),
        Image.fromarray(stripes),
        Image.new("RGB", (SIDE, SIDE), (20, 90, 200)),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, pictures, and a vault of them at the best quality, classified."""
    folder = tmp_path_factory.mktemp("classify")
    write_classifier(folder / "own.pth")
    (folder / "pictures").mkdir()
    for number, picture in enumerate(pictures()):
        picture.save(folder / "pictures" / f"{number}.png")
    ended = run_command("compress", folder / "pictures", folder / "vault", "--quality", "8")
    assert ended.code == 0, ended.stderr
    return folder


def classify(folder: Path, *arguments: str) -> Ended:
    return run_command("classify", folder / "vault", "--classifier-weights", folder / "own.pth", "--json", *arguments)


def summary(ended: Ended) -> dict[str, object]:
    assert ended.code == 0, ended.stderr
    last: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return last


@pytest.fixture(scope="module")
def classified(folder: Path) -> dict[str, object]:
    return summary(classify(folder, "--top", "3"))


def test_every_frame_gets_its_labels(folder: Path, classified: dict[str, object]) -> None:
    rows = query_rows(folder / "vault", "select * from labels order by time_s, rank")

    assert [(row["time_s"], row["rank"]) for row in rows] == [(t, rank) for t in range(4) for rank in range(1, 11)]
    assert {row["video"] for row in rows} == {"pictures"}
    assert {row["model"] for row in rows} == {"mobilenet_v2"}


def test_the_summary_counts_frames(classified: dict[str, object]) -> None:
    labels = classified["labels"]
    assert isinstance(labels, list)

    assert (classified["num_frames"], classified["num_cached"], classified["num_failed"]) == (4, 0, 0)
    assert sum(row["first"] for row in labels) == 4
    assert sum(row["frames"] for row in labels) == 12


def test_labels_from_features_are_near_those_from_pixels(folder: Path, classified: dict[str, object]) -> None:
    classifier = Classifier("mobilenet_v2", folder / "own.pth")
    frames_nhwc = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures()]))
    expected = classifier(classifier.head_features(frames_nhwc.permute(0, 3, 1, 2)))

    rows = query_rows(folder / "vault", "select label_id, score from labels where rank <= 3 order by time_s, rank")

    found = [int(str(row["label_id"])) for row in rows]
    shared = [len({*found[3 * n : 3 * n + 3]} & {*expected.label_ids_nk[n].tolist()}) for n in range(4)]
    assert sum(shared) >= 6


def test_asking_twice_costs_nothing(folder: Path, classified: dict[str, object]) -> None:
    again = classify(folder, "--top", "3")

    assert summary(again) == {**classified, "num_cached": 1}
    assert "task_done" not in again.stdout


def test_vectors_come_on_request_and_from_one_pass(folder: Path, classified: dict[str, object]) -> None:
    store = open_vault(str(folder / "vault"), create=False)

    more = classify(folder, "--vectors")
    again = classify(folder, "--vectors")

    assert len(load_fact_manifests(store, "vectors")) == 1
    assert (summary(more)["num_cached"], summary(again)["num_cached"]) == (0, 1)


def test_a_condition_chooses_frames(folder: Path, classified: dict[str, object]) -> None:
    some = summary(classify(folder, "--where", "time_s < 2", "--top", "1"))

    labels = some["labels"]
    assert isinstance(labels, list)
    assert some["num_frames"] == 2
    assert sum(row["frames"] for row in labels) == 2


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_the_frame_most_like_a_picture_is_its_own(folder: Path, number: int) -> None:
    ended = run_command(
        "similar", folder / "vault", "--image", folder / "pictures" / f"{number}.png", "--top", "2", "--json",
        "--classifier-weights", folder / "own.pth",
    )  # fmt: skip

    matches = summary(ended)["matches"]
    assert isinstance(matches, list)
    assert matches[0]["video_frame"] == number
    assert 0 <= matches[0]["distance"] < matches[1]["distance"]


def test_the_vault_is_clean_afterwards(folder: Path, classified: dict[str, object]) -> None:
    ended = run_command("verify", folder / "vault")

    assert ended.code == 0
    assert "labels, vectors and faces" in ended.stdout
    assert "orphan" not in ended.stdout


def test_a_table_is_printed_for_people(folder: Path, classified: dict[str, object]) -> None:
    ended = run_command("classify", folder / "vault", "--classifier-weights", folder / "own.pth", "--top", "10")

    assert ended.code == 0, ended.stderr
    assert "Labels among a frame's best 10" in ended.stdout
    assert "4 frames of 1 segments, 1 of which were looked through before" in ended.stdout


def test_a_raw_vault_is_classified_from_pixels(folder: Path, tmp_path: Path) -> None:
    run_command("compress", folder / "pictures", tmp_path / "vault", "--codec", "raw")

    ended = run_command("classify", tmp_path / "vault", "--classifier-weights", folder / "own.pth")

    assert ended.code == 0, ended.stderr
    assert query_rows(tmp_path / "vault", "select count(*) as n from labels") == [{"n": 40}]


def test_weights_behind_another_head_are_a_usage_error(folder: Path, tmp_path: Path) -> None:
    torch.save(random_mobilenet_v2(seed=5).state_dict(), tmp_path / "other.pth")

    ended = run_command("classify", folder / "vault", "--classifier-weights", tmp_path / "other.pth")

    assert ended.code == 2
    assert "was trained behind another head than the codec's" in ended.stderr


def test_a_classifier_of_another_backbone_is_a_usage_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "resnet.pth").write_bytes(b"never read")

    ended = run_command(
        "classify", folder / "vault", "--classifier", "resnet50_v1", "--classifier-weights", tmp_path / "resnet.pth"
    )

    assert ended.code == 2
    assert "holds features of mobilenet_v2, classifier resnet50_v1 reads those of resnet50" in ended.stderr


def test_weights_that_are_nowhere_are_a_usage_error_that_says_what_to_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("framevault.codecs.dicm.backbones.files._package_path", lambda file: None)
    monkeypatch.setattr(
        "framevault.codecs.dicm.backbones.files.download_url", lambda file: (tmp_path / "nowhere").as_uri()
    )

    ended = run_command("classify", folder / "vault")

    assert ended.code == 2
    assert "put mobilenet_v2-b0353104.pth" in ended.stderr
    assert str(tmp_path / "hub") in ended.stderr


def test_a_picture_that_can_not_be_read_is_a_usage_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"no picture")

    for name in ("x.jpg", "nowhere.jpg"):
        ended = run_command(
            "similar", folder / "vault", "--image", tmp_path / name, "--classifier-weights", folder / "own.pth"
        )

        assert ended.code == 2
        assert name in ended.stderr
