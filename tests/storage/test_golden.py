"""Golden vaults decode to the same for ever, with the product and with a reader written from FORMAT.md alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec, codec_fingerprint
from framevault.storage.frame_facts import load_fact_manifests, read_facts
from framevault.storage.frame_tables import vectors_of
from framevault.storage.index import VideoManifest, load_manifests
from framevault.storage.packs import Pack, read_pack
from framevault.storage.query import connect
from framevault.storage.rle import decode_mask
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.storage.verify import verify_vault
from tests.golden.content import DICM_WEIGHTS, HSC_WEIGHTS
from tests.golden.make_golden import MAKERS
from tests.storage.independent import vault as independent
from tests.storage.independent.checkpoints import parse_checkpoint
from tests.storage.independent.dicm import DicmReader
from tests.storage.independent.hsc import HscReader
from tests.storage.independent.masks import draw_runs, parse_runs
from tests.storage.independent.raw import decode_raw

FOLDER = Path(__file__).parents[1] / "golden"

GOLDEN = {
    "v1-background": "fd2972a679cd38a1cd675d56e042d081816049f52f8ab681d4473117996b55f3",
    "v1-background-faces": "19c0370af81a23d7f00e264b32ad1368320f27c8a9a7cf82392cbcb8d089a8c9",
    "v1-dicm": "13caf2bfd8e34d128aedf2cf092cacee871260863ec1e77d6820561ee786a62d",
    "v1-dicm-hsc": "4a3e04092d23771f57992b821107f8b2844746479a51b5aaea5b26d7212def9a",
    "v1-dicm-video": "731cfc07e83cfd39491b4dd262ed35317974cf3e8ac28692f63970764e3bd738",
    "v1-face-facts": "430840a1ddea8b0c458392adb7d163ff669a319e78b3134d79ab62ec4335b9e4",
    "v1-edges": "58521f63e2bf32baca39506829d1e5d9b57109cc9946d249ce3057b4ed93f635",
    "v1-hsc": "648d0e11a26b1cfdd5b9c05befc5809fac767b209a8ae79015700b1081b7b7c9",
    "v1-facts": "929cb4cf68c422efa7786561977c9c42cfa732a571c5bb4f8abd9de7e9e3a65a",
    "v1-motion": "450c5484a7e07df500456f6a997a560a62494a8fc853c579401b38ed2c95723a",
    "v1-motion-faces": "0517226204cf564b2c999aed7a90acd2f87cdc77f3bee68162bd91b6a797f219",
    "v1-thinned": "4cc43b2c10328e46f7f9d895f6ec940bdde7c3f4af8c847ad1ba2a096f527fb1",
    "v1-thinned-faces": "386625251e245585d15f72d8b4b8b617aead8816ae08e0f94b671c2791eaf8a4",
    "v1-raw": "b33c02626c9c85023acc34057e69af8e3140c4115e042bf4227d9ae7a6d59894",
}
"""SHA-256 of the JSON beside each golden vault, which has those of all its files. An entry never changes."""

MOST_BYTES = 1_000_000
"""Of all golden files together."""

Expected = dict[str, Any]
"""The JSON beside a golden vault."""


def expected_of(name: str) -> Expected:
    content: Expected = json.loads((FOLDER / f"{name}.json").read_bytes())
    return content


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def open_golden(name: str) -> Store:
    return open_vault(str(FOLDER / name), create=False)


def stored_pack(store: Store, manifest: VideoManifest, segment_id: str) -> Pack:
    (record,) = [record for record in manifest.segments if record.segment_id == segment_id]
    return read_pack(store.read_checked(record.pack), key=record.pack.key)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_never_change(name: str) -> None:
    found = {
        path.relative_to(FOLDER / name).as_posix(): digest(path.read_bytes())
        for path in (FOLDER / name).rglob("*")
        if path.is_file()
    }

    assert digest((FOLDER / f"{name}.json").read_bytes()) == GOLDEN[name]
    assert found == expected_of(name)["files"]


def test_all_golden_vaults_are_tested_and_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]

    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} - {"__pycache__"} == set(GOLDEN) == set(MAKERS)
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


@pytest.mark.parametrize("name", GOLDEN)
def test_the_product_finds_nothing_wrong(name: str) -> None:
    assert list(verify_vault(open_golden(name))) == []


@pytest.mark.parametrize("name", GOLDEN)
def test_the_product_reads_every_stream_as_it_was_written(name: str) -> None:
    store, expected = open_golden(name), expected_of(name)
    manifests = {(manifest.video_id, manifest.run_fp): manifest for manifest in load_manifests(store)}

    assert set(manifests) == {(video["video_id"], video["run_fp"]) for video in expected["videos"]}
    for video in expected["videos"]:
        manifest = manifests[video["video_id"], video["run_fp"]]
        assert (manifest.generation, manifest.codec) == (video["generation"], video["codec"])
        assert manifest.bitstream_version == video["bitstream_version"]
        assert [segment.segment_id for segment in manifest.missing] == video["missing"]
        assert {segment.segment_id for segment in manifest.segments} == set(video["segments"])
        for segment_id, frames in video["segments"].items():
            pack = stored_pack(store, manifest, segment_id)
            assert [
                {
                    "pts": frame.pts,
                    "size_bytes": frame.length,
                    "is_keyframe": frame.is_keyframe,
                    "is_independent": frame.is_independent,
                    "stream_sha256": digest(pack.payload(frame.frame_number)),
                }
                for frame in pack.frames
            ] == [{name: value for name, value in frame.items() if name != "decoded_sha256"} for frame in frames]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_independent_reader_reads_every_stream_as_it_was_written(name: str) -> None:
    vault, expected = independent.open_vault(FOLDER / name), expected_of(name)

    assert set(vault.videos) == {(video["video_id"], video["run_fp"]) for video in expected["videos"]}
    for video in expected["videos"]:
        manifest = vault.videos[video["video_id"], video["run_fp"]]
        assert [segment["segment_id"] for segment in manifest["missing"]] == video["missing"]
        assert sorted(vault.names.get(video["video_id"], set())) == video["names"]
        assert {segment["segment_id"] for segment in manifest["segments"]} == set(video["segments"])
        for segment in manifest["segments"]:
            pack = vault.pack(manifest, segment)
            assert [
                {
                    "pts": frame.pts,
                    "size_bytes": frame.length,
                    "is_keyframe": frame.is_keyframe,
                    "is_independent": frame.is_independent,
                    "stream_sha256": digest(pack.stream(frame_number)),
                }
                for frame_number, frame in enumerate(pack.frames)
            ] == [
                {name: value for name, value in frame.items() if name != "decoded_sha256"}
                for frame in video["segments"][segment["segment_id"]]
            ]


@pytest.mark.parametrize("name", ["v1-raw", "v1-facts"])
def test_the_product_decodes_raw_frames_to_the_bit(name: str) -> None:
    store, (video,) = open_golden(name), expected_of(name)["videos"]
    (manifest,) = load_manifests(store)

    for segment_id, frames in video["segments"].items():
        pack = stored_pack(store, manifest, segment_id)
        decoder = load_codec(CodecSpec(name=pack.header.codec)).decoder(
            height=pack.header.coded_height, width=pack.header.coded_width
        )
        decoded_nchw = decoder.decode([pack.payload(number) for number in range(len(frames))])
        found = [digest(frame_chw.permute(1, 2, 0).numpy().tobytes()) for frame_chw in decoded_nchw]

        assert found == [frame["decoded_sha256"] for frame in frames]


@pytest.mark.parametrize("name", ["v1-raw", "v1-facts"])
def test_the_independent_reader_decodes_raw_frames_to_the_bit(name: str) -> None:
    vault, (video,) = independent.open_vault(FOLDER / name), expected_of(name)["videos"]
    (manifest,) = vault.videos.values()

    for segment in manifest["segments"]:
        pack = vault.pack(manifest, segment)
        height, width = pack.header["coded_height"], pack.header["coded_width"]
        frames = [decode_raw(pack.stream(number), height=height, width=width) for number in range(len(pack.frames))]

        assert [digest(frame_hwc.tobytes()) for frame_hwc in frames] == [
            frame["decoded_sha256"] for frame in video["segments"][segment["segment_id"]]
        ]


def test_the_product_decodes_dicm_latents_to_the_bit() -> None:
    store, (video,) = open_golden("v1-dicm"), expected_of("v1-dicm")["videos"]
    (manifest,) = load_manifests(store)
    version, quality = manifest.bitstream_version, manifest.quality
    codec = load_dicm(CodecSpec(name="dicm", weights=str(DICM_WEIGHTS), quality=quality, bitstream_version=version))

    for segment_id, frames in video["segments"].items():
        pack = stored_pack(store, manifest, segment_id)
        streams = [pack.payload(number) for number in range(len(frames))]
        height, width = pack.header.coded_height, pack.header.coded_width
        latents = codec.bitstream.decode(streams, LatentGrid(-(-height // 16), -(-width // 16)), device="cpu")
        features_nchw = codec.decoder(height=height, width=width).decode(streams)

        assert pack.header.weights_digest == digest(DICM_WEIGHTS.read_bytes())
        assert [digest(latent.int().numpy().astype("<i4").tobytes()) for latent in latents] == [
            frame["decoded_sha256"] for frame in frames
        ]
        assert features_nchw.shape == (len(frames), 24, -(-height // 4), -(-width // 4))
        assert bool(features_nchw.isfinite().all())


def test_the_product_decodes_predicted_dicm_latents_to_the_bit() -> None:
    store, (video,) = open_golden("v1-dicm-video"), expected_of("v1-dicm-video")["videos"]
    (manifest,) = load_manifests(store)
    spec = CodecSpec(name="dicm", weights=str(DICM_WEIGHTS), quality=manifest.quality, bitstream_version=2)
    codec = load_dicm(spec)
    assert codec.video is not None

    for segment_id, frames in video["segments"].items():
        pack = stored_pack(store, manifest, segment_id)
        streams = [pack.payload(number) for number in range(len(frames))]
        grid = LatentGrid(-(-pack.header.coded_height // 16), -(-pack.header.coded_width // 16))
        latents = codec.video.decode(SegmentState(), streams, grid, device="cpu")

        assert codec_fingerprint(spec) == pack.header.codec_fingerprint
        assert [codec.is_independent(stream) for stream in streams] == [frame["is_independent"] for frame in frames]
        assert {frame["is_independent"] for frame in frames} == {True, False}
        assert [digest(latent.int().numpy().astype("<i4").tobytes()) for latent in latents] == [
            frame["decoded_sha256"] for frame in frames
        ]


def test_the_independent_reader_decodes_predicted_dicm_latents_to_the_bit() -> None:
    vault, (video,) = independent.open_vault(FOLDER / "v1-dicm-video"), expected_of("v1-dicm-video")["videos"]
    (manifest,) = vault.videos.values()
    reader = DicmReader(parse_checkpoint(DICM_WEIGHTS.read_bytes()))

    for segment in manifest["segments"]:
        pack = vault.pack(manifest, segment)
        streams = [pack.stream(number) for number in range(len(pack.frames))]
        height, width = -(-pack.header["coded_height"] // 16), -(-pack.header["coded_width"] // 16)
        latents = reader.decode_segment(streams, height=height, width=width)

        assert [digest(latent.astype("<i4").tobytes()) for latent in latents] == [
            frame["decoded_sha256"] for frame in video["segments"][segment["segment_id"]]
        ]


def test_the_independent_reader_decodes_dicm_latents_to_the_bit() -> None:
    vault, (video,) = independent.open_vault(FOLDER / "v1-dicm"), expected_of("v1-dicm")["videos"]
    (manifest,) = vault.videos.values()
    checkpoint = DICM_WEIGHTS.read_bytes()
    reader = DicmReader(parse_checkpoint(checkpoint))

    for segment in manifest["segments"]:
        pack = vault.pack(manifest, segment)
        size = {"coded_height": pack.header["coded_height"], "coded_width": pack.header["coded_width"]}
        latents = [reader.decode(pack.stream(number), **size) for number in range(len(pack.frames))]

        assert pack.header["weights_digest"] == digest(checkpoint)
        assert [digest(latent.astype("<i4").tobytes()) for latent in latents] == [
            frame["decoded_sha256"] for frame in video["segments"][segment["segment_id"]]
        ]


def test_the_product_decodes_hsc_symbols_to_the_bit() -> None:
    store, videos = open_golden("v1-hsc"), expected_of("v1-hsc")["videos"]
    manifests = {manifest.run_fp: manifest for manifest in load_manifests(store)}

    assert {manifests[video["run_fp"]].slices for video in videos} == {None, 2, 0}
    for video in videos:
        manifest = manifests[video["run_fp"]]
        spec = CodecSpec(name="hsc", weights=str(HSC_WEIGHTS), quality=manifest.quality, slices=manifest.slices)
        codec = load_hsc(spec)
        for segment_id, frames in video["segments"].items():
            pack = stored_pack(store, manifest, segment_id)
            streams = [pack.payload(number) for number in range(len(frames))]
            size = {"height": pack.header.coded_height, "width": pack.header.coded_width}
            decoded = codec.bitstream.decode(streams, device="cpu")
            values_nm = torch.cat([decoded.core_nk, decoded.latent16_nmgg.flatten(1)], dim=1).int().numpy()

            assert codec_fingerprint(spec) == pack.header.codec_fingerprint
            assert [digest(values.astype("<i4").tobytes()) for values in values_nm] == [
                frame["decoded_sha256"] for frame in frames
            ]
            assert codec.decoder(**size).decode(streams).shape == (len(frames), 3, *size.values())


def test_the_independent_reader_decodes_hsc_symbols_to_the_bit() -> None:
    vault, videos = independent.open_vault(FOLDER / "v1-hsc"), expected_of("v1-hsc")["videos"]
    reader = HscReader(parse_checkpoint(HSC_WEIGHTS.read_bytes()))

    for video in videos:
        manifest = vault.videos[video["video_id"], video["run_fp"]]
        for segment in manifest["segments"]:
            pack = vault.pack(manifest, segment)
            decoded = [
                reader.decode(
                    pack.stream(number),
                    quality=pack.header["quality"],
                    slices=pack.header["settings"].get("slices"),
                )
                for number in range(len(pack.frames))
            ]
            values = [np.concatenate([core_k, latent_mgg.reshape(-1)]).astype("<i4") for core_k, latent_mgg in decoded]

            assert [digest(each.tobytes()) for each in values] == [
                frame["decoded_sha256"] for frame in video["segments"][segment["segment_id"]]
            ]


def test_both_read_which_frames_are_outside_the_domain() -> None:
    expected = expected_of("v1-hsc")["outside"]
    text = "SELECT segment_id, frame_number FROM frames WHERE is_outside ORDER BY frame_number"
    vault = independent.open_vault(FOLDER / "v1-hsc")
    packs = [vault.pack(manifest, segment) for manifest in vault.videos.values() for segment in manifest["segments"]]

    rows = connect(open_golden("v1-hsc")).sql(text).to_pylist()

    ((segment_id, numbers),) = expected.items()
    assert [(row["segment_id"], row["frame_number"]) for row in rows] == [(segment_id, number) for number in numbers]
    assert {pack.header["segment_id"]: pack.outside for pack in packs if pack.outside} == {segment_id: set(numbers)}


def test_raw_vaults_stay_decodable_for_their_fingerprint_is_that_of_today() -> None:
    (manifest,) = load_manifests(open_golden("v1-raw"))

    assert codec_fingerprint(CodecSpec(name="raw")) == manifest.codec_fingerprint


@pytest.mark.parametrize("name", ["v1-raw", "v1-facts"])
def test_both_read_the_same_detections(name: str) -> None:
    expected = expected_of(name)["detections"]
    query = connect(open_golden(name))
    vault = independent.open_vault(FOLDER / name)
    plain = [manifest for manifest in vault.detections if not independent.has_masks(manifest)]
    parts = {
        part["segment_id"]: part for manifest in plain for part in manifest["parts"]
    }  # two of one segment are the same part

    assert set(parts) == set(expected)
    for segment_id, rows in expected.items():
        columns = ", ".join(rows[0])
        text = f"""SELECT {columns} FROM all_detections WHERE segment_id = '{segment_id}' AND detector = 'golden'
            ORDER BY frame_number, score DESC"""
        assert query.sql(text).to_pylist() == rows
        assert vault.detected(parts[segment_id]) == rows


def test_both_read_the_same_masks() -> None:
    expected = expected_of("v1-facts")["facts"]["masks"]
    query = connect(open_golden("v1-facts"))
    vault = independent.open_vault(FOLDER / "v1-facts")
    (video,) = vault.videos.values()
    size = {"height": video["height"], "width": video["width"]}
    (manifest,) = [manifest for manifest in vault.detections if independent.has_masks(manifest)]

    assert {part["segment_id"] for part in manifest["parts"]} == set(expected)
    for part in manifest["parts"]:
        rows = expected[part["segment_id"]]
        stored = [{name: value for name, value in row.items() if name != "mask_runs"} for row in rows]
        columns = ", ".join(stored[0])
        text = f"SELECT {columns} FROM masks WHERE segment_id = '{part['segment_id']}' ORDER BY score DESC"
        assert query.sql(text).to_pylist() == stored
        assert vault.detected(part, has_masks=True) == stored
        for row in rows:
            mask_hw = draw_runs(row["mask_runs"], **size)
            assert parse_runs(row["mask_rle"], **size) == row["mask_runs"]
            assert np.array_equal(decode_mask(row["mask_rle"], **size), mask_hw)


def test_readers_that_know_no_masks_read_the_boxes_of_detectors_that_give_them() -> None:
    expected = expected_of("v1-facts")["facts"]["masks"]
    query = connect(open_golden("v1-facts"))
    vault = independent.open_vault(FOLDER / "v1-facts")
    (manifest,) = [manifest for manifest in vault.detections if independent.has_masks(manifest)]

    for part in manifest["parts"]:
        rows = [
            {name: value for name, value in row.items() if not name.startswith("mask")}
            for row in expected[part["segment_id"]]
        ]
        text = f"""SELECT {", ".join(rows[0])} FROM all_detections WHERE segment_id = '{part["segment_id"]}'
            AND detector = 'golden with masks' ORDER BY score DESC"""
        assert query.sql(text).to_pylist() == rows
        assert vault.detected(part) == rows


def test_both_read_the_same_labels() -> None:
    expected = expected_of("v1-facts")["facts"]["labels"]
    query = connect(open_golden("v1-facts"))
    vault = independent.open_vault(FOLDER / "v1-facts")
    parts = {part["segment_id"]: part for manifest in vault.facts["labels"] for part in manifest["parts"]}

    assert set(parts) == set(expected)
    assert {manifest["model"] for manifest in vault.facts["labels"]} == {"golden model (ß)"}
    for segment_id, rows in expected.items():
        text = f"SELECT {', '.join(rows[0])} FROM labels WHERE segment_id = '{segment_id}' ORDER BY frame_number, rank"
        assert query.sql(text).to_pylist() == rows
        assert vault.labels(parts[segment_id]) == rows


def test_both_read_the_same_vectors() -> None:
    expected = expected_of("v1-facts")["facts"]["vectors"]
    store = open_golden("v1-facts")
    vault = independent.open_vault(FOLDER / "v1-facts")
    parts = {part["segment_id"]: part for manifest in vault.facts["vectors"] for part in manifest["parts"]}
    (manifest,) = load_fact_manifests(store, "vectors")

    assert set(parts) == {part.segment_id for part in manifest.parts} == set(expected)
    for part in manifest.parts:
        rows = expected[part.segment_id]
        table = read_facts("vectors", part.part.key, store.read_checked(part.part), num_frames=part.num_frames)
        places = [(row["frame_number"], row["pts"]) for row in rows]
        # As text: -0.0 is not 0.0.
        values = [str(row["values"]) for row in rows]

        assert list(zip(*table.select(["frame_number", "pts"]).to_pydict().values(), strict=True)) == places
        assert [str(vector) for vector in vectors_of(table).astype(float).tolist()] == values
        found = vault.vectors(parts[part.segment_id])
        assert [(row["frame_number"], row["pts"]) for row in found] == places
        assert [str(list(row["vector"])) for row in found] == values


def test_both_read_the_same_failures() -> None:
    expected = expected_of("v1-raw")["failures"]
    vault = independent.open_vault(FOLDER / "v1-raw")

    found = connect(open_golden("v1-raw")).sql("SELECT * FROM failures").to_pylist()

    assert {row["subject_id"]: row["reason"] for row in found} == {
        subject: failure["reason"] for subject, failure in expected.items()
    }
    assert set(vault.failures) == set(expected)
    for subject, failure in expected.items():
        assert {name: vault.failures[subject][name] for name in failure} == failure
