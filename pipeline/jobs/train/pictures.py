"""Decoded training pictures, in memory or in a file that is mapped into it.

Decoding goes through the same guarded child processes as `framevault compress`: pictures of strangers are no safer than
their videos. Letters in shapes: H and W pixels, C = 3 (red, green, blue).
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from framevault.pipeline.jobs.bench.sampling import keep_frames
from framevault.pipeline.jobs.train.candidates import Candidate, Unreadable
from framevault.pipeline.jobs.train.saved_state import put_in_place
from framevault.pipeline.probing import PROBE_ERRORS
from framevault.workers.colour import rgb_from_batch
from framevault.workers.frames import FrameReader
from framevault.workers.limits import DecodeLimits
from framevault.workers.tasks import Segment

LONGEST_GAP_S = 1.0
"""Frames further apart are no motion picture any more."""

FRAMES_AT_ONCE = 4
"""Frames that a decoding child hands over together."""


@dataclass(frozen=True, slots=True, eq=False)
class PictureSet:
    """Decoded pictures; never changed, so threads may share it."""

    rgb_hwc: tuple[NDArray[np.uint8], ...]
    """RGB uint8 [H, W, 3] each."""
    names: tuple[str, ...]
    """What people know each by."""
    clips: tuple[tuple[int, ...], ...] = ()
    """Numbers of pictures that follow one another in a video, at most `LONGEST_GAP_S` apart; at least two each."""

    def __len__(self) -> int:
        return len(self.rgb_hwc)

    @property
    def size_bytes(self) -> int:
        """Bytes of all of them."""
        return sum(picture.nbytes for picture in self.rgb_hwc)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loaded:
    """What came of decoding."""

    pictures: PictureSet
    """In the order of the candidates."""
    unreadable: tuple[Unreadable, ...]
    """Candidates that gave none."""


def load_pictures(
    candidates: Sequence[Candidate],
    *,
    cache_dir: Path | None,
    num_threads: int,
    limits: DecodeLimits,
    on_progress: Callable[[int], None],
) -> Loaded:
    """Decode candidates, or take them from the cache folder where an earlier run put them.

    Args:
        candidates: What to decode.
        cache_dir: Folder to keep the pictures in; None keeps them in memory.
        num_threads: Sources that are decoded at a time, each in a child process of its own.
        limits: What decoding one source may use.
        on_progress: Is told the number of pictures so far, by any thread.
    """
    if cache_dir is None:
        pictures: list[NDArray[np.uint8] | None] = [None] * len(candidates)
        unreadable = _decode_all(candidates, pictures.__setitem__, num_threads, limits, on_progress)
    else:
        cache_dir.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256("\n".join(each.key for each in candidates).encode()).hexdigest()[:16]
        path = cache_dir / f"pictures-{digest}.rgb"
        index = path.with_suffix(".json")
        if not index.exists():
            _write_cache(path, index, candidates, num_threads, limits, on_progress)
        failures = {int(number): Unreadable(**each) for number, each in json.loads(index.read_text()).items()}
        unreadable = dict(sorted(failures.items()))
        pictures = list(_map_cache(path, candidates, without=failures))
    good = [(rgb, each) for rgb, each in zip(pictures, candidates, strict=True) if rgb is not None]
    names = tuple(each.name for _, each in good)
    clips = tuple(_find_clips([each for _, each in good]))
    return Loaded(
        pictures=PictureSet(tuple(rgb for rgb, _ in good), names, clips),
        unreadable=tuple(unreadable[number] for number in sorted(unreadable)),
    )


def _find_clips(candidates: Sequence[Candidate]) -> Iterator[tuple[int, ...]]:
    """Yield the runs of pictures that follow one another in a video."""
    start = 0
    for number in range(1, len(candidates) + 1):
        if number == len(candidates) or not _follows(candidates[number - 1], candidates[number]):
            if number - start > 1:
                yield tuple(range(start, number))
            start = number


def _follows(one: Candidate, other: Candidate) -> bool:
    is_same = one.segment.source.url == other.segment.source.url and one.height == other.height
    if not is_same or one.time_s is None or other.time_s is None:
        return False
    return 0 < other.time_s - one.time_s <= LONGEST_GAP_S


def _write_cache(
    path: Path,
    index: Path,
    candidates: Sequence[Candidate],
    num_threads: int,
    limits: DecodeLimits,
    on_progress: Callable[[int], None],
) -> None:
    """Decode into a file; its index is written last, and says that the file is whole."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.truncate(sum(each.size_bytes for each in candidates))
    places = list(_map_cache(temporary, candidates, without={}, mode="r+"))

    def keep(number: int, rgb_hwc: NDArray[np.uint8]) -> None:
        place_hwc = places[number]
        assert place_hwc is not None
        place_hwc[...] = rgb_hwc

    unreadable = _decode_all(candidates, keep, num_threads, limits, on_progress)
    for place_hwc in places:
        if isinstance(place_hwc, np.memmap):
            place_hwc.flush()
    put_in_place(temporary, path)
    spare = index.with_suffix(".json.tmp")
    spare.write_text(json.dumps({number: asdict(each) for number, each in unreadable.items()}))
    put_in_place(spare, index)


