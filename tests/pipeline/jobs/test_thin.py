"""`framevault thin` and `framevault vacuum` on small vaults of both kinds of streams."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from framevault.codecs.registry import load_codec
from framevault.pipeline.jobs import thin_ledger
from framevault.storage.detections import DetectionManifest, commit_detections, write_detections
from framevault.storage.index import MissingSegment, VideoManifest, commit_video, load_manifests
from framevault.storage.packs import Pack, read_pack
from framevault.storage.schema import detections_table
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.workers.weights import find_pack_spec
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import query_rows, run_command, vault_contents

NOBODY = 65534
"""User id without rights, on every Linux."""

DETECTOR_FP = "d" * 16


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vaults `video`, `intra` and `raw` of a clip in three segments, made once; something was found in each."""
    folder = tmp_path_factory.mktemp("templates")
    clip = make_video(folder / "clip.mp4", VideoSpec(width=112, height=80, num_frames=12, gop=4))
    for name, options in (("video", ("--slices", "4")), ("intra", ("--intra",)), ("raw", ("--codec", "raw"))):
        options = (*options, "--segment-frames", "4", "--quality", "8", "--workers", "1")
        ended = run_command("compress", clip, folder / name, *options)
        assert ended.code == 0, ended.stderr
        find_something(open_vault(str(folder / name), create=False))
    return folder


@pytest.fixture
def vault(templates: Path, tmp_path: Path) -> Path:
    """A vault of predicted frames."""
    return Path(shutil.copytree(templates / "video", tmp_path / "vault"))


def find_something(store: Store) -> None:
    """Store a detection in each frame of a vault's only video."""
    (manifest,) = load_manifests(store)
    parts = []
    for record in manifest.segments:
        pack = read_pack(store.read(record.pack.key))
        box, score, label = np.array([[1, 2, 3, 4]], np.float32), np.array([0.9], np.float32), np.array([0])
        table = detections_table(
            [(frame.frame_number, frame.pts, box, score, label) for frame in pack.frames], labels=("person",)
        )
        parts.append(write_detections(store, DETECTOR_FP, record.segment_id, table, num_frames=record.num_frames))
    commit_detections(
        store,
        DetectionManifest(
            detector_fp=DETECTOR_FP,
            detector="teller",
            video_id=manifest.video_id,
            run_fp=manifest.run_fp,
            score_floor=0.05,
            parts=tuple(parts),
        ),
    )


def thin(vault: Path, slices: int, *options: str, code: int = 0) -> str:
    """Thin a vault; return what was printed, of both kinds."""
    ended = run_command("thin", vault, "--slices", str(slices), "--workers", "1", *options)
    assert ended.code == code, ended.stderr
    return ended.stdout + ended.stderr


def packs_of(vault: Path) -> dict[str, tuple[VideoManifest, Pack]]:
    """Return all visible packs by segment id."""
    store = open_vault(str(vault), create=False)
    return {
        record.segment_id: (manifest, read_pack(store.read_checked(record.pack)))
        for manifest in load_manifests(store)
        for record in manifest.segments
    }


def assert_clean(vault: Path) -> None:
    ended = run_command("verify", vault)
    assert (ended.code, ended.stdout.splitlines()[-1][:7]) == (0, "clean: "), ended.stdout


