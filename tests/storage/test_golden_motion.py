"""The golden vault of moved frames decodes to the same for ever, with the product and with the second reader."""

from __future__ import annotations

from framevault.codecs.dicm.video import MOVED
from tests.golden.content import MOTION_WEIGHTS
from tests.golden.motion_vaults import INTRA, VECTORS
from tests.storage.independent import vault as independent
from tests.storage.independent.checkpoints import parse_checkpoint
from tests.storage.independent.dicm import MOTION_KINDS, DicmReader
from tests.storage.independent.entropy import StreamReader
from tests.storage.test_golden import FOLDER, digest, expected_of
from tests.storage.test_golden_thinned import check_product

NAME = "v1-motion"


def test_the_product_decodes_moved_dicm_latents_to_the_bit() -> None:
    assert check_product(NAME, MOTION_WEIGHTS) == {(9, None), (10, 1), (10, 0)}


def test_the_independent_reader_decodes_moved_dicm_latents_to_the_bit() -> None:
    vault, videos = independent.open_vault(FOLDER / NAME), expected_of(NAME)["videos"]
    reader = DicmReader(parse_checkpoint(MOTION_WEIGHTS.read_bytes()))

    for video in videos:
        manifest = vault.videos[video["video_id"], video["run_fp"]]
        (segment,) = manifest["segments"]
        pack = vault.pack(manifest, segment)
        streams = [pack.stream(number) for number in range(len(pack.frames))]
        slices, version = pack.header["settings"].get("slices"), manifest["bitstream_version"]
        height, width = -(-pack.header["coded_height"] // 16), -(-pack.header["coded_width"] // 16)
        latents = reader.decode_segment(streams, height=height, width=width, slices=slices, version=version)

        assert slices == manifest.get("slices")
        assert [digest(latent.astype("<i4").tobytes()) for latent in latents] == [
            frame["decoded_sha256"] for frame in video["segments"][segment["segment_id"]]
        ]


def test_the_vault_has_frames_of_all_kinds_in_the_places_that_were_meant() -> None:
    """Without a slice, nothing is moved."""
    vault = independent.open_vault(FOLDER / NAME)

    for manifest in vault.videos.values():
        (segment,) = manifest["segments"]
        pack = vault.pack(manifest, segment)
        kinds = [StreamReader(pack.stream(n)).symbols([0], MOTION_KINDS)[0] for n in range(len(pack.frames))]
        moved = 0 if manifest.get("slices") == 0 else MOVED

        assert kinds == [
            1 if number in INTRA else 0 if vectors is None else moved for number, vectors in enumerate(VECTORS)
        ]


def test_the_checkpoint_decodes_by_itself() -> None:
    DicmReader(parse_checkpoint(MOTION_WEIGHTS.read_bytes())).check_golden()
