"""The golden vaults of moved frames decode to the same for ever, with the product and with the second reader."""

from __future__ import annotations

import pytest

from framevault.codecs.dicm.codec import grid_of, load_dicm
from framevault.codecs.dicm.layouts import MOVED
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.spec import thinned
from framevault.storage.index import load_manifests
from tests.golden.content import MOTION_WEIGHTS
from tests.golden.motion_vaults import BACKGROUND, MOTION, Clip
from tests.golden.thin_vaults import SIZE
from tests.storage.independent import vault as independent
from tests.storage.independent.checkpoints import parse_checkpoint
from tests.storage.independent.dicm import MOTION_KINDS, DicmReader
from tests.storage.independent.entropy import StreamReader
from tests.storage.test_golden import FOLDER, digest, expected_of, open_golden, stored_pack
from tests.storage.test_golden_thinned import check_product

CLIPS = {"v1-motion": MOTION, "v1-background": BACKGROUND}
"""Golden vaults, and what is in them."""


@pytest.mark.parametrize(("name", "clip"), CLIPS.items())
def test_the_product_decodes_moved_dicm_latents_to_the_bit(name: str, clip: Clip) -> None:
    whole, thin = clip.version, clip.version + 1

    assert check_product(name, MOTION_WEIGHTS) == {(whole, None), (thin, 1), (thin, 0)}


@pytest.mark.parametrize("name", CLIPS)
def test_the_independent_reader_decodes_moved_dicm_latents_to_the_bit(name: str) -> None:
    vault, videos = independent.open_vault(FOLDER / name), expected_of(name)["videos"]
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


@pytest.mark.parametrize(("name", "clip"), CLIPS.items())
def test_the_vault_has_frames_of_all_kinds_in_the_places_that_were_meant(name: str, clip: Clip) -> None:
    """Without a slice, nothing is moved."""
    vault = independent.open_vault(FOLDER / name)

    for manifest in vault.videos.values():
        (segment,) = manifest["segments"]
        pack = vault.pack(manifest, segment)
        kinds = [StreamReader(pack.stream(n)).symbols([0], MOTION_KINDS)[0] for n in range(len(pack.frames))]
        moved = 0 if manifest.get("slices") == 0 else MOVED

        assert kinds == [
            1 if number in clip.intra else 0 if vectors is None else moved
            for number, vectors in enumerate(clip.vectors)
        ]


@pytest.mark.parametrize("slices", [None, 1])
def test_what_settled_comes_back_in_the_golden_vault(slices: int | None) -> None:
    """Before and after the intra frame in its middle; some of it is coded no more."""
    store = open_golden("v1-background")
    (manifest,) = (manifest for manifest in load_manifests(store) if manifest.slices == slices)
    pack = stored_pack(store, manifest, manifest.segments[0].segment_id)
    spec = BACKGROUND.spec if slices is None else thinned(BACKGROUND.spec, slices=slices)
    video, state = load_dicm(spec).video, SegmentState()
    assert video is not None
    brought_back: dict[int, int] = {}
    lead16_mhw = None

    for number in range(len(pack.frames)):
        before = state.background
        frame = video.decode_all(state, pack.payload(number), grid_of(**SIZE), device="cpu")
        if frame.z_nchw is not None:
            lead16_mhw = frame.latent16_mhw
        elif frame.motion is not None:
            assert before is not None
            assert lead16_mhw is not None
            has_settled_hw = (before.latent16_mhw != lead16_mhw).any(dim=0).numpy()
            is_behind_hw = frame.motion.moved_hw & ~frame.motion.displaced_hw & ~state.coded_hw
            brought_back[number] = int((is_behind_hw & has_settled_hw).sum())

    assert max(len(vectors) for vectors in BACKGROUND.vectors if vectors is not None) == 16
    assert brought_back[13] > 3
    assert brought_back[29] > 3


def test_the_checkpoint_decodes_by_itself() -> None:
    DicmReader(parse_checkpoint(MOTION_WEIGHTS.read_bytes())).check_golden()
