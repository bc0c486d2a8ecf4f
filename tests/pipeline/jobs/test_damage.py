"""A flipped byte in any stored object is found by verifying, and by what reads the object; both name it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.media import VideoSpec, flip_bytes, make_video
from tests.pipeline.command_line import Ended, query_rows, run_command, vault_contents

READERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "vault.json": (("info",), ("query", "select 1"), ("detect",)),
    "manifests": (("query", "select video from videos, detections"), ("detect",)),
    "names": (("query", "select video from names"), ("info",), ("detect",)),
    "frames": (("query", "select pts from frames"), ("detect",)),
    "detections": (("query", "select label from all_detections"), ("detect",)),
    "quarantine": (("query", "select reason from failures"), ("info",)),
}
"""Commands that read an object, by the first part of its key. Packs have a test of their own."""


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault with one of everything, made by the commands; each test leaves it as it was."""
    folder = tmp_path_factory.mktemp("damage")
    clip = make_video(folder / "clip.mp4", VideoSpec(width=64, height=64, num_frames=6, gop=2))
    (folder / "letter.mp4").write_text("Dear archive,\n" * 50)
    (folder / "job.yaml").write_text("codec: raw\nsegment_frames: 2\n")
    vault = folder / "vault"
    compressed = run_command("compress", clip, folder / "letter.mp4", vault, "--config", folder / "job.yaml")
    assert compressed.code == 3, compressed.stderr
    assert run_command("detect", vault).code == 0
    assert {kind_of(key) for key in vault_contents(vault)} == {*READERS, "packs"}
    return vault


@pytest.mark.parametrize("kind", [*READERS, "packs"])
def test_a_flipped_byte_is_found_and_named_by_verify(vault: Path, kind: str) -> None:
    for key in keys_of(vault, kind):
        for position in positions(vault / key):
            with flipped(vault / key, position):
                ended = run_command("verify", vault)

            assert (ended.code, key in ended.stdout + ended.stderr) == (1, True), (key, position, ended)
            assert "clean" not in ended.stdout
    assert run_command("verify", vault).code == 0


@pytest.mark.parametrize("kind", READERS)
def test_a_flipped_byte_makes_reading_fail_and_is_named(vault: Path, kind: str) -> None:
    for key in keys_of(vault, kind):
        for position in positions(vault / key):
            for command in READERS[kind]:
                with flipped(vault / key, position):
                    ended = run_command(command[0], vault, *command[1:])

                assert_refused(ended, key)


def test_a_flipped_byte_in_a_pack_costs_a_frame_or_the_segment(vault: Path, tmp_path: Path) -> None:
    fresh = copy_without(vault, tmp_path / "vault", "detections")
    damaged = keys_of(fresh, "packs")
    flip_ends_and_middle(fresh, damaged)

    ended = run_command("detect", fresh)

    assert ended.code == 3
    # Of the three packs, two are damaged at an end, and one in a frame's stream.
    assert "2 could not be read; 1 frames could not be decoded" in ended.stdout
    assert all(key in ended.stderr for key in damaged)
    (found,) = keys_of(fresh, "detections")
    assert "/partial/" in found


@pytest.mark.parametrize("kind", ["packs", "frames"])
def test_a_run_that_goes_on_takes_no_wrong_data_of_the_one_before(vault: Path, tmp_path: Path, kind: str) -> None:
    unfinished = copy_without(vault, tmp_path / "vault", "manifests", "detections", "quarantine")
    command = ("compress", vault.parent / "clip.mp4", unfinished, "--config", vault.parent / "job.yaml")
    damaged = keys_of(unfinished, kind)
    flip_ends_and_middle(unfinished, damaged)

    ended = run_command(*command)
    reasons = str(query_rows(unfinished, "select reason from failures"))
    named = {key for key in damaged if key in reasons}
    frames = query_rows(unfinished, "select * from frames order by pts")
    for key in named:
        (unfinished / key).unlink()
    again = run_command(*command, "--retry-failed")

    assert ended.code == 3
    # Without a manifest, a frames part has no checksum yet: a flip that leaves its rows as they are can stay.
    assert named == set(damaged) or (kind == "frames" and named)
    expected = query_rows(vault, "select * from frames order by pts")
    assert frames == [row for row in expected if not any(str(row["segment_id"]) in key for key in named)]
    assert again.code == 0
    assert query_rows(unfinished, "select * from frames order by pts") == expected
    assert run_command("verify", unfinished).code == 0


def assert_refused(ended: Ended, key: str) -> None:
    """Expect an error that names an object, and no row of data."""
    assert ended.code == 1, ended
    assert ended.stdout == ""
    assert key in ended.stderr


def kind_of(key: str) -> str:
    return key.partition("/")[0]


def keys_of(vault: Path, kind: str) -> list[str]:
    return [key for key in vault_contents(vault) if kind_of(key) == kind]


def positions(path: Path) -> tuple[int, ...]:
    """Give the first byte, the last, and three between."""
    size_bytes = path.stat().st_size
    return (0, size_bytes // 3, size_bytes // 2, 3 * size_bytes // 4, size_bytes - 1)


@contextmanager
def flipped(path: Path, position: int) -> Iterator[None]:
    """Invert one bit of one byte for a while."""
    data = path.read_bytes()
    damaged = bytearray(data)
    damaged[position] ^= 1 << position % 8
    path.write_bytes(damaged)
    try:
        yield
    finally:
        path.write_bytes(data)


def flip_ends_and_middle(vault: Path, keys: list[str]) -> None:
    """Flip the first byte of the first of three objects, one in the midst of the second, and the last of the third."""
    for key, position in zip(keys, (0, 0.5, 1), strict=True):
        flip_bytes(vault / key, start=round(position * ((vault / key).stat().st_size - 1)), count=1)


def copy_without(vault: Path, target: Path, *folders: str) -> Path:
    """Copy a vault but for all folders of these names."""
    shutil.copytree(vault, target, ignore=shutil.ignore_patterns(*folders))
    return target
