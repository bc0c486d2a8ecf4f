"""Looks into sources, in a guarded child process: what they are and which frames they should give."""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast, get_args

from framevault.pipeline.sources import SourceLocation
from framevault.workers.errors import (
    DecodeError,
    DecoderFailedError,
    DecoderKilledError,
    SourceUnavailableError,
    UnreadableSourceError,
)
from framevault.workers.guard import GuardedChild
from framevault.workers.limits import DecodeLimits
from framevault.workers.messages import Message, MessageError, get_float, get_int, get_ints, get_messages, get_str
from framevault.workers.packets import PacketTable, table_from_message
from framevault.workers.tasks import ColourMatrix, ColourRange, PictureFile, SourceInfo

ProbeError = UnreadableSourceError | DecodeError | SourceUnavailableError | DecoderKilledError | DecoderFailedError
"""What probing a source may end with: its own fault, the environment's, or ours."""

PROBE_ERRORS = (UnreadableSourceError, DecodeError, SourceUnavailableError, DecoderKilledError, DecoderFailedError)
"""The same, to catch."""

_ID_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureTable:
    """The pictures of a folder in frame order."""

    files: tuple[PictureFile, ...]
    """One file a frame."""
    sizes: tuple[tuple[int, int], ...]
    """Upright width and height of each; (0, 0) where the header can't be read, which its segment will report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedSource:
    """A source with all that planning needs."""

    info: SourceInfo
    """What it is."""
    table: PacketTable | PictureTable
    """Which frames it should give: a video's packets, or pictures."""


class SourceProber:
    """Probes sources one after another in one guarded child; not thread-safe. Close it or use it in a `with`."""

    def __init__(self, *, limits: DecodeLimits | None = None) -> None:
        """Starts nothing yet."""
        self._child = GuardedChild(limits=limits or DecodeLimits())

    def probe(self, location: SourceLocation) -> ProbedSource:
        """Hashes the source and learns its frames: packets are demuxed, only the first frame is decoded.

        Raises:
            UnreadableSourceError: It is no video or picture that can be read, or goes over a limit.
            SourceChangedError: It changed meanwhile.
            SourceUnavailableError: It can't be reached.
            DecoderKilledError: The child died or went over a limit.
            DecoderFailedError: The child has a bug.
        """
        try:
            return self._probe_video(location) if location.kind == "video" else self._probe_pictures(location)
        except MessageError as error:
            self._child.stop()
            raise DecoderFailedError(f"{location.url}: the decoding child broke the protocol: {error}") from error

    def close(self) -> None:
        """Ends the child."""
        self._child.close()

    def __enter__(self) -> Self:
        """Gives itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Closes."""
        self.close()

    def _ask(self, operation: str, url: str) -> Message:
        self._child.send({"op": operation, "url": url})
        return self._child.receive()

    def _probe_video(self, location: SourceLocation) -> ProbedSource:
        answer = self._ask("probe_video", location.url)
        table = table_from_message(get_messages({"tables": [answer.get("table")]}, "tables")[0])
        return ProbedSource(info=_read_info(location, answer, table=table), table=table)

    def _probe_pictures(self, location: SourceLocation) -> ProbedSource:
        answers = [self._ask("probe_picture", url) for url in location.files]
        sizes = tuple((get_int(answer, "width"), get_int(answer, "height")) for answer in answers)
        tokens = [get_str(answer, "version_token") for answer in answers]
        files = tuple(
            PictureFile(url=url, version_token=token) for url, token in zip(location.files, tokens, strict=True)
        )
        first = next((number for number, size in enumerate(sizes) if size != (0, 0)), None)
        if first is None:
            raise UnreadableSourceError(f"{location.url}: expected pictures, got none that can be read")
        info = SourceInfo(
            video_id=_identify_pictures(location, [get_str(answer, "digest") for answer in answers]),
            url=location.url,
            name=location.name,
            kind="pictures",
            size_bytes=sum(get_int(answer, "size_bytes") for answer in answers),
            version_token=hashlib.sha256("\n".join(tokens).encode()).hexdigest()[:_ID_DIGITS],
            container="pictures",
            codec=get_str(answers[first], "codec"),
            width=sizes[first][0],
            height=sizes[first][1],
            pixel_format="rgb24",
            time_base=(1, 1),
            rotation_degrees=0,
            sample_aspect_ratio=(1, 1),
            colour_matrix="rgb",
            colour_range="full",
            fps=1.0,
            duration_s=float(len(files)),
            num_frames=len(files),
        )
        return ProbedSource(info=info, table=PictureTable(files=files, sizes=sizes))


def probe_source(location: SourceLocation, *, limits: DecodeLimits | None = None) -> ProbedSource:
    """Probes one source in a child of its own; raises what `SourceProber.probe` raises."""
    with SourceProber(limits=limits) as prober:
        return prober.probe(location)


def _identify_pictures(location: SourceLocation, digests: list[str]) -> str:
    names = [posixpath.basename(url) for url in location.files]
    lines = sorted(f"{name}\0{digest}\n" for name, digest in zip(names, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:_ID_DIGITS]


def _read_info(location: SourceLocation, answer: Message, *, table: PacketTable) -> SourceInfo:
    matrix, value_range = get_str(answer, "colour_matrix"), get_str(answer, "colour_range")
    if matrix not in get_args(ColourMatrix) or value_range not in get_args(ColourRange):
        raise MessageError(f"unknown colour matrix {matrix!r:.80} or range {value_range!r:.80}")
    return SourceInfo(
        video_id=get_str(answer, "digest")[:_ID_DIGITS],
        url=location.url,
        name=location.name,
        kind="video",
        size_bytes=get_int(answer, "size_bytes"),
        version_token=get_str(answer, "version_token"),
        container=get_str(answer, "container"),
        codec=get_str(answer, "codec"),
        width=get_int(answer, "width"),
        height=get_int(answer, "height"),
        pixel_format=get_str(answer, "pixel_format"),
        time_base=_get_pair(answer, "time_base"),
        rotation_degrees=get_int(answer, "rotation_degrees"),
        sample_aspect_ratio=_get_pair(answer, "sample_aspect_ratio"),
        colour_matrix=cast(ColourMatrix, matrix),
        colour_range=cast(ColourRange, value_range),
        fps=get_float(answer, "fps"),
        duration_s=get_float(answer, "duration_s"),
        num_frames=table.num_frames,
    )


def _get_pair(message: Message, key: str) -> tuple[int, int]:
    values = get_ints(message, key)
    if len(values) != 2 or min(values) < 1:
        raise MessageError(f"{key} must be two positive integers, got {values}")
    return values[0], values[1]
