"""The shipped codec in its trainable form: what training says of rates is what real streams take."""

import pytest
import torch
from skimage.data import astronaut

from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.hsc.training import restore_batch
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.jobs.train.hsc.squares import signed
from framevault.pipeline.jobs.train.hsc.start import make_start
from tests.pipeline.jobs.train.hsc.toy import make_setup

FACE = (slice(0, 256, 2), slice(96, 352, 2))
"""Rows and columns around the face of NASA's portrait, 128 of each."""


def test_bits_of_symbols_are_those_of_real_streams() -> None:
    shipped = CodecSpec(name="hsc").checkpoint_path
    models = make_start(make_setup(init=str(shipped))).models
    models.networks.eval()
    rgb_hwc = astronaut()[FACE].copy()  # type: ignore[no-untyped-call]  # scikit-image has no types
    frames_nchw = torch.from_numpy(rgb_hwc).permute(2, 0, 1)[None].contiguous()
    qualities = (1, 3, 5, 8)

    with torch.no_grad():
        restored = restore_batch(
            models,
            signed(frames_nchw, torch.device("cpu")).expand(len(qualities), -1, -1, -1),
            quality_n=torch.tensor(qualities) - 1,
            num_slices_n=torch.full((len(qualities),), 8),
        )

    streams = [
        load_hsc(CodecSpec(name="hsc", quality=quality)).encoder(height=128, width=128).encode(frames_nchw)[0]
        for quality in qualities
    ]
    # Whole bytes and the coder's end; weights that are not rounded yet; bfloat16 in the encoder, where there is any.
    assert (restored.symbol_bits_n / 8).tolist() == pytest.approx([len(each) for each in streams], rel=0.05, abs=4)
