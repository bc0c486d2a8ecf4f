"""Tests of labels of faces and of groups by them."""

from pathlib import Path

import pytest

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.face_labels import UNKNOWN, make_groups, read_labels


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_file_of_labels_is_read_by_columns(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "a.csv", "turn,file,glasses\n0.5,a.png,no\n-1,b.png,\n"))

    assert labels.names == ("a.png", "b.png")
    assert labels.columns == {"turn": ("0.5", "-1"), "glasses": ("no", "")}
    assert labels.numbers("turn") == [0.5, -1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a column file"),
        ("file,turn\n", "and rows"),
        ("name,turn\na.png,1\n", "expected a column file"),
        ("file,a,a\na.png,1,2\n", "others of different names"),
        ("file,turn\na.png\n", "line 2 must have 2 values, got 1"),
        ("file,turn\na.png,1\na.png,2\n", r"picture a\.png stands twice"),
    ],
)
def test_what_is_no_file_of_labels_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PreflightError, match=message):
        read_labels(write(tmp_path / "a.csv", text))


def test_a_missing_file_and_a_column_that_is_missing_or_no_number_are_told(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "a.csv", "file,turn\na.png,inf\n"))

    with pytest.raises(PreflightError, match=r"gone\.csv: expected a CSV file"):
        read_labels(tmp_path / "gone.csv")
    with pytest.raises(PreflightError, match="expected a column nose_x, got turn"):
        labels.numbers("nose_x")
    with pytest.raises(PreflightError, match=r"turn of a\.png must be a number, got 'inf'"):
        labels.numbers("turn")


def test_numbers_are_cut_into_groups_of_equal_size_and_everybody_is_in_one() -> None:
    values = [str(number / 10) for number in range(21)] + [""]

    groups = make_groups("turn", values)

    assert [group.name for group in groups] == ["0 to 0.5", "0.5 to 1", "1 to 1.5", "1.5 to 2", UNKNOWN]
    assert [len(group.members) for group in groups] == [5, 5, 5, 6, 1]
    assert sorted(member for group in groups for member in group.members) == list(range(22))


def test_words_and_few_numbers_have_a_group_a_value() -> None:
    assert [(group.name, group.members) for group in make_groups("glasses", ["yes", "no", "yes"])] == [
        ("no", (1,)),
        ("yes", (0, 2)),
    ]
    assert [group.name for group in make_groups("count", ["2", "1", "2", "3"])] == ["1", "2", "3"]
    assert [group.name for group in make_groups("mixed", ["1", "2", "3", "4", "5", "many"])] == [
        "1", "2", "3", "4", "5", "many",
    ]  # fmt: skip
