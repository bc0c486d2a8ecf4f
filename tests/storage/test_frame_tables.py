"""The columns of labels and vectors, spelled out: once written, a column is never changed or reused."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from framevault.storage.errors import DamagedError
from framevault.storage.frame_facts import FactKind, read_facts
from framevault.storage.frame_tables import (
    LABELS_SCHEMA,
    find_label_fault,
    labels_table,
    labels_to_parquet,
    read_labels,
    vectors_of,
    vectors_schema,
    vectors_table,
    vectors_to_parquet,
)
from framevault.storage.schema import MASK_FIELD, detections_to_parquet, read_detections, read_masked_detections
from tests.storage.fact_samples import LENGTH, NAMES, masked_detections, sample_labels, sample_pts, sample_vectors
from tests.storage.samples import sample_detections


def test_the_columns_of_a_labels_part_are_these() -> None:
    assert [(field.name, str(field.type), field.nullable) for field in LABELS_SCHEMA] == [
        ("frame_number", "int32", False),
        ("pts", "int64", False),
        ("rank", "int16", False),
        ("label", "dictionary<values=string, indices=int32, ordered=0>", False),
        ("label_id", "int16", False),
        ("score", "float", False),
    ]


def test_the_columns_of_a_vectors_part_are_these() -> None:
    assert [(field.name, str(field.type), field.nullable) for field in vectors_schema(1280)] == [
        ("frame_number", "int32", False),
        ("pts", "int64", False),
        ("vector", "fixed_size_binary[2560]", False),
    ]


def test_the_column_of_masks_is_this() -> None:
    assert (MASK_FIELD.name, str(MASK_FIELD.type), MASK_FIELD.nullable) == ("mask_rle", "string", False)


def test_labels_survive_being_stored() -> None:
    table = sample_labels(0)

    stored = read_facts("labels", "x", labels_to_parquet(table), num_frames=10)

    assert stored.to_pylist() == table.to_pylist()
    assert stored.slice(0, 2).to_pylist() == [
        {"frame_number": 0, "pts": 1000, "rank": 1, "label": "cat", "label_id": 0, "score": 0.75},
        {"frame_number": 0, "pts": 1000, "rank": 2, "label": "dog", "label_id": 1, "score": 0.25},
    ]


def test_vectors_survive_being_stored() -> None:
    vectors_np = np.random.default_rng(0).normal(size=(7, 1280)).astype(np.float16)

    stored = read_facts("vectors", "x", vectors_to_parquet(vectors_table(sample_pts(0)[:7], vectors_np)))

    assert np.array_equal(vectors_of(stored), vectors_np)
    assert stored["frame_number"].to_pylist() == list(range(7))


def test_a_slice_of_vectors_is_a_slice() -> None:
    table = vectors_table(sample_pts(0), sample_vectors(0))

    assert np.array_equal(vectors_of(table.slice(3, 4)), sample_vectors(0)[3:7])


def test_a_vectors_part_is_plain_enough_for_any_reader() -> None:
    payload = vectors_to_parquet(vectors_table(sample_pts(0), sample_vectors(0)))

    column = pq.ParquetFile(io.BytesIO(payload)).schema.column(2)

    assert (column.physical_type, column.length, column.max_definition_level, column.max_repetition_level) == (
        "FIXED_LEN_BYTE_ARRAY",
        2 * LENGTH,
        0,
        0,
    )


def test_only_the_names_that_occur_are_stored() -> None:
    names = [f"a label of some length, number {number}" for number in range(1000)]
    table = labels_table(
        [0], label_ids_nk=np.array([[999, 3]]), scores_nk=np.array([[0.5, 0.1]], np.float32), labels=names
    )

    assert table["label"].to_pylist() == [names[999], names[3]]
    assert table["label"].combine_chunks().dictionary.to_pylist() == [names[3], names[999]]
    assert len(labels_to_parquet(table)) < 2000


def test_a_label_number_without_a_name_is_refused() -> None:
    with pytest.raises(IndexError, match="must be 0 to 3, got 4 to 4"):
        labels_table([0], label_ids_nk=np.array([[4]]), scores_nk=np.ones((1, 1), np.float32), labels=NAMES)


def with_column(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    position = table.schema.get_field_index(name)
    field = table.schema.field(position)
    return table.set_column(position, field, pa.array(values, field.type))


LABEL_FAULTS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "not sorted": (lambda table: table.take(pa.array([2, 3, 0, 1])), "sorted by frame_number"),
    "beyond the segment": (lambda table: with_column(table, "frame_number", [10] * 20), "must be 0 to 9"),
    "a rank left out": (lambda table: with_column(table, "rank", [1, 3] * 10), "ranks of a frame"),
    "starting at 0": (lambda table: with_column(table, "rank", [0, 1] * 10), "ranks of a frame"),
    "rising scores": (lambda table: with_column(table, "score", [0.1, 0.2] * 10), "fall with the rank"),
    "a score over 1": (lambda table: with_column(table, "score", [1.5, 0.2] * 10), "0 to 1"),
    "no number": (lambda table: with_column(table, "score", [float("nan"), 0.2] * 10), "0 to 1"),
}


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_impossible_labels_are_damage(fault: str) -> None:
    change, message = LABEL_FAULTS[fault]

    with pytest.raises(DamagedError, match=f"labels/x.*{message}"):
        read_facts("labels", "labels/x", labels_to_parquet(change(sample_labels(0))), num_frames=10)


def test_ranks_that_go_on_below_zero_are_damage() -> None:
    """After 2^15 - 1 comes what 16 bits have for 2^15."""
    count = 2**15
    table = labels_table(
        [0],
        label_ids_nk=np.zeros((1, count), np.int64),
        scores_nk=np.zeros((1, count), np.float32),
        labels=NAMES,
    )

    assert find_label_fault(table.slice(0, count - 1), num_frames=1) is None
    assert find_label_fault(table, num_frames=1) == "ranks of a frame must be 1, 2, 3 and so on"


def test_impossible_vectors_are_damage() -> None:
    vectors_np = sample_vectors(0)
    vectors_np[3, 2] = np.inf
    twice = with_column(vectors_table(sample_pts(0), sample_vectors(0)), "frame_number", [0, 0, *range(1, 9)])

    with pytest.raises(DamagedError, match="vectors/x: vectors must be finite"):
        read_facts("vectors", "vectors/x", vectors_to_parquet(vectors_table(sample_pts(0), vectors_np)))
    with pytest.raises(DamagedError, match="vectors/x: a frame must have one vector"):
        read_facts("vectors", "vectors/x", vectors_to_parquet(twice))


@pytest.mark.parametrize("kind", ["labels", "vectors"])
def test_what_is_no_parquet_or_another_part_is_damage(kind: FactKind) -> None:
    for payload in (b"", b"PAR1PAR1", detections_to_parquet(sample_detections(0))):
        with pytest.raises(DamagedError, match="facts/x"):
            read_facts(kind, "facts/x", payload)


def test_a_vector_column_of_another_type_is_damage() -> None:
    table = pa.table({"frame_number": [0], "pts": [0], "vector": ["text"]})
    sink = io.BytesIO()
    pq.write_table(table, sink)

    with pytest.raises(DamagedError, match="vector must be of fixed length"):
        read_facts("vectors", "x", sink.getvalue())


def test_columns_that_are_not_known_are_ignored() -> None:
    sink = io.BytesIO()
    pq.write_table(sample_labels(0).append_column("later", pa.array([1.5] * 20)), sink, store_schema=False)

    assert read_labels("x", sink.getvalue()).schema == LABELS_SCHEMA


def test_masks_survive_being_stored_and_do_no_harm_to_who_wants_boxes() -> None:
    table = masked_detections(0)

    payload = detections_to_parquet(table)

    assert read_masked_detections("x", payload).to_pylist() == table.to_pylist()
    assert read_detections("x", payload).to_pylist() == sample_detections(0).to_pylist()
    with pytest.raises(DamagedError, match="must have one column mask_rle"):
        read_masked_detections("x", detections_to_parquet(sample_detections(0)))
