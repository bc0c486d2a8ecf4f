"""`framevault verify`: is everything there, whole, and as the manifests say?"""

import json
import sys
from dataclasses import asdict

from framevault.pipeline.exits import ExitCode
from framevault.pipeline.tables import describe_bytes
from framevault.storage.vault import open_vault
from framevault.storage.verify import VerifyCounts, verify_vault


def print_verify(vault: str, *, as_json: bool) -> ExitCode:
    """Check a vault and print what is wrong, an object a line, and what was checked.

    Returns:
        `DONE` if nothing is lost, `FAILED` otherwise. Orphans and leftovers, which killed jobs leave, are information.

    Raises:
        VaultError: There is no vault of this version.
        StoreUnavailableError: The store can't be read.
    """
    counts = VerifyCounts()
    for finding in verify_vault(open_vault(vault, create=False), counts=counts):
        line = f"{finding.kind}: {finding.problem}"
        sys.stdout.write((json.dumps({"event": "finding", **asdict(finding)}) if as_json else line) + "\n")
    if as_json:
        sys.stdout.write(json.dumps({"event": "verified", **asdict(counts)}) + "\n")
    else:
        sys.stdout.write(_describe(counts) + "\n")
    return ExitCode.FAILED if counts.num_errors else ExitCode.DONE


def _describe(counts: VerifyCounts) -> str:
    verdict = f"{counts.num_errors} errors" if counts.num_errors else "clean"
    facts = f", {counts.num_facts} labels, vectors and faces" if counts.num_facts else ""
    facts += f", {counts.num_checkpoints} checkpoints" if counts.num_checkpoints else ""
    facts += f", {counts.num_directions} sets of directions" if counts.num_directions else ""
    others = f", {counts.num_orphans} orphans" if counts.num_orphans else ""
    others += f", {counts.num_leftovers} leftovers" if counts.num_leftovers else ""
    return (
        f"{verdict}: {counts.num_objects} objects ({describe_bytes(counts.num_bytes)}), {counts.num_videos} videos, "
        f"{counts.num_segments} segments, {counts.num_frames} frames, {counts.num_detections} detections{facts}{others}"
    )
