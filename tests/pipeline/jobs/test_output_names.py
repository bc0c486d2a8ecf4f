"""File names for videos, whatever these are called."""

import dataclasses

import pytest

from framevault.pipeline.jobs.output_names import name_outputs, safe_name
from framevault.storage.index import VideoManifest


def manifest(name: str, number: int) -> VideoManifest:
    values: dict[str, object] = {field.name: None for field in dataclasses.fields(VideoManifest) if field.init}
    values |= {"name": name, "video_id": f"{number}" * 32, "run_fp": "ab" * 8}
    return VideoManifest(**values)  # type: ignore[arg-type]  # only names and ids are looked at


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip.mp4", "clip.mp4"),
        ("street/north cam/ü.mp4", "street_north cam_ü.mp4"),
        ("../../etc/passwd", "_.._.._etc_passwd"),
        ("..", "_"),
        ("", "_"),
        (".tmp", "_.tmp"),
        ("a\x00b\nc:d?e*f|g", "a_b_c_d_e_f_g"),
        ("\udcff\udcfe.mp4", "__.mp4"),
        ("dots...", "dots"),
        ("x" * 300, "x" * 100),
    ],
)
def test_any_name_becomes_a_plain_file_name(name: str, expected: str) -> None:
    assert safe_name(name) == expected


def test_names_that_would_be_the_same_file_get_ids() -> None:
    manifests = [manifest("a/b", 1), manifest("A_b", 2), manifest("c", 3)]

    names = list(name_outputs(manifests).values())

    assert names == ["a_b-11111111-abababab", "A_b-22222222-abababab", "c"]
