"""The golden vaults of codec dicm+hsc decode to the same for ever, with the product and with the second reader."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from framevault.codecs.dicm.codec import grid_of
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.faces.codec import FacesCodec
from framevault.codecs.faces.framing import CodedFace, split_stream
from framevault.codecs.registry import load_codec
from framevault.storage.index import load_manifests
from framevault.storage.packs import Pack
from framevault.workers.weights import find_pack_spec
from tests.golden.content import DICM_WEIGHTS, HSC_WEIGHTS, MOTION_WEIGHTS
from tests.storage.independent import faces as independent_faces
from tests.storage.independent import vault as independent
from tests.storage.independent.checkpoints import parse_checkpoint
from tests.storage.independent.dicm import DicmReader
from tests.storage.independent.documents import FormatError
from tests.storage.independent.hsc import HscReader
from tests.storage.test_golden import FOLDER, digest, expected_of, open_golden, stored_pack

NAME = "v1-dicm-hsc"

FORMS: dict[str, set[tuple[Any, ...]]] = {
    "v1-dicm-hsc": {(2, None, None), (4, 1, None)},
    "v1-thinned-faces": {(6, None, 2), (8, 1, 0)},
    "v1-motion-faces": {(9, None, None), (10, 1, None), (11, None, 2), (12, 1, 0)},
    "v1-background-faces": {(13, None, None), (14, 1, None), (15, None, 2), (16, 1, 0)},
}
"""Golden vaults, and the bitstream version, slices, and slices of faces of each run in them."""

OF_FRAMES = {
    "v1-dicm-hsc": DICM_WEIGHTS,
    "v1-thinned-faces": DICM_WEIGHTS,
    "v1-motion-faces": MOTION_WEIGHTS,
    "v1-background-faces": MOTION_WEIGHTS,
}
"""Checkpoints of the frames."""

VERSIONS_OF_FRAMES = {2: 2, 4: 4, 6: 2, 8: 4, 9: 9, 10: 10, 11: 9, 12: 10, 13: 13, 14: 14, 15: 13, 16: 14}
"""Bitstream versions of dicm whose streams are in those of dicm+hsc, as the format page has them."""


def region_numbers(face: CodedFace) -> dict[str, Any]:
    """Return a face's region in the numbers that are stored."""
    region = face.region
    return {
        "left": region.x_min * 4,
        "top": region.y_min * 4,
        "side": region.side * 4,
        "angle": region.angle_degrees * 256 / 360,
        "score": round(region.score * 255),
        "is_outside": region.is_outside,
        "stream_sha256": digest(face.stream),
    }


@pytest.mark.parametrize("name", FORMS)
def test_the_product_reads_frames_and_faces_to_the_bit(name: str) -> None:
    store, expected = open_golden(name), expected_of(name)
    manifests = {manifest.run_fp: manifest for manifest in load_manifests(store)}

    assert {(each.bitstream_version, each.slices, each.face_slices) for each in manifests.values()} == FORMS[name]
    for video in expected["videos"]:
        manifest = manifests[video["run_fp"]]
        ((segment_id, frames),) = video["segments"].items()
        pack = stored_pack(store, manifest, segment_id)
        spec = find_pack_spec(pack.header, weights=[str(HSC_WEIGHTS), str(OF_FRAMES[name])])
        streams = [pack.payload(number) for number in range(len(frames))]
        codec = load_codec(spec)
        assert isinstance(codec, FacesCodec)
        assert codec.frames.video is not None
        split = [split_stream(stream) for stream in streams]
        size = {"height": pack.header.coded_height, "width": pack.header.coded_width}
        plain = [part.frame for part in split]
        latents = codec.frames.video.decode(SegmentState(), plain, grid_of(**size), device="cpu")

        assert (spec.slices, spec.faces and spec.faces.quality) == (manifest.slices, 3)
        assert (spec.bitstream_version, codec.faces.spec.slices) == (manifest.bitstream_version, manifest.face_slices)
        assert [codec.is_independent(stream) for stream in streams] == [frame["is_independent"] for frame in frames]
        assert [digest(latent.int().numpy().astype("<i4").tobytes()) for latent in latents] == [
            frame["decoded_sha256"] for frame in frames
        ]
        found = [{"frame_number": n, **region_numbers(face)} for n, part in enumerate(split) for face in part.faces]
        rows = expected["faces"][segment_id]
        assert found == [{name: value for name, value in row.items() if name != "decoded_sha256"} for row in rows]
        decoded = codec.faces.bitstream.decode([face.stream for part in split for face in part.faces], device="cpu")
        values_nm = torch.cat([decoded.core_nk, decoded.latent16_nmgg.flatten(1)], dim=1).int().numpy()
        assert [digest(values.astype("<i4").tobytes()) for values in values_nm] == [
            row["decoded_sha256"] for row in rows
        ]
        assert bool(codec.decoder(**size).decode(streams).isfinite().all())


def test_the_product_thins_the_whole_run_to_the_other_one() -> None:
    """Byte by byte: faces stay as they are."""
    whole, thin = golden_packs(NAME)[None, None], golden_packs(NAME)[1, None]
    codec, size = load_pack_codec(whole), {"height": whole.header.coded_height, "width": whole.header.coded_width}

    found = codec.thinner(**size, slices=1).thin([whole.payload(number) for number in range(6)])

    assert found == [thin.payload(number) for number in range(6)]