def _map_cache(
    path: Path, candidates: Sequence[Candidate], *, without: dict[int, Unreadable], mode: str = "r"
) -> Iterator[NDArray[np.uint8] | None]:
    """Yield each candidate's place in the file; None for those that could not be read."""
    whole = np.memmap(path, np.uint8, mode=mode) if candidates else np.zeros(0, np.uint8)  # type: ignore[call-overload]  # mode is one of numpy's
    start = 0
    for number, each in enumerate(candidates):
        flat = whole[start : start + each.size_bytes]
        start += each.size_bytes
        yield None if number in without else flat.reshape(each.height, each.width, 3)


def _decode_all(
    candidates: Sequence[Candidate],
    keep: Callable[[int, NDArray[np.uint8]], None],
    num_threads: int,
    limits: DecodeLimits,
    on_progress: Callable[[int], None],
) -> dict[int, Unreadable]:
    """Decode candidates and hand each picture to `keep`; returns those that gave none, by number."""
    lock = threading.Lock()
    local = threading.local()
    readers: list[FrameReader] = []
    unreadable: dict[int, Unreadable] = {}
    num_done = 0

    def open_reader() -> None:
        local.reader = FrameReader(limits=limits)
        readers.append(local.reader)

    def decode(numbers: list[int]) -> None:
        nonlocal num_done
        failed = _decode_segment([(number, candidates[number]) for number in numbers], local.reader, keep)
        with lock:
            unreadable.update(failed)
            num_done += len(numbers)
            on_progress(num_done)

    try:
        with ThreadPoolExecutor(num_threads, initializer=open_reader) as pool:
            list(pool.map(decode, _by_segment(candidates)))
    finally:
        for reader in readers:
            reader.close()
    return unreadable


def _by_segment(candidates: Sequence[Candidate]) -> list[list[int]]:
    """Return the numbers of the candidates of each segment, in the order of their frames."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    for number, each in enumerate(candidates):
        segment = each.segment
        groups.setdefault((segment.source.url, segment.segment_id, segment.number), []).append(number)
    return [sorted(numbers, key=lambda number: candidates[number].position) for numbers in groups.values()]


def _decode_segment(
    wanted: list[tuple[int, Candidate]], reader: FrameReader, keep: Callable[[int, NDArray[np.uint8]], None]
) -> dict[int, Unreadable]:
    """Decode some frames of one segment; if it is damaged, all of them are left out."""
    segment: Segment = keep_frames(wanted[0][1].segment, [each.position for _, each in wanted])
    decoded: list[NDArray[np.uint8]] = []
    try:
        with reader.batches(segment, batch_size=FRAMES_AT_ONCE) as batches:
            for batch in batches:
                for rgb_chw in rgb_from_batch(batch).numpy():
                    each = wanted[len(decoded)][1]
                    decoded.append(_scale(rgb_chw.transpose(1, 2, 0), height=each.height, width=each.width))
    except PROBE_ERRORS as error:
        return {number: Unreadable(name=each.name, reason=str(error)) for number, each in wanted}
    for (number, _), rgb_hwc in zip(wanted, decoded, strict=True):
        keep(number, rgb_hwc)
    return {}


def _scale(rgb_hwc: NDArray[np.uint8], *, height: int, width: int) -> NDArray[np.uint8]:
    """Return a copy of a picture at another size."""
    if rgb_hwc.shape[:2] == (height, width):
        return np.array(rgb_hwc, order="C")
    # Pillow's bilinear filter grows with the factor, so nothing aliases.
    picture = Image.fromarray(np.ascontiguousarray(rgb_hwc)).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(picture)
