"""The codec's parts do what the codec does."""

import pytest
import torch

from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.dicm.motion import MotionField
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import SegmentState
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.jobs.bench.dicm_parts import DicmParts
from tests.codecs.dicm.toy import texture

SIZE = {"height": 96, "width": 160}


@pytest.mark.parametrize("version", [1, 2, 9, 13])
def test_batches_are_coded_as_the_encoder_codes_them(version: int) -> None:
    """Also where frames are moved: finding that takes time."""
    codec = load_dicm(CodecSpec(name="dicm", quality=4, bitstream_version=version))
    picture = texture(1, 96, 160)
    calls = torch.split(torch.stack([picture.roll(6 * number, dims=2) for number in range(6)]), 3)
    encoder = codec.encoder(**SIZE)

    coded = DicmParts(codec).code(calls)

    assert [stream for batch in coded for stream in batch.streams] == [
        stream for frames in calls for stream in encoder.encode(frames)
    ]
    if version >= 9:
        assert codec.video is not None
        state = SegmentState()
        fields: list[MotionField | None] = [
            codec.video.decode_all(state, stream, LatentGrid(6, 10), device="cpu").motion
            for batch in coded
            for stream in batch.streams
        ]
        assert sum(field is not None for field in fields) > 3
