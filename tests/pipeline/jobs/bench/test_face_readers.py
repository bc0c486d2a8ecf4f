"""Tests of what machines read of coded faces."""

import pytest
import torch

from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.jobs.bench.coders import PixelCoder
from framevault.pipeline.jobs.bench.face_coders import FrameCoder
from framevault.pipeline.jobs.bench.face_readers import BOTH, CORE, PIXELS, HscReader, PictureReader
from framevault.pipeline.jobs.train.hsc import perceptual
from framevault.pipeline.jobs.train.hsc.perceptual import PerceptualNetwork, make_perceptual
from tests.codecs.hsc.toy import TOY_CONFIG, save_toy
from tests.pipeline.jobs.bench.toy_faces import SIDE, toy_faces


@pytest.fixture(scope="module")
def hsc(tmp_path_factory: pytest.TempPathFactory) -> HscCodec:
    return load_hsc(CodecSpec(name="hsc", weights=str(save_toy(tmp_path_factory.mktemp("toy") / "toy.safetensors"))))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> PerceptualNetwork:
    monkeypatch.setattr(perceptual, "find_weights", lambda name: None)
    return make_perceptual(None, precision=torch.float32)


def test_meaning_is_read_from_real_streams_and_core_symbols_from_thinned_ones(
    hsc: HscCodec, network: PerceptualNetwork
) -> None:
    faces_nchw = toy_faces(18)

    reading = HscReader(hsc=hsc, network=network).read(faces_nchw)

    # In batches of the reader's size, for the float networks may round otherwise in others.
    batches = torch.split(faces_nchw, 16)
    streams = [stream for batch in batches for stream in hsc.encoder(height=SIDE, width=SIDE).encode(batch)]
    decoder = hsc.decoder(height=SIDE, width=SIDE)
    assert reading.sizes_n[BOTH].tolist() == reading.sizes_n[PIXELS].tolist() == [len(stream) for stream in streams]
    assert (reading.sizes_n[CORE] < reading.sizes_n[BOTH]).all()
    assert torch.equal(reading.search_nm[CORE], decoder.decode_core(streams))
    width = TOY_CONFIG.num_styles * TOY_CONFIG.style
    assert reading.places_nm[CORE].shape == (18, width)
    assert reading.places_nm[BOTH].shape == (18, width + TOY_CONFIG.split_channels * TOY_CONFIG.split**2)
    assert reading.places_nm[PIXELS].shape == (18, 3 * 32 * 32)


def test_uncompressed_pictures_are_read_as_they_are(network: PerceptualNetwork) -> None:
    faces_nchw = toy_faces(5)

    reading = PictureReader(coder=FrameCoder(coder=PixelCoder()), network=network).read(faces_nchw)

    halved_nchw = faces_nchw.float().reshape(5, 3, 32, 2, 32, 2).mean(dim=(3, 5))
    assert torch.allclose(reading.places_nm[PIXELS], halved_nchw.flatten(1))
    assert len(reading.search_nm["detector"]) == 5
    assert not torch.allclose(reading.places_nm["detector"][0], reading.places_nm["detector"][1])
