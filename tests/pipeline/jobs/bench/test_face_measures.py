"""Tests of what is measured on a face's pixels."""

import pytest
import torch

from framevault.pipeline.jobs.bench.face_measures import MEASURES, lightness_of, measure_pixels


def test_lightness_is_that_of_cie() -> None:
    grey_nchw = torch.tensor([0, 10, 119, 255], dtype=torch.uint8)[:, None, None, None].expand(4, 3, 8, 8)

    # From a table of sRGB's neutral colours.
    assert lightness_of(grey_nchw)[:, 0, 0].tolist() == pytest.approx([0, 2.74, 50.03, 100], abs=0.02)


def test_each_measure_tells_what_it_is_called() -> None:
    flat_chw = torch.full((3, 64, 64), 100, dtype=torch.uint8)
    bright_chw = torch.full((3, 64, 64), 200, dtype=torch.uint8)
    half_chw = flat_chw.clone()
    half_chw[:, :, 32:] = 200
    checked_chw = flat_chw.clone()
    checked_chw[:, ::2, ::2] = 200
    framed_chw = checked_chw.clone()
    framed_chw[:, 10:56, 10:54] = 100
    faces_nchw = torch.stack([flat_chw, bright_chw, half_chw, checked_chw, framed_chw])

    flat, bright, half, checked, framed = (
        dict(zip(MEASURES, values, strict=True))
        for values in zip(*(measure_pixels(name, faces_nchw) for name in MEASURES), strict=True)
    )

    assert bright["lightness"] > half["lightness"] > flat["lightness"]
    assert half["contrast"] > 10
    assert flat["contrast"] == pytest.approx(0, abs=1e-4)
    assert checked["sharpness"] > 10 * half["sharpness"]
    assert half["side-light"] > 30
    assert checked["side-light"] < 3
    assert framed["busyness"] > 5
    assert framed["contrast"] == pytest.approx(0, abs=1e-4)
    assert flat["busyness"] == 0