@pytest.mark.parametrize("calls", [(6,), (1, 2, 3)])
def test_the_product_thins_faces_to_those_of_the_other_vault(calls: tuple[int, ...]) -> None:
    """Byte by byte, however many frames come at once: first the faces alone, then all."""
    whole, few = golden_packs(NAME)[None, None], golden_packs("v1-thinned-faces")
    codec, size = load_pack_codec(whole), {"height": whole.header.coded_height, "width": whole.header.coded_width}
    between = load_pack_codec(few[None, 2])
    streams = iter([whole.payload(number) for number in range(6)])
    of_faces, of_both = codec.part_thinner(**size, face_slices=2), between.part_thinner(**size, slices=1, face_slices=0)

    first = [thin for count in calls for thin in of_faces.thin(list(itertools.islice(streams, count)))]
    second = of_both.thin(first)

    assert first == [few[None, 2].payload(number) for number in range(6)]
    assert second == [few[1, 0].payload(number) for number in range(6)]


def golden_packs(name: str) -> dict[tuple[int | None, int | None], Pack]:
    """Return a vault's packs by the slices of frames and of faces."""
    store = open_golden(name)
    return {
        (manifest.slices, manifest.face_slices): stored_pack(store, manifest, manifest.segments[0].segment_id)
        for manifest in load_manifests(store)
    }


def load_pack_codec(pack: Pack) -> FacesCodec:
    codec = load_codec(find_pack_spec(pack.header, weights=[str(HSC_WEIGHTS), str(DICM_WEIGHTS)]))
    assert isinstance(codec, FacesCodec)
    return codec


@pytest.mark.parametrize("name", FORMS)
def test_the_independent_reader_reads_frames_and_faces_to_the_bit(name: str) -> None:
    vault, expected = independent.open_vault(FOLDER / name), expected_of(name)
    of_frames = DicmReader(parse_checkpoint(OF_FRAMES[name].read_bytes()))
    of_faces = HscReader(parse_checkpoint(HSC_WEIGHTS.read_bytes()))

    for video in expected["videos"]:
        manifest = vault.videos[video["video_id"], video["run_fp"]]
        (segment,) = manifest["segments"]
        pack = vault.pack(manifest, segment)
        said = pack.header["settings"]["faces"]
        split = [independent_faces.split(pack.stream(number)) for number in range(len(pack.frames))]
        height, width = -(-pack.header["coded_height"] // 16), -(-pack.header["coded_width"] // 16)
        plain = [frame for _, frame in split]
        slices = pack.header["settings"].get("slices")
        version = VERSIONS_OF_FRAMES[manifest["bitstream_version"]]
        latents = of_frames.decode_segment(plain, height=height, width=width, slices=slices, version=version)

        face_slices = said.get("slices")
        assert (pack.header["codec"], said["version"]) == ("dicm+hsc", 1 if face_slices is None else 2)
        assert (pack.header["bitstream_version"], slices, face_slices) in FORMS[name]
        assert manifest.get("face_slices") == face_slices
        assert pack.header["weights_digest"] == digest(OF_FRAMES[name].read_bytes())
        assert said["weights"] == digest(HSC_WEIGHTS.read_bytes())
        assert [digest(latent.astype("<i4").tobytes()) for latent in latents] == [
            frame["decoded_sha256"] for frame in video["segments"][segment["segment_id"]]
        ]
        found = []
        for number, (faces, _) in enumerate(split):
            for face in faces:
                core_k, latent_mgg = of_faces.decode(face.stream, quality=said["quality"], slices=face_slices)
                values = np.concatenate([core_k, latent_mgg.reshape(-1)]).astype("<i4")
                numbers = {name: value for name, value in vars(face).items() if name != "stream"}
                shas = {"stream_sha256": digest(face.stream), "decoded_sha256": digest(values.tobytes())}
                found.append({"frame_number": number, **numbers, **shas})
        assert found == expected["faces"][segment["segment_id"]]


EXAMPLE = bytes.fromhex("01 0990 03 8001 40cc07 616263 6672")
"""Of FORMAT.md."""


def test_both_read_the_example_of_the_format_page() -> None:
    (face,), frame = independent_faces.split(EXAMPLE)
    (found,) = split_stream(EXAMPLE).faces

    assert frame == split_stream(EXAMPLE).frame == b"fr"
    assert (face.left, face.top, face.side, face.angle, face.score) == (-5, 200, 128, 64, 204)
    assert (face.is_outside, face.stream) == (True, b"abc")
    assert region_numbers(found) == {
        "left": -5,
        "top": 200,
        "side": 128,
        "angle": 64,
        "score": 204,
        "is_outside": True,
        "stream_sha256": digest(b"abc"),
    }


@pytest.mark.parametrize("text", ["", "8000", "8020", "01090800 40cc00", "02 0990038001 40cc07 616263"])
def test_both_refuse_what_the_format_page_says_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        independent_faces.split(bytes.fromhex(text))
    with pytest.raises(ValueError, match="face"):
        split_stream(bytes.fromhex(text))