@pytest.mark.parametrize(("kind", "version"), [("video", 14), ("intra", 3)])
def test_every_prefix_of_a_vault_is_smaller_clean_and_decodes(
    templates: Path, tmp_path: Path, kind: str, version: int
) -> None:
    vault = Path(shutil.copytree(templates / kind, tmp_path / "vault"))
    size = "(select sum(payload_bytes)::BIGINT from segments) as size_bytes"
    sql = f"select num_frames, is_complete, slices, {size} from videos"
    (before,) = query_rows(vault, sql)
    sizes = [int(str(before["size_bytes"]))]

    for slices in (3, 2, 1, 0):
        thin(vault, slices)
        (after,) = query_rows(vault, sql)
        assert after == {**before, "size_bytes": after["size_bytes"], "slices": slices}
        sizes.append(int(str(after["size_bytes"])))
        for manifest, pack in packs_of(vault).values():
            spec = find_pack_spec(pack.header)
            assert (manifest.bitstream_version, spec.bitstream_version, spec.slices) == (version, version, slices)
            decoder = load_codec(spec).decoder(height=80, width=112)
            features_nchw = decoder.decode([pack.payload(frame.frame_number) for frame in pack.frames])
            assert tuple(features_nchw.shape) == (4, 24, 20, 28)
            assert pack.frames[0].is_independent

    assert_clean(vault)
    assert sizes == sorted(sizes, reverse=True)
    # Frames coded by themselves say of their last slice that it is surely its mean: dropping it saves nothing.
    assert len(set(sizes)) >= 4


def test_what_is_kept_of_the_source_is_what_it_was(vault: Path) -> None:
    before = [frame.pts for _, pack in packs_of(vault).values() for frame in pack.frames]
    columns = "video, names, source_url, source_bytes, sampling, quality, codec, fps, duration_s"
    said = query_rows(vault, f"select {columns} from videos")

    thin(vault, 2)

    assert sorted(frame.pts for _, pack in packs_of(vault).values() for frame in pack.frames) == sorted(before)
    assert query_rows(vault, f"select {columns} from videos") == said
    assert len(query_rows(vault, "select * from frames where video = 'clip.mp4'")) == 12


def test_what_was_found_stays_found(vault: Path) -> None:
    columns = "video, video_frame, label, score, x_min, detector"
    sql = f"select {columns} from detections order by video_frame"
    before = query_rows(vault, sql)
    assert len(before) == 12

    thin(vault, 1)
    run_command("vacuum", vault, "--grace-days", "0")

    assert query_rows(vault, sql) == before
    assert_clean(vault)


def test_thinning_again_does_nothing_and_says_so(vault: Path) -> None:
    thin(vault, 2)
    before = vault_contents(vault)

    printed = thin(vault, 2)

    assert "1 of the chosen videos are left as they are: they have 2 slices already" in printed
    assert vault_contents(vault) == before


def test_old_packs_wait_for_the_vacuum(vault: Path) -> None:
    old = set(vault.rglob("*.fvp"))
    printed = thin(vault, 1)

    waiting = run_command("vacuum", vault)
    still = set(vault.rglob("*.fvp"))
    gone = run_command("vacuum", vault, "--grace-days", "0", "--json")

    assert "The old packs are there until a framevault vacuum" in printed
    assert waiting.stdout.startswith("0 objects (0 B) removed; 6 more (")
    assert "wait until no manifest has named them for 7 days" in waiting.stdout
    assert old < still
    assert json.loads(gone.stdout)["num_waiting"] == 0
    assert set(vault.rglob("*.fvp")) == still - old
    assert_clean(vault)


def test_a_condition_chooses_segments_and_the_others_stay(vault: Path) -> None:
    places = "select video_frame, time_s, pts from frames order by pts"
    before = query_rows(vault, places)
    thin(vault, 2, "--where", "video = 'clip.mp4' and video_frame between 5 and 9")

    some = query_rows(vault, "select slices, num_segments, num_frames from videos order by slices")
    between = query_rows(vault, places)
    thin(vault, 2, "--where", "video_frame < 4")
    thin(vault, 2)
    every = query_rows(vault, "select slices, num_segments, num_frames from videos where is_complete")

    assert some == [
        {"slices": 2, "num_segments": 2, "num_frames": 8},
        {"slices": None, "num_segments": 1, "num_frames": 4},
    ]
    assert every == [{"slices": 2, "num_segments": 3, "num_frames": 12}]
    # Frames keep their places and times, whichever run they are in.
    assert between == before == query_rows(vault, places)
    assert_clean(vault)


