"""A vault of codec dicm+hsc beside its twin of codec dicm: who reads features finds the same in both, to the bit.

The twin's streams are put into other packs, with faces: frames are coded once.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from framevault.codecs.faces.framing import CodedFace, FaceRegion, join_stream, split_stream
from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.spec import CODECS, CodecSpec, codec_fingerprint, frames_spec, thinned
from framevault.storage.index import VideoManifest, commit_video, load_manifests, write_segment
from framevault.storage.names import add_name
from framevault.storage.packs import Pack, PackWriter, read_pack
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.workers.features import FeatureBatch, FeatureReader, FeatureSettings
from framevault.workers.weights import find_pack_spec, pack_settings
from tests.pipeline.command_line import query_rows, run_command
from tests.workers.classifier_weights import write_classifier

HEIGHT, WIDTH = 112, 144
NUM_FRAMES = 6
SPEC = CodecSpec(name="dicm+hsc", faces=CodecSpec(name="hsc", quality=3))


def pictures() -> list[Image.Image]:
    """Return a portrait that moves, and stands still in the end."""
    portrait = Image.fromarray(astronaut()).resize((256, 256))  # type: ignore[no-untyped-call]  # scikit-image has no types
    lefts = [40, 42, 44, 46, 46, 46]
    return [portrait.crop((left, 10, left + WIDTH, 10 + HEIGHT)) for left in lefts]


def faces_of(frame_number: int, face_streams: list[bytes]) -> list[CodedFace]:
    """Return a face in the first frame, two in the second, and so on; none in the last."""
    count = (frame_number + 1) % NUM_FRAMES
    regions = [
        FaceRegion(
            x_min=10.0 * number, y_min=5.0, side=40.0 + frame_number, angle_degrees=0.0, score=0.9, is_outside=False
        )
        for number in range(count)
    ]
    return [CodedFace(region=region, stream=stream) for region, stream in zip(regions, face_streams, strict=False)]


def give_faces(twin: Store, target: Store, spec: CodecSpec, face_streams: list[bytes]) -> None:
    """Store a vault's only video once more, with faces in its frames."""
    (old,) = load_manifests(twin)
    spec = thinned(spec, slices=old.slices) if old.slices is not None else spec
    records = []
    for old_record in old.segments:
        pack = read_pack(twin.read_checked(old_record.pack))
        header = replace(
            pack.header,
            segment_id=codec_fingerprint(spec)[: 32 - 4] + pack.header.segment_id[-4:],
            codec=spec.name,
            bitstream_version=spec.bitstream_version,
            codec_fingerprint=codec_fingerprint(spec),
            settings={**pack.header.settings, **pack_settings(spec)},
        )
        writer = PackWriter(header)
        for frame in pack.frames:
            stream = join_stream(pack.payload(frame.frame_number), faces_of(frame.frame_number, face_streams))
            writer.add(stream, pts=frame.pts, is_keyframe=frame.is_keyframe, is_independent=frame.is_independent)
        records.append(write_segment(target, writer.finish()))
    commit_video(
        target,
        replace(
            old,
            run_fp=codec_fingerprint(spec)[:16],
            codec=spec.name,
            bitstream_version=spec.bitstream_version,
            codec_fingerprint=codec_fingerprint(spec),
            segments=tuple(records),
        ),
    )
    add_name(target, old.video_id, name=old.name, source_url=old.source_url)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vaults `plain` and `faces`, and a classifier's weights; don't change them but by looking."""
    folder = tmp_path_factory.mktemp("twins")
    (folder / "pictures").mkdir()
    for number, picture in enumerate(pictures()):
        picture.save(folder / "pictures" / f"{number}.png")
    ended = run_command("compress", folder / "pictures", folder / "plain", "--segment-frames", str(NUM_FRAMES))
    assert ended.code == 0, ended.stderr
    assert SPEC.faces is not None
    faces_nhwc = torch.from_numpy(np.stack([np.asarray(each.resize((128, 128))) for each in pictures()]))
    hsc = load_hsc(SPEC.faces)
    face_streams = hsc.encoder(height=128, width=128).encode(faces_nhwc.permute(0, 3, 1, 2).contiguous())
    plain = open_vault(str(folder / "plain"), create=False)
    give_faces(plain, open_vault(str(folder / "faces"), create=True), SPEC, face_streams)
    write_classifier(folder / "own.pth")
    return folder


def stored(vault: Path) -> list[tuple[VideoManifest, Pack]]:
    store = open_vault(str(vault), create=False)
    return [
        (manifest, read_pack(store.read_checked(record.pack)))
        for manifest in load_manifests(store)
        for record in manifest.segments
    ]


def copy_of(folder: Path, name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder / name, tmp_path / name))


def rows_of(vault: Path, view: str) -> list[dict[str, object]]:
    """Return what was found, without what says where it lies."""
    rows = query_rows(vault, f"select * exclude (segment_id, run_fp) from {view} order by all")
    return [{name: value for name, value in row.items() if name not in ("codec", "created_at")} for row in rows]


def test_features_are_those_of_the_twin_to_the_bit(folder: Path) -> None:
    found = []

    for name in ("plain", "faces"):
        ((_, pack),) = stored(folder / name)
        batches = list(FeatureReader(FeatureSettings(device="cpu", batch_size=4)).batches(pack))
        sound = [batch for batch in batches if isinstance(batch, FeatureBatch)]
        found.append((torch.cat([batch.features_nchw for batch in sound]), [batch.rows for batch in sound]))

    assert len(batches) == len(sound) == 2
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert len(found[0][0]) < NUM_FRAMES


@pytest.mark.parametrize("detector", ["mobilenet_v2", "dicm_latents"])
def test_detectors_find_the_same(folder: Path, detector: str) -> None:
    for name in ("plain", "faces"):
        ended = run_command("detect", folder / name, "--detector", detector)
        assert ended.code == 0, ended.stderr

    found = rows_of(folder / "faces", "all_detections")
    assert found == rows_of(folder / "plain", "all_detections")
    assert len(found) > 5


def test_the_detector_that_is_chosen_is_the_twins(folder: Path) -> None:
    chosen = []

    for name in ("plain", "faces"):
        ended = run_command("detect", folder / name, "--json")
        assert ended.code == 0, ended.stderr
        summary = json.loads(ended.stdout.splitlines()[-1])
        chosen.append((summary["detector"], summary["detector_reason"], summary["labels"]))

    assert chosen[0] == chosen[1]


def test_labels_and_similar_frames_are_the_same(folder: Path) -> None:
    picture, weights = folder / "pictures" / "3.png", folder / "own.pth"
    similar = []

    for name in ("plain", "faces"):
        ended = run_command("classify", folder / name, "--classifier-weights", weights, "--vectors")
        assert ended.code == 0, ended.stderr
        ended = run_command(
            "similar", folder / name, "--image", picture, "--classifier-weights", weights, "--apart", "0", "--json"
        )
        assert ended.code == 0, ended.stderr
        similar.append(json.loads(ended.stdout.splitlines()[-1])["matches"])

    assert rows_of(folder / "faces", "labels") == rows_of(folder / "plain", "labels")
    assert [frame["time_s"] for frame in similar[1]] == [frame["time_s"] for frame in similar[0]]
    assert len(similar[1]) == NUM_FRAMES


def test_thinned_streams_are_those_of_the_twin_and_keep_their_faces(folder: Path, tmp_path: Path) -> None:
    packs = {}

    for name in ("plain", "faces"):
        vault = copy_of(folder, name, tmp_path)
        ended = run_command("thin", vault, "--slices", "1")
        assert ended.code == 0, ended.stderr
        ((manifest, packs[name]),) = stored(vault)
        assert (manifest.slices, manifest.bitstream_version) == (1, 14)

    ((_, before),) = stored(folder / "faces")
    parts = [split_stream(packs["faces"].payload(number)) for number in range(NUM_FRAMES)]
    assert [part.frame for part in parts] == [packs["plain"].payload(number) for number in range(NUM_FRAMES)]
    assert [part.faces for part in parts] == [split_stream(before.payload(n)).faces for n in range(NUM_FRAMES)]
    spec = find_pack_spec(packs["faces"].header)
    assert (spec.slices, spec.faces) == (1, SPEC.faces)
    assert packs["faces"].header.settings == {"slices": 1, "faces": before.header.settings["faces"]}
    assert run_command("detect", tmp_path / "faces").code == 0
    assert run_command("verify", tmp_path / "faces").code == 0


def test_a_damaged_frame_costs_both_the_same(folder: Path, tmp_path: Path) -> None:
    """A stream whose faces don't add up, under a checksum that is right."""
    faults = []
    for name in ("plain", "faces"):
        ((_, pack),) = stored(folder / name)
        writer = PackWriter(pack.header)
        for frame in pack.frames:
            stream = b"\xff" * 60 if frame.frame_number == 2 else pack.payload(frame.frame_number)
            writer.add(stream, pts=frame.pts, is_keyframe=frame.is_keyframe, is_independent=frame.is_independent)
        steps = list(FeatureReader(FeatureSettings(device="cpu", batch_size=4)).batches(read_pack(writer.finish())))
        faults.append([(step.first_frame, step.last_frame) for step in steps if not isinstance(step, FeatureBatch)])

    assert faults == [[(2, 5)], [(2, 5)]]


def test_the_vault_is_sound_and_says_what_it_is(folder: Path) -> None:
    ended = run_command("verify", folder / "faces")
    assert ended.code == 0, ended.stdout
    assert run_command("info", folder / "faces").code == 0

    (video,) = query_rows(folder / "faces", "select codec, quality, num_frames, slices from videos")

    (twin,) = query_rows(folder / "plain", "select codec, quality, num_frames, slices from videos")
    assert video == {**twin, "codec": "dicm+hsc"}
    ((_, pack),) = stored(folder / "faces")
    ((_, twin_pack),) = stored(folder / "plain")
    assert pack.header.weights_digest == twin_pack.header.weights_digest
    assert frames_spec(find_pack_spec(pack.header)) == find_pack_spec(twin_pack.header)


def test_weights_that_are_not_here_are_named_before_anything_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = copy_of(folder, "faces", tmp_path)
    (tmp_path / "other.safetensors").write_bytes(b"other")
    row = replace(CodecSpec(name="hsc").row, checkpoint=str(tmp_path / "other.safetensors"))
    monkeypatch.setitem(CODECS, "hsc", row)

    ended = run_command("detect", vault)

    assert ended.code == 2
    assert "name both checkpoints" in ended.stderr
