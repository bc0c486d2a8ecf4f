"""The golden vault of thinned streams decodes to the same for ever, with the product and with the second reader."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec, grid_of, load_dicm
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import SegmentState
from framevault.storage.index import load_manifests
from framevault.workers.weights import find_pack_spec
from tests.golden.content import DICM_WEIGHTS
from tests.storage.independent import vault as independent
from tests.storage.independent.checkpoints import parse_checkpoint
from tests.storage.independent.dicm import DicmReader
from tests.storage.test_golden import FOLDER, digest, expected_of, open_golden, stored_pack


def test_the_product_decodes_thinned_dicm_latents_to_the_bit() -> None:
    assert check_product("v1-thinned", DICM_WEIGHTS) == {(3, 0), (3, 1), (4, 0), (4, 1)}


def check_product(name: str, weights: Path) -> set[tuple[int, int | None]]:
    """Check what the product decodes of a golden vault of dicm; return the versions and slices that there are."""
    store, videos = open_golden(name), expected_of(name)["videos"]
    manifests = {manifest.run_fp: manifest for manifest in load_manifests(store)}
    kinds: set[tuple[int, int | None]] = set()

    for video in videos:
        manifest = manifests[video["run_fp"]]
        ((segment_id, frames),) = video["segments"].items()
        pack = stored_pack(store, manifest, segment_id)
        spec = find_pack_spec(pack.header, weights=[str(weights)])
        streams = [pack.payload(number) for number in range(len(frames))]
        size = {"height": pack.header.coded_height, "width": pack.header.coded_width}
        codec = load_dicm(spec)
        latents = decode_latents(codec, streams, grid_of(**size))

        kinds.add((spec.bitstream_version, spec.slices))
        assert spec.slices == manifest.slices == pack.header.settings.get("slices")
        assert [codec.is_independent(stream) for stream in streams] == [frame["is_independent"] for frame in frames]
        assert [digest(latent.int().numpy().astype("<i4").tobytes()) for latent in latents] == [
            frame["decoded_sha256"] for frame in frames
        ]
        assert bool(codec.decoder(**size).decode(streams).isfinite().all())
    return kinds


def decode_latents(codec: DicmCodec, streams: list[bytes], grid: LatentGrid) -> Tensor:
    if not codec.is_video:
        return codec.bitstream.decode(streams, grid, device="cpu")
    assert codec.video is not None
    return codec.video.decode(SegmentState(), streams, grid, device="cpu")


def test_the_independent_reader_decodes_thinned_dicm_latents_to_the_bit() -> None:
    vault, videos = independent.open_vault(FOLDER / "v1-thinned"), expected_of("v1-thinned")["videos"]
    reader = DicmReader(parse_checkpoint(DICM_WEIGHTS.read_bytes()))

    for video in videos:
        manifest = vault.videos[video["video_id"], video["run_fp"]]
        (segment,) = manifest["segments"]
        pack = vault.pack(manifest, segment)
        streams = [pack.stream(number) for number in range(len(pack.frames))]
        slices = pack.header["settings"]["slices"]
        height, width = -(-pack.header["coded_height"] // 16), -(-pack.header["coded_width"] // 16)
        if manifest["bitstream_version"] == 4:
            latents = reader.decode_segment(streams, height=height, width=width, slices=slices)
        else:
            latents = [reader.decode_grid(each, height=height, width=width, slices=slices)[0] for each in streams]

        assert slices == manifest["slices"]
        assert [digest(latent.astype("<i4").tobytes()) for latent in latents] == [
            frame["decoded_sha256"] for frame in video["segments"][segment["segment_id"]]
        ]
