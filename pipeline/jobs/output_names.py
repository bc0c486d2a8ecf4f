"""File names for what comes out of a vault: a source's name may be anything, a file's may not."""

import re
from collections import Counter
from collections.abc import Sequence

from framevault.storage.index import VideoManifest

LONGEST_NAME = 100
"""Characters; file systems take 255 bytes, and a character may have four, with a suffix and an id besides."""

_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')


def name_outputs(manifests: Sequence[VideoManifest]) -> dict[tuple[str, str], str]:
    """Return a file or folder name for each video and run of a vault: its own, with ids where two would share one.

    Args:
        manifests: All of the vault, whether chosen or not: a video's name does not depend on what else is restored.

    Returns:
        Names by video_id and run_fp.
    """
    plain = {(each.video_id, each.run_fp): safe_name(each.name) for each in manifests}
    # Some file systems don't tell large from small letters.
    counts = Counter(name.casefold() for name in plain.values())
    return {
        key: name if counts[name.casefold()] == 1 else f"{name}-{key[0][:8]}-{key[1][:8]}"
        for key, name in plain.items()
    }


def safe_name(name: str) -> str:
    """Return a name that is a plain file name on every system, and never hidden."""
    safe = _UNSAFE.sub("_", name)[:LONGEST_NAME].rstrip(". ")
    return f"_{safe}" if not safe or safe.startswith(".") else safe
