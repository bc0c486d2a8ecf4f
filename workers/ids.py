"""Ids that follow from what they name: the same video, frames and codec always give the same segment."""

import hashlib
import json
from collections.abc import Mapping

SEGMENT_DIGITS = 32
"""Hex digits of a segment's id."""


def digest_of(parts: Mapping[str, object]) -> str:
    """Return the SHA-256 of some named values, in hex."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def segment_id_of(video_id: str, codec_fingerprint: str, *, first_pts: int, last_pts: int, sampling: str) -> str:
    """Return the id of the segment that holds some frames of a video, coded in one way."""
    parts = {
        "video_id": video_id,
        "first_pts": first_pts,
        "last_pts": last_pts,
        "sampling": sampling,
        "codec_fingerprint": codec_fingerprint,
    }
    return digest_of(parts)[:SEGMENT_DIGITS]
