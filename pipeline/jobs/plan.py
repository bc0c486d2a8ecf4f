"""`framevault plan`: what compressing would do. Writes nothing, and imports neither torch nor Ray."""

import json
import sys
from dataclasses import asdict, dataclass

import pyarrow as pa

from framevault.codecs.spec import CodecSpec
from framevault.configs.run import CompressJob
from framevault.pipeline.executors.base import count_cpus
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.jobs.settings import codec_spec, decode_limits, plan_settings
from framevault.pipeline.planning import PlanSettings, ProbeFailure, SourcePlan, plan_sources
from framevault.pipeline.probing import SourceProber
from framevault.pipeline.sources import expand_inputs
from framevault.pipeline.tables import describe_bytes, describe_seconds, print_table
from framevault.storage.errors import NoVaultError
from framevault.storage.index import find_manifest
from framevault.storage.vault import open_vault


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSource:
    """One source of the plan."""

    source: str
    """Its name, and how many more it has."""
    size: str
    """Width and height of an upright frame, in pixels."""
    segments: int
    """Segments that are not in the vault yet."""
    segments_stored: int
    """Segments that are."""
    frames: int
    """Frames to encode."""
    source_bytes: int
    """Size of the source."""
    expected_bytes: int
    """Of the packs to be written: frames, pixels and the codec's typical rate; faces in them are not counted."""
    expected_s: float
    """Seconds of one CPU core: frames, pixels and the codec's typical speed."""


def print_plan(job: CompressJob, *, as_json: bool) -> ExitCode:
    """Probe the sources and print what compressing them would do.

    Returns:
        `QUARANTINED` if a source can't be read.

    Raises:
        InputError: A source is not there.
        VaultError: The vault's address holds something else than a vault of this version.
    """
    settings = plan_settings(job)
    with SourceProber(limits=decode_limits(job)) as prober:
        plans, failures = plan_sources(expand_inputs(job.inputs), prober, settings=settings)
    rows = [_describe(plan, _stored_segments(job.vault, plan, settings), codec_spec(job)) for plan in plans]
    if as_json:
        _print_json(rows, failures)
    else:
        _print_text(rows, failures, job)
    return ExitCode.QUARANTINED if failures else ExitCode.DONE


def _stored_segments(vault: str, plan: SourcePlan, settings: PlanSettings) -> frozenset[str]:
    """Return the ids of the video's segments that a manifest of the vault names; none where there is no vault yet."""
    try:
        manifest = find_manifest(open_vault(vault, create=False), plan.info.video_id, settings.run_fp)
    except NoVaultError:
        return frozenset()
    return frozenset(record.segment_id for record in manifest.segments) if manifest else frozenset()


def _describe(plan: SourcePlan, stored: frozenset[str], codec: CodecSpec) -> PlannedSource:
    pending = plan.pending(stored)
    pixels = sum(segment.num_frames * (codec.row.frame_pixels or segment.width * segment.height) for segment in pending)
    others = len(plan.locations) - 1
    return PlannedSource(
        source=plan.info.name + (f" (and {others} more of the same bytes)" if others else ""),
        size=f"{plan.info.display_width}x{plan.info.display_height}",
        segments=len(pending),
        segments_stored=len(plan.segments) - len(pending),
        frames=sum(segment.num_frames for segment in pending),
        source_bytes=plan.info.size_bytes,
        expected_bytes=round(pixels * _typical_bpp(codec) / 8),
        expected_s=pixels / codec.row.typical_pixels_per_s,
    )


def _typical_bpp(codec: CodecSpec) -> float:
    """Return the codec's typical rate; of streams of unusual slices, that of whole ones, which is more."""
    usual = [slices[codec.quality - 1] for slices in codec.row.usual_slices.values()]
    if codec.slices in usual and codec.bitstream_version in codec.row.typical_bpp:
        return codec.row.typical_bpp[codec.bitstream_version][codec.quality - 1]
    version = codec.row.whole_version(codec.bitstream_version)
    return codec.row.typical_bpp[version][codec.quality - 1]


def _print_json(rows: list[PlannedSource], failures: list[ProbeFailure]) -> None:
    for row in rows:
        sys.stdout.write(json.dumps({"event": "planned", **asdict(row)}) + "\n")
    for failure in failures:
        members = {"event": "unreadable", "source": failure.location.name, "reason": str(failure.error)}
        sys.stdout.write(json.dumps(members) + "\n")


def _print_text(rows: list[PlannedSource], failures: list[ProbeFailure], job: CompressJob) -> None:
    columns = {
        "source": [row.source for row in rows],
        "size": [row.size for row in rows],
        "segments": [row.segments for row in rows],
        "stored": [row.segments_stored for row in rows],
        "frames": [row.frames for row in rows],
        "source bytes": [describe_bytes(row.source_bytes) for row in rows],
        "expected bytes": [describe_bytes(row.expected_bytes) for row in rows],
        "expected core time": [describe_seconds(row.expected_s) for row in rows],
    }
    print_table(pa.table(columns), title=f"{job.vault}: codec {job.codec}, quality {job.quality}")
    seconds = sum(row.expected_s for row in rows)
    sys.stdout.write(
        f"In all {sum(row.segments for row in rows)} segments, {sum(row.frames for row in rows)} frames, about "
        f"{describe_bytes(sum(row.expected_bytes for row in rows))}; about {describe_seconds(seconds / count_cpus())} "
        f"on the {count_cpus()} CPU cores here. Expected figures are typical ones of the codec; yours will differ.\n"
    )
    if (faces := codec_spec(job).faces) is not None:
        sys.stdout.write(_describe_faces(faces))
    for failure in failures:
        sys.stdout.write(f"can't be read: {failure.location.name}: {failure.error}\n")


def _describe_faces(faces: CodecSpec) -> str:
    """Say that faces cost something besides, and about how much each."""
    size_bytes = _typical_bpp(faces) * (faces.row.frame_pixels or 0) / 8
    return (
        f"Faces come on top, some {round(size_bytes)} bytes for each in every frame that is searched: how many there "
        "are can't be known beforehand.\n"
    )
