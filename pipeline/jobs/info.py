"""`framevault info`: what a vault holds."""

import json
import sys

from framevault.pipeline.exits import ExitCode
from framevault.pipeline.tables import describe_bytes, print_table
from framevault.storage.query import connect
from framevault.storage.vault import open_vault

_VIDEOS = """
select video, codec, quality, width || 'x' || height as size, num_segments as segments, num_frames as frames,
       source_bytes, stored_bytes, round(stored_bytes / num_frames) as bytes_per_frame, ratio,
       is_complete as complete
from videos order by video, codec, quality
"""
_TOTALS = """
select count(distinct video_id) as videos, coalesce(sum(num_segments), 0) as segments,
       coalesce(sum(num_frames), 0) as frames, coalesce(sum(stored_bytes), 0) as stored_bytes,
       (select coalesce(sum(source_bytes), 0) from (select distinct video_id, source_bytes from videos)) as source_bytes
from videos
"""
_FAILURES = "select video, category, attempts, reason, command from failures order by video"


def print_info(vault: str, *, as_json: bool) -> ExitCode:
    """Print videos, totals and failures.

    Raises:
        VaultError: There is no vault of this version.
        DamagedError: A manifest is damaged.
        StoreUnavailableError: The store can't be read.
    """
    query = connect(open_vault(vault, create=False))
    videos, totals, failures = query.sql(_VIDEOS), query.sql(_TOTALS).to_pylist()[0], query.sql(_FAILURES)
    if as_json:
        members = {"totals": totals, "videos": videos.to_pylist(), "failures": failures.to_pylist()}
        sys.stdout.write(json.dumps(members, default=float) + "\n")
        return ExitCode.DONE
    print_table(videos, title=f"Videos in {vault}")
    ratio = totals["source_bytes"] / totals["stored_bytes"] if totals["stored_bytes"] else 0.0
    sys.stdout.write(
        f"{totals['videos']} videos, {totals['segments']} segments, {totals['frames']} frames: "
        f"{describe_bytes(totals['stored_bytes'])} stored for {describe_bytes(totals['source_bytes'])} of source"
        f" ({ratio:.2f} source bytes a stored byte)\n"
    )
    if failures.num_rows:
        print_table(failures, title="Not stored")
    return ExitCode.DONE