def test_compressing_again_takes_the_old_packs_up_until_they_are_gone(templates: Path, vault: Path) -> None:
    thin(vault, 1)
    settings = ("--segment-frames", "4", "--quality", "8", "--slices", "4", "--workers", "1")
    command = ("compress", templates / "clip.mp4", vault, *settings)

    before = run_command(*command)
    run_command("vacuum", vault, "--grace-days", "0")

    assert "0 segments (0 frames) encoded now, 3 were there" in before.stdout
    assert len(query_rows(vault, "select * from videos")) == 2
    assert len(list(vault.rglob("*.fvp"))) == 6
    assert_clean(vault)


def test_what_could_not_be_stored_is_still_said_to_be_missing(vault: Path) -> None:
    store = open_vault(str(vault), create=False)
    (manifest,) = load_manifests(store)
    lost = MissingSegment(segment_id="a" * 32, first_pts=10**6, last_pts=10**6 + 3, num_frames=4, reason="damaged")
    commit_video(store, replace(manifest, missing=(lost,)))

    thin(vault, 3)

    (after,) = load_manifests(store)
    assert (after.slices, after.missing, len(after.segments)) == (3, (lost,), 3)


class Killed(BaseException):
    """What no handler catches, as a kill."""


@pytest.mark.parametrize("moment", ["commit_video", "carry_findings", "retire_segments", "after retire_segments"])
def test_killed_between_any_two_steps_a_vault_is_clean_and_the_same_command_goes_on(
    templates: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    undisturbed = Path(shutil.copytree(templates / "video", tmp_path / "undisturbed"))
    thin(undisturbed, 1)
    step = getattr(thin_ledger, moment.split()[-1])

    def die(*arguments: object, **named: object) -> None:
        if moment.startswith("after"):
            step(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(thin_ledger, moment.split()[-1], die)
        with pytest.raises(Killed):
            thin(vault, 1)
    assert_clean(vault)
    assert {row["frames"] for row in query_rows(vault, "select count(*) as frames from frames group by run_fp")} == {12}
    printed = thin(vault, 1)

    assert ("0 segments (0 frames) thinned now" in printed) or "slices already" in printed
    assert vault_contents(vault) == vault_contents(undisturbed)


def test_interrupted_after_a_segment_it_is_not_thinned_twice(
    templates: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Path(shutil.copytree(templates / "video", tmp_path / "undisturbed"))
    thin(undisturbed, 1)

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("framevault.pipeline.jobs.thin._tell", die)
        interrupted = run_command("thin", vault, "--slices", "1", "--workers", "1")
    assert interrupted.code == 130
    assert_clean(vault)
    printed = thin(vault, 1)

    assert ", 0 had been before" not in printed
    assert vault_contents(vault) == vault_contents(undisturbed)


def test_a_damaged_segment_stays_and_the_others_are_thinned(vault: Path) -> None:
    (segment_id, *_) = packs_of(vault)
    path = vault / "packs" / segment_id[:2] / f"{segment_id}.fvp"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)

    printed = thin(vault, 2, code=3)

    assert f"{segment_id}.fvp must have CRC32C" in printed
    assert "2 segments (8 frames) thinned now to 2 slices" in printed
    assert "1 segments can't be read and are as they were" in printed
    rows = query_rows(vault, "select slices, num_segments from videos order by slices nulls last")
    assert rows == [{"slices": 2, "num_segments": 2}, {"slices": None, "num_segments": 1}]
    errors = [line for line in run_command("verify", vault).stdout.splitlines() if line.startswith("damaged")]
    assert errors
    assert all(segment_id in error for error in errors)


@pytest.mark.parametrize("slices", [4, 5, 1000])
def test_slices_out_of_range_are_a_usage_error(vault: Path, slices: int) -> None:
    before = vault_contents(vault)

    printed = thin(vault, slices, code=2)

    assert f"slices must be 0 to 3, fewer than the 4 of the streams, got {slices}" in printed
    assert vault_contents(vault) == before


def test_what_was_thinned_can_not_be_thickened(vault: Path) -> None:
    thin(vault, 1)

    printed = thin(vault, 3, code=2)

    assert "streams that were thinned to 1 slices can't be thinned to 3" in printed


def test_a_codec_that_can_not_be_thinned_is_named(templates: Path, tmp_path: Path) -> None:
    vault = Path(shutil.copytree(templates / "raw", tmp_path / "vault"))

    printed = thin(vault, 1, code=2)

    assert "nothing can be thinned to 1 slices: streams of codec 'raw' can't be thinned, only those of dicm" in printed


def test_beside_what_can_be_thinned_the_rest_is_left_and_said(templates: Path, vault: Path) -> None:
    settings = ("--codec", "raw", "--segment-frames", "4")
    assert run_command("compress", templates / "clip.mp4", vault, *settings).code == 0

    printed = thin(vault, 1)

    assert "1 of the chosen videos are left as they are: streams of codec 'raw' can't be thinned" in printed
    rows = query_rows(vault, "select codec, slices from videos order by codec")
    assert rows == [{"codec": "dicm", "slices": 1}, {"codec": "raw", "slices": None}]


def test_where_nothing_is_chosen_nothing_can_be_done(vault: Path, tmp_path: Path) -> None:
    open_vault(str(tmp_path / "empty"), create=True)

    assert "no segment was chosen" in thin(vault, 1, "--where", "time_s > 1000", code=2)
    assert "no segment was chosen" in thin(tmp_path / "empty", 1, code=2)
    assert "there is no vault" in thin(tmp_path / "nowhere", 1, code=2)
    assert "colour" in thin(vault, 1, "--where", "colour = 'red'", code=2)


def test_a_vault_written_with_other_weights_is_refused_before_anything_runs(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("framevault.workers.weights.codec_fingerprint", lambda spec: "0" * 64)

    printed = thin(vault, 1, code=2)

    assert "name the checkpoint that it was encoded with (--weights)" in printed


def test_a_vault_that_can_be_read_only_is_said_before_anything_runs(templates: Path, public_folder: Path) -> None:
    vault = Path(shutil.copytree(templates / "video", public_folder / "vault"))

    with read_only(vault):
        printed = thin(vault, 1, code=1)
        vacuumed = run_command("vacuum", vault)

    assert "Permission denied" in printed
    assert str(vault) in printed
    assert vacuumed.code == 1
    assert "Permission denied" in vacuumed.stderr


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let this process read a folder and not write it, even where the tests run as root."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    user = os.geteuid()
    for path in modes:
        path.chmod(0o555)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        for path, mode in modes.items():
            path.chmod(mode)


def test_compressing_to_few_slices_is_compressing_and_thinning_single_frames(templates: Path, tmp_path: Path) -> None:
    thin_vault = Path(shutil.copytree(templates / "intra", tmp_path / "thin"))
    thin(thin_vault, 1)
    settings = ("--intra", "--segment-frames", "4", "--quality", "8", "--workers", "1", "--slices", "1")

    ended = run_command("compress", templates / "clip.mp4", tmp_path / "vault", *settings)

    assert ended.code == 0, ended.stderr
    found, expected = packs_of(tmp_path / "vault"), packs_of(thin_vault)
    assert {name: pack.data for name, (_, pack) in found.items()} == {
        name: pack.data for name, (_, pack) in expected.items()
    }
    assert_clean(tmp_path / "vault")


def test_compressing_to_slices_that_there_are_not_is_a_usage_error(templates: Path, tmp_path: Path) -> None:
    for codec, slices, problem in (("dicm", "5", "slices must be 0 to 4"), ("raw", "1", "'raw' can't be thinned")):
        ended = run_command("compress", templates / "clip.mp4", tmp_path / codec, "--codec", codec, "--slices", slices)
        assert (ended.code, problem in ended.stderr) == (2, True), ended.stderr
        assert not (tmp_path / codec).exists()
