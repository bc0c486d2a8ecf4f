"""SQL over a vault: DuckDB in memory, with views over Arrow tables that were read through the store's checksums.

DuckDB sees no file and no network (`enable_external_access` is off, and the setting is locked). Only the tables behind
the views that a statement names are read; they stay for the next statement of the same connection.

| view | one row a |
| --- | --- |
| `videos` | stored video and run |
| `names` | name of a video |
| `segments` | stored segment |
| `frames` | stored frame |
| `detections` | object found with a score of at least 0.3 |
| `all_detections` | object found |
| `masks` | object found by a detector that gives masks |
| `labels` | label of a frame |
| `faces` | face that a frame's stream holds besides the frame |
| `failures` | segment or source that could not be stored, or segment that could not be looked through |

Rows of `frames`, `detections`, `all_detections`, `masks`, `labels` and `faces` come in no particular order; sorting all
of them for each statement would cost more than most statements do.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable

import duckdb
import pyarrow as pa

from framevault.storage.errors import QueryError
from framevault.storage.fact_rows import FactTables
from framevault.storage.store import Store
from framevault.storage.tables import VaultTables

SCORE_OF_DETECTIONS = 0.3
"""Objects below it are in the view `all_detections` only."""

VIDEO_COLUMNS = "v.video, v.names, v.video_id"
"""First columns of all views about videos; `names` holds every name, `video` the one that it was first stored under."""

TIME_S = "(({pts}) - v.start_pts) * (v.time_base_numerator::DOUBLE / v.time_base_denominator)"
"""Seconds since the first frame of the video, as SQL."""

VIEWS: dict[str, tuple[tuple[str, ...], str]] = {
    "videos": (
        ("_videos",),
        """SELECT * EXCLUDE (video_number, start_pts, time_base_numerator, time_base_denominator),
               source_bytes / nullif(stored_bytes, 0) AS ratio
           FROM _videos ORDER BY video_number""",
    ),
    "names": (("_names",), "SELECT video, video_id FROM _names ORDER BY video, video_id"),
    "segments": (
        ("_videos", "_segments"),
        f"""SELECT {VIDEO_COLUMNS}, v.run_fp, s.segment_id, s.segment_number, s.first_pts, s.last_pts,
                {TIME_S.format(pts="s.first_pts")} AS start_time_s,
                s.num_frames, s.payload_bytes, s.pack_bytes, s.frames_bytes
            FROM _segments s JOIN _videos v USING (video_number)
            ORDER BY video_number, s.segment_number""",
    ),
    "frames": (
        ("_videos", "_segments", "_frames"),
        f"""SELECT {VIDEO_COLUMNS}, v.run_fp, s.segment_id, f.frame_number,
                s.first_frame + f.frame_number AS video_frame,
                f.pts, {TIME_S.format(pts="f.pts")} AS time_s,
                f.size_bytes, f.is_keyframe, f.is_independent, f.is_outside
            FROM _frames f JOIN _segments s USING (video_number, segment_number) JOIN _videos v USING (video_number)""",
    ),
    "all_detections": (
        ("_videos", "_segments", "_detectors", "_detections"),
        f"""SELECT {VIDEO_COLUMNS}, v.run_fp, s.segment_id, d.frame_number,
                s.first_frame + d.frame_number AS video_frame,
                d.pts, {TIME_S.format(pts="d.pts")} AS time_s,
                o.detector, o.detector_fp, d.label, d.label_id, d.score, d.x_min, d.y_min, d.x_max, d.y_max
            FROM _detections d JOIN _segments s USING (video_number, segment_number)
                JOIN _videos v USING (video_number) JOIN _detectors o USING (detector_number)""",
    ),
    "detections": (("all_detections",), f"SELECT * FROM all_detections WHERE score >= {SCORE_OF_DETECTIONS}::FLOAT"),
    "masks": (
        ("_videos", "_segments", "_detectors", "_masks"),
        f"""SELECT {VIDEO_COLUMNS}, v.run_fp, s.segment_id, m.frame_number,
                s.first_frame + m.frame_number AS video_frame,
                m.pts, {TIME_S.format(pts="m.pts")} AS time_s,
                o.detector, o.detector_fp, m.label, m.label_id, m.score, m.x_min, m.y_min, m.x_max, m.y_max,
                v.height, v.width, m.mask_rle
            FROM _masks m JOIN _segments s USING (video_number, segment_number)
                JOIN _videos v USING (video_number) JOIN _detectors o USING (detector_number)""",
    ),
    "labels": (
        ("_videos", "_segments", "_models", "_labels"),
        f"""SELECT {VIDEO_COLUMNS}, v.run_fp, s.segment_id, l.frame_number,
                s.first_frame + l.frame_number AS video_frame,
                l.pts, {TIME_S.format(pts="l.pts")} AS time_s,
                o.model, o.model_fp, l.rank, l.label, l.label_id, l.score
            FROM _labels l JOIN _segments s USING (video_number, segment_number)
                JOIN _videos v USING (video_number) JOIN _models o USING (model_number)""",
    ),
    "faces": (
        ("_videos", "_segments", "_faces"),
        f"""SELECT {VIDEO_COLUMNS}, v.run_fp, s.segment_id, f.frame_number,
                s.first_frame + f.frame_number AS video_frame,
                f.pts, {TIME_S.format(pts="f.pts")} AS time_s,
                f.face_number, f.x_min, f.y_min, f.x_min + f.side AS x_max, f.y_min + f.side AS y_max,
                f.angle_degrees, f.score, f.size_bytes, f.is_outside
            FROM _faces f JOIN _segments s USING (video_number, segment_number) JOIN _videos v USING (video_number)""",
    ),
    "failures": (("_failures",), "SELECT * FROM _failures"),
}
"""What each view needs, tables or another view, and its SQL."""


class VaultQuery:
    """A connection to one state of a vault; for several threads, one statement at a time."""

    def __init__(self, store: Store) -> None:
        """Connect; nothing is read yet."""
        self._tables = VaultTables(store)
        facts = FactTables(self._tables)
        self._sources: dict[str, Callable[[], pa.Table]] = {
            "_videos": self._tables.video_rows,
            "_names": self._tables.name_rows,
            "_segments": self._tables.segment_rows,
            "_frames": self._tables.frame_rows,
            "_detections": self._tables.detection_rows,
            "_detectors": self._tables.detector_rows,
            "_masks": facts.mask_rows,
            "_labels": facts.label_rows,
            "_models": facts.model_rows,
            "_faces": facts.face_rows,
            "_failures": self._tables.failure_rows,
        }
        self._loaded: set[str] = set()
        self._lock = threading.Lock()
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "python_enable_replacements": "false",
                "lock_configuration": "true",
            },
        )

    def sql(self, text: str) -> pa.Table:
        """Return the rows that a statement gives.

        Raises:
            QueryError: DuckDB can't answer it; the message is DuckDB's.
            DamagedError: An object that the statement needs is damaged; names the key.
            StoreUnavailableError: The vault can't be read.
        """
        with self._lock:
            for name in sorted(self._names_in(text)):
                self._load(name)
            try:
                return self._connection.sql(text).to_arrow_table()
            except duckdb.Error as error:
                raise QueryError(str(error)) from error

    def close(self) -> None:
        """Free what was read."""
        self._connection.close()

    def _names_in(self, text: str) -> set[str]:
        try:
            names: Iterable[str] = self._connection.get_table_names(text)
        except duckdb.BinderException:
            # DuckDB looks into the tables of a join with USING, which are not there yet.
            names = re.findall(r"\w+", text)
        except duckdb.Error as error:
            raise QueryError(str(error)) from error
        return {name.lower() for name in names} & {*VIEWS, *self._sources}

    def _load(self, name: str) -> None:
        """Make a table or view known to DuckDB, with all that it needs."""
        if name in self._loaded:
            return
        if name in VIEWS:
            needed, select = VIEWS[name]
            for other in needed:
                self._load(other)
            self._connection.execute(f"CREATE VIEW {name} AS {select}")
        else:
            self._connection.register(name, self._sources[name]())
        self._loaded.add(name)


def connect(store: Store) -> VaultQuery:
    """Connect to a vault as it is now; manifests are read at the first statement that needs them."""
    return VaultQuery(store)


def select_frames(store: Store, where: str | None = None) -> pa.Table:
    """Return the frames that a condition picks, each once: columns `segment_id` and `frame_number`, sorted.

    Args:
        store: The vault.
        where: SQL over the columns of the view `frames`; `video` stands for any of a video's names. None picks all.

    Raises:
        QueryError: The condition can't be evaluated; the message is DuckDB's.
        DamagedError: A frames part or manifest is damaged; names the key.
        StoreUnavailableError: The vault can't be read.
    """
    return connect(store).sql(
        f"SELECT DISTINCT segment_id, frame_number {_chosen(where)} ORDER BY segment_id, frame_number"
    )


def locate_frames(store: Store, where: str | None = None) -> pa.Table:
    """Return the frames that a condition picks with their places, in the order of their videos.

    Args:
        store: The vault.
        where: As for `select_frames`.

    Returns:
        Columns `video_id`, `run_fp`, `segment_id`, `frame_number` (in it), `video_frame` (in the video) and `pts`.

    Raises:
        QueryError: The condition can't be evaluated; the message is DuckDB's.
        DamagedError: A frames part or manifest is damaged; names the key.
        StoreUnavailableError: The vault can't be read.
    """
    columns = "video_id, run_fp, segment_id, frame_number, video_frame, pts"
    return connect(store).sql(f"SELECT DISTINCT {columns} {_chosen(where)} ORDER BY video_id, run_fp, video_frame")


def _chosen(where: str | None) -> str:
    """Return the end of a statement over the frames that a condition picks; `video` stands for any of the names."""
    # The line feed ends a comment in the condition.
    condition = "" if where is None else f"WHERE ({where}\n)"
    return f"""FROM (SELECT f.* REPLACE (n.video AS video) FROM frames f JOIN names n ON n.video_id = f.video_id)
            {condition}"""
