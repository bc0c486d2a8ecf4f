"""The golden vault of what is known of faces is read the same for ever, by the product and by the second reader."""

from __future__ import annotations

from framevault.storage.face_tables import FACES_SCHEMA
from framevault.storage.frame_facts import FactKind, FactPart, load_fact_manifests, read_facts
from framevault.storage.frame_tables import vectors_of
from framevault.storage.index import load_manifests
from framevault.storage.query import connect
from framevault.storage.store import Store
from framevault.workers.face_rows import face_rows
from tests.storage.independent import faces as independent_faces
from tests.storage.independent import vault as independent
from tests.storage.test_golden import FOLDER, Expected, expected_of, open_golden, stored_pack

NAME = "v1-face-facts"


def expected_facts(kind: FactKind) -> dict[str, list[Expected]]:
    facts: dict[str, list[Expected]] = expected_of(NAME)["facts"][kind]
    return facts


def parts_of(store: Store, kind: FactKind) -> dict[str, FactPart]:
    return {part.segment_id: part for manifest in load_fact_manifests(store, kind) for part in manifest.parts}


def test_both_read_the_same_faces() -> None:
    expected, store = expected_facts("faces"), open_golden(NAME)
    vault = independent.open_vault(FOLDER / NAME)
    parts = {part["segment_id"]: part for manifest in vault.facts["faces"] for part in manifest["parts"]}

    assert set(parts) == set(parts_of(store, "faces")) == set(expected)
    for segment_id, part in parts_of(store, "faces").items():
        rows = read_facts("faces", part.part.key, store.read_checked(part.part), num_frames=part.num_frames)
        assert rows.to_pylist() == expected[segment_id]
        assert vault.faces(parts[segment_id]) == expected[segment_id]


def test_the_view_has_every_face() -> None:
    names = ("frame_number", "pts", "face_number", "x_min", "y_min", "score", "size_bytes", "is_outside")
    text = f"SELECT segment_id, {', '.join(names)}, x_max - x_min AS side FROM faces"
    rows = connect(open_golden(NAME)).sql(text).to_pylist()

    for segment_id, expected in expected_facts("faces").items():
        found = sorted(
            (row["frame_number"], row["face_number"], row) for row in rows if row["segment_id"] == segment_id
        )
        assert [{name: row[name] for name in (*names, "side")} for _, _, row in found] == [
            {name: row[name] for name in (*names, "side")} for row in expected
        ]


def test_the_rows_are_what_the_streams_say() -> None:
    store, expected = open_golden(NAME), expected_facts("faces")
    (manifest,) = load_manifests(store)
    for record in manifest.segments:
        pack = stored_pack(store, manifest, record.segment_id)
        assert face_rows(pack).select(FACES_SCHEMA.names).to_pylist() == expected[record.segment_id]
        streams = [pack.payload(number) for number in range(record.num_frames)]
        squares = [
            (number, face.left / 4, face.top / 4, face.side / 4, len(face.stream), face.is_outside)
            for number, stream in enumerate(streams)
            for face in independent_faces.split(stream)[0]
        ]
        names = ("frame_number", "x_min", "y_min", "side", "size_bytes", "is_outside")
        assert squares == [tuple(row[name] for name in names) for row in expected[record.segment_id]]


def test_both_read_the_same_vectors_of_faces() -> None:
    expected, store = expected_facts("face_vectors"), open_golden(NAME)
    vault = independent.open_vault(FOLDER / NAME)
    parts = {part["segment_id"]: part for manifest in vault.facts["face_vectors"] for part in manifest["parts"]}

    assert set(parts) == set(parts_of(store, "face_vectors")) == set(expected)
    for segment_id, part in parts_of(store, "face_vectors").items():
        table = read_facts("face_vectors", part.part.key, store.read_checked(part.part), num_frames=part.num_frames)
        places = table.drop_columns(["vector"]).to_pylist()
        # As text: -0.0 is not 0.0.
        found = [
            {**place, "values": str(vector)}
            for place, vector in zip(places, vectors_of(table).astype(float).tolist(), strict=True)
        ]
        second = [
            {**{name: row[name] for name in row if name != "vector"}, "values": str(list(row["vector"]))}
            for row in vault.face_vectors(parts[segment_id])
        ]
        rows = [{**row, "values": str(row["values"])} for row in expected[segment_id]]
        assert found == second == rows
