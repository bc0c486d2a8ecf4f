"""A clip at another size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.sampling import locate_source, probe, read_batches
from framevault.pipeline.jobs.bench.scaling import read_size, scale_clip
from tests.media import VideoSpec, make_video


def test_a_scaled_clip_shows_the_same_at_another_size(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=6, width=96, height=64))

    scaled = scale_clip(str(clip), tmp_path / "scaled.mp4", width=192, height=128, num_frames=4)

    probed = probe(locate_source(scaled))
    (large,) = read_batches(probed, range(9))
    (small,) = read_batches(probe(locate_source(str(clip))), range(4))
    assert large.rgb_nchw.shape == (4, 3, 128, 192)
    assert probed.info.fps == 25
    for before_chw, after_chw in zip(small.rgb_nchw, large.rgb_nchw, strict=True):
        shrunk = Image.fromarray(after_chw.permute(1, 2, 0).numpy()).resize((96, 64), Image.Resampling.BOX)
        difference = np.asarray(shrunk).astype(int) - before_chw.permute(1, 2, 0).numpy().astype(int)
        assert float(np.abs(difference).mean()) < 8


def test_a_size_is_width_and_height() -> None:
    assert read_size("1280x720") == (1280, 720)
    for text in ("1280", "1280x", "x720", "1280x720x3", "1281x720", "8x8", "99999x720", "-2x720", "wide"):
        with pytest.raises(PreflightError, match="must be like 1280x720"):
            read_size(text)
