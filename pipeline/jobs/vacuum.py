"""`framevault vacuum`: removes what no manifest names any more."""

import json
import sys
from dataclasses import asdict

from framevault.pipeline.exits import ExitCode
from framevault.pipeline.tables import describe_bytes
from framevault.storage.vacuum import VacuumCounts, vacuum
from framevault.storage.vault import open_vault

SECONDS_A_DAY = 86_400
"""For the grace period."""


def print_vacuum(vault: str, *, grace_days: float, as_json: bool) -> ExitCode:
    """Clear a vault and print what went and what waits.

    Args:
        vault: The vault's address.
        grace_days: Days that objects without a name must have been so.
        as_json: Whether to print one event instead of text.

    Raises:
        VaultError: There is no vault of this version.
        DamagedError: A manifest is damaged; nothing was removed.
        StoreUnavailableError: The store can't be read or written, or does not tell how old objects are.
    """
    counts = vacuum(open_vault(vault, create=False), grace_s=grace_days * SECONDS_A_DAY)
    if as_json:
        sys.stdout.write(json.dumps({"event": "summary", **asdict(counts)}) + "\n")
    else:
        sys.stdout.write(_describe(counts, grace_days) + "\n")
    return ExitCode.DONE


def _describe(counts: VacuumCounts, grace_days: float) -> str:
    waiting = (
        f"; {counts.num_waiting} more ({describe_bytes(counts.waiting_bytes)}) wait until no manifest has named them "
        f"for {grace_days:g} days"
    )
    removed = f"{counts.num_removed} objects ({describe_bytes(counts.removed_bytes)}) removed"
    return removed + (waiting if counts.num_waiting else "")
