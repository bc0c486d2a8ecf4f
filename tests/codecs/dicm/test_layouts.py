"""What differs between versions stays as it is: streams depend on it."""

import pytest

from framevault.codecs.dicm.layouts import INTRA, MOVED, PREDICTED, VIDEO_LAYOUTS, layout_of
from framevault.codecs.spec import CODECS

STILL, MOVING = [0, 65279, 65535, 65536], [0, 45000, 45256, 65535, 65536]
"""Cumulative frequencies of kinds."""


def test_kinds_are_what_the_format_page_says() -> None:
    assert (PREDICTED, INTRA, MOVED) == (0, 1, 2)


@pytest.mark.parametrize(
    ("version", "kinds", "known", "most_vectors", "has_background", "pull16"),
    [
        (2, STILL, (0, 1), 0, False, 0),
        (9, MOVING, (0, 1, 2), 8, False, 0),
        (13, MOVING, (0, 1, 2), 16, True, 3),
    ],
)
def test_layouts_are_what_the_format_page_says(
    version: int, kinds: list[int], known: tuple[int, ...], most_vectors: int, has_background: bool, pull16: int
) -> None:
    layout = VIDEO_LAYOUTS[version]

    assert layout.kind_table.cumulative.tolist() == [kinds]
    assert (layout.kind_table.lengths.tolist(), layout.kind_table.offsets.tolist()) == ([len(kinds)], [PREDICTED])
    assert (layout.kinds, layout.most_vectors) == (known, most_vectors)
    assert (layout.has_background, layout.pull16) == (has_background, pull16)


def test_thinned_versions_have_the_layout_of_whole_ones_and_single_frames_none() -> None:
    versions = {whole: layout_of(whole) for whole in CODECS["dicm"].bitstream_versions}
    thinned = {thin: layout_of(thin) for thin in CODECS["dicm"].thinned_versions.values()}

    assert versions == {1: None, **VIDEO_LAYOUTS}
    assert thinned == {3: None, 4: VIDEO_LAYOUTS[2], 10: VIDEO_LAYOUTS[9], 14: VIDEO_LAYOUTS[13]}
