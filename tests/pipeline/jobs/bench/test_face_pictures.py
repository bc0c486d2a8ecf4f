"""Tests of reading aligned faces with their names."""

from pathlib import Path

import pytest
import torch

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.face_pictures import read_faces
from tests.pipeline.jobs.bench.toy_faces import SIDE, toy_faces, write_toy_faces


def test_faces_keep_their_names_and_the_order_that_is_asked_for(tmp_path: Path) -> None:
    folder, originals_nchw = str(write_toy_faces(tmp_path / "faces", 4)), toy_faces(4)

    everybody = read_faces(folder, side=SIDE)
    chosen = read_faces(folder, side=SIDE, names=["3.png", "1.png"])
    some = read_faces(folder, side=SIDE, num_faces=2)

    assert everybody.names == ("0.png", "1.png", "2.png", "3.png")
    assert torch.equal(everybody.rgb_nchw, originals_nchw)
    assert chosen.names == ("3.png", "1.png")
    assert torch.equal(chosen.rgb_nchw, originals_nchw[[3, 1]])
    assert some.names == ("0.png", "2.png")


def test_faces_that_are_missing_too_few_or_too_small_are_told(tmp_path: Path) -> None:
    folder = str(write_toy_faces(tmp_path / "faces", 2))

    with pytest.raises(PreflightError, match=r"there is no picture 7\.png, and 1 others"):
        read_faces(folder, side=SIDE, names=["0.png", "7.png", "8.png"])
    with pytest.raises(PreflightError, match="expected 2 pictures or more, found 1"):
        read_faces(folder, side=SIDE, names=["0.png"])
    with pytest.raises(PreflightError, match="x265 needs faces of 64 pixels or more, the checkpoint's are of 32"):
        read_faces(folder, side=32)
    with pytest.raises(PreflightError, match=r"picture 0\.png of .* expected an aligned face of 128x128 pixels"):
        read_faces(folder, side=128)
