"""A second reader, written from FORMAT.md alone, and the product agree about what is in a vault and what is none."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google_crc32c import value as google_crc32c
from hypothesis import example, given, settings
from hypothesis import strategies as st

from framevault.storage.detections import commit_detections, load_detection_manifests
from framevault.storage.documents import seal
from framevault.storage.errors import DamagedError, PackError, VaultError
from framevault.storage.packs import read_pack
from framevault.storage.rle import RleError, decode_mask, encode_mask
from framevault.storage.vault import check_vault_document
from framevault.storage.vault import open_vault as open_product
from framevault.storage.verify import verify_vault
from tests.storage.independent.crc32c import crc32c
from tests.storage.independent.documents import FormatError, parse_document
from tests.storage.independent.masks import draw_runs, parse_runs
from tests.storage.independent.packs import parse_pack
from tests.storage.independent.raw import decode_raw
from tests.storage.independent.vault import open_vault
from tests.storage.pack_forging import Forgery, forgeries
from tests.storage.samples import LABELS, make_vault, sample_detections, sample_pack

FOLDER = Path(__file__).parent / "independent"

ALLOWED_IMPORTS = {*sys.stdlib_module_names, "numpy", "pyarrow"}
"""All that the second reader may use."""


@pytest.mark.parametrize("module", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_a_module_of_the_independent_reader_imports_nothing_of_the_product(module: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))

    own = {name for name in imported if name.startswith("tests.storage.independent.")}
    roots = {name.partition(".")[0] for name in imported - own}
    assert roots <= ALLOWED_IMPORTS


def test_the_independent_reader_loads_nothing_of_the_product() -> None:
    names = [f"tests.storage.independent.{path.stem}" for path in FOLDER.glob("*.py")]
    code = f"import sys, {', '.join(names)}; print([name for name in sys.modules if name.startswith('framevault')])"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=FOLDER.parents[2], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.strip() == "[]"


@given(data=st.binary(max_size=300))
def test_both_compute_the_same_checksum(data: bytes) -> None:
    assert crc32c(data) == google_crc32c(data)
    assert crc32c(data[100:], before=crc32c(data[:100])) == google_crc32c(data)
    assert crc32c(b"123456789") == 0xE3069283


def test_both_read_a_whole_vault(tmp_path: Path) -> None:
    make_vault(str(tmp_path))

    vault = open_vault(tmp_path)

    assert {manifest["name"] for manifest in vault.videos.values()} == {"a.mp4", "b.mp4"}
    assert {name for names in vault.names.values() for name in names} == {"a.mp4", "b.mp4", "copy of a.mp4"}
    for manifest in vault.videos.values():
        for segment in manifest["segments"]:
            pack = vault.pack(manifest, segment)
            product = read_pack(pack.data)
            assert [pack.stream(n) for n in range(10)] == [product.payload(n) for n in range(10)]
    (detections,) = vault.detections
    rows = {part["segment_id"]: vault.detected(part) for part in detections["parts"]}
    expected = [sample_detections(segment).to_pylist() for segment in range(2)]
    assert sorted(rows.values(), key=lambda found: found[0]["pts"]) == expected
    assert {row["label"] for row in expected[0]} <= set(LABELS)
    assert len(vault.failures) == 1


def outcome(parse: Callable[[], object]) -> bool:
    """Say whether a reader takes bytes; any error but its own fails the test."""
    try:
        parse()
    except (PackError, FormatError):
        return False
    return True


@settings(max_examples=300)
@given(forgery=forgeries())
def test_both_take_or_refuse_the_same_packs_and_read_the_same(forgery: Forgery) -> None:
    data = forgery.to_bytes()

    is_taken = outcome(lambda: read_pack(data))

    assert outcome(lambda: parse_pack("x", data)) == is_taken
    if is_taken:
        product, other = read_pack(data), parse_pack("x", data)
        assert [(f.pts, f.offset, f.length, f.crc32c, f.is_keyframe, f.is_independent) for f in product.frames] == [
            (f.pts, f.start, f.length, f.crc, f.is_keyframe, f.is_independent) for f in other.frames
        ]


@settings(max_examples=150)
@given(edits=st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
def test_both_refuse_the_same_mutated_packs(edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(sample_pack(num_frames=6, sizes=(0, 30)))
    for position, replacement in edits:
        start = position % len(data)
        data[start : start + len(replacement)] = replacement

    is_taken = outcome(lambda: read_pack(bytes(data)))

    assert outcome(lambda: parse_pack("x", bytes(data))) == is_taken


@pytest.mark.parametrize(
    "change",
    [
        (b'"version":1', b'"version":2'),
        (b'"version":1', b'"version":true'),
        (b'"version":1', b'"version":1.0'),
        (b'"version":1', b'"version":1,"version":1'),
        (b'"requires":[]', b'"requires":["x"]'),
        (b'"requires":[]', b'"requires":{}'),
        (b'"requires":[]', b'"requires":[1]'),
        (b'"requires":[],', b""),
        (b'"format":"framevault"', b'"format":"framevault "'),
        (b'"format":', b'"format":NaN,"x":'),
        (b'"format":', b'"x":-1e999,"format":'),
        (b'"format":', "ä".encode() + b'"format":'),
        (b"}\n", b"}"),
        (b"}\n", b"} {}\n"),
    ],
)
def test_both_refuse_documents_that_are_none_though_the_checksum_is_right(change: tuple[bytes, bytes]) -> None:
    rest = seal({}, kind="framevault", version=1)[20:].replace(*change)
    document = b'{"crc32c":"%08x"' % google_crc32c(rest) + rest

    with pytest.raises(FormatError):
        parse_document("vault.json", document, kind="framevault")
    with pytest.raises((VaultError, OSError)):
        check_vault_document("vault.json", document)


@pytest.mark.parametrize(
    "change",
    [
        (b'"version":1', b'"version":1,"zebra":{"deep":[1.5e300,null]}'),
        (b",", b" ,\t"),
        (b'"format":"framevault"', b'"format":"\\u0066ramevault"'),
        (b'"requires":[],"version":1', b'"version":1,"requires":[]'),
    ],
)
def test_both_take_documents_that_are_written_otherwise_or_hold_more(change: tuple[bytes, bytes]) -> None:
    rest = seal({}, kind="framevault", version=1)[20:].replace(*change)
    document = b'{"crc32c":"%08x"' % google_crc32c(rest) + rest

    parse_document("vault.json", document, kind="framevault")
    check_vault_document("vault.json", document)


def test_both_refuse_a_vault_that_came_to_require_something(tmp_path: Path) -> None:
    make_vault(str(tmp_path))
    (tmp_path / "requires").mkdir()
    (tmp_path / "requires" / "time-travel.json").write_bytes(b"")

    with pytest.raises(FormatError, match="time-travel"):
        open_vault(tmp_path)
    with pytest.raises(VaultError, match="time-travel"):
        open_product(str(tmp_path), create=False)


@pytest.mark.parametrize(
    ("text", "size", "runs", "inside"),
    [
        ("8<d0", (4, 10), [8, 12, 20], [(row, column) for row in range(4) for column in range(2, 5)]),
        ("0152N", (2, 6), [0, 1, 5, 3, 3], [(0, 0), (0, 3), (0, 4), (1, 3)]),
    ],
)
def test_the_masks_on_the_format_page_are_true(
    text: str, size: tuple[int, int], runs: list[int], inside: list[tuple[int, int]]
) -> None:
    height, width = size
    mask_hw = np.zeros(size, np.bool_)
    mask_hw[tuple(zip(*inside, strict=True))] = True

    assert parse_runs(text, height=height, width=width) == runs
    assert np.array_equal(draw_runs(runs, height=height, width=width), mask_hw)
    assert encode_mask(mask_hw, height=height, width=width) == text
    assert np.array_equal(decode_mask(text, height=height, width=width), mask_hw)


def test_the_vector_on_the_format_page_is_true() -> None:
    assert np.array([1, -0.5, 65504], "<f2").tobytes() == bytes.fromhex("003c00b8ff7b")


@settings(max_examples=300)
@given(
    text=st.text(st.sampled_from("0124?@ANOPRo"), max_size=12) | st.text(max_size=4),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
)
@example(text="0" + "0" * 3 + "4", height=2, width=2)  # runs of length 0
@example(text="TP0", height=2, width=2)  # more groups than needed
@example(text="TPPPPP0", height=2, width=2)
@example(text="TPPPPPP0", height=2, width=2)  # an eighth group
@example(text="4P", height=2, width=2)
@example(text="", height=2, width=2)
@example(text="6N", height=2, width=2)
def test_both_take_or_refuse_the_same_masks_and_read_the_same(text: str, height: int, width: int) -> None:
    size = {"height": height, "width": width}
    try:
        expected = draw_runs(parse_runs(text, **size), **size)
    except FormatError:
        with pytest.raises(RleError):
            decode_mask(text, **size)
    else:
        assert np.array_equal(decode_mask(text, **size), expected)


def test_both_refuse_manifests_of_one_detector_that_disagree_about_masks(tmp_path: Path) -> None:
    make_vault(str(tmp_path))
    store = open_product(str(tmp_path), create=False)
    (manifest,) = load_detection_manifests(store)
    commit_detections(store, replace(manifest, has_masks=True))

    with pytest.raises(FormatError, match="agree"):
        open_vault(tmp_path)
    with pytest.raises(DamagedError, match="agree"):
        load_detection_manifests(store)
    assert any("agree" in finding.problem for finding in verify_vault(store))


def test_the_example_of_raw_on_the_format_page_is_true() -> None:
    import zlib

    stream = zlib.compress(bytes.fromhex("0a141e0100ff"))

    assert decode_raw(stream, height=1, width=2).tolist() == [[[10, 20, 30], [11, 20, 29]]]


@settings(max_examples=50)
@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_raw_frames_are_decoded_as_the_product_encodes_them(height: int, width: int, seed: int) -> None:
    import torch

    from framevault.codecs.registry import load_codec
    from framevault.codecs.spec import CodecSpec

    frame_hwc = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    encoder = load_codec(CodecSpec(name="raw")).encoder(height=height, width=width)

    (stream,) = encoder.encode(torch.from_numpy(frame_hwc).permute(2, 0, 1)[None])

    assert np.array_equal(decode_raw(stream, height=height, width=width), frame_hwc)
