"""Stage `video`: clips are coded as the encoder codes them, and a checkpoint gets a video mode that works."""

from pathlib import Path

import numpy as np
import pytest
import torch

from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.temporal_model import TemporalNetworks
from framevault.codecs.entropy.quantisation import RoundedConv2d
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.jobs.train.codec_start import spread_temporal
from framevault.pipeline.jobs.train.crops import random_clips
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.predicted import code_clip
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import run_command
from tests.pipeline.jobs.train.toy import make_data, read_rows, write_settings

CONFIG = DicmConfig(wide=8, deep=8, latent=8, hyper=4, slices=(2, 6), context=8, temporal=8)


@pytest.fixture
def networks() -> TemporalNetworks:
    torch.manual_seed(0)
    networks = TemporalNetworks(CONFIG, RoundedConv2d)
    spread_temporal(networks)
    return networks


def test_a_still_clip_costs_nothing(networks: TemporalNetworks) -> None:
    latents = torch.round(4 * torch.randn(1, 8, 5, 6)).expand(3, -1, -1, -1)

    coded = code_clip(networks, latents + 0.3, rule=SkipRule(), num_slices=2)

    assert float(coded.bits) == 0
    assert [int(flags.sum()) for flags in coded.flags] == [0, 0]


def test_only_what_moved_is_coded_and_every_tensor_gets_a_gradient(networks: TemporalNetworks) -> None:
    latents = 4 * torch.randn(1, 8, 5, 6).repeat(3, 1, 1, 1)
    latents[1:, :, 2:4, 1:3] += 2
    latents[2, :, 0, 0] -= 2

    coded = code_clip(networks, latents, rule=SkipRule(), num_slices=2)
    coded.bits.backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    assert np.argwhere(coded.flags[0]).tolist() == [[2, 1], [2, 2], [3, 1], [3, 2]]
    assert np.argwhere(coded.flags[1]).tolist() == [[0, 0]]
    assert float(coded.bits.detach()) > 0
    missing = [name for name, p in networks.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


def test_slices_that_predicted_frames_lack_stay_as_they_were(networks: TemporalNetworks) -> None:
    latents = 4 * torch.randn(1, 8, 5, 6).repeat(3, 1, 1, 1)
    latents[1:, :2, 2, 1] += 2
    latents[1:, 2:, 4, 4] += 9

    coded = code_clip(networks, latents, rule=SkipRule(), num_slices=1)
    coded.bits.backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    assert np.argwhere(coded.flags[0]).tolist() == [[2, 1]]
    assert not coded.flags[1].any()
    learning = {name for name, p in networks.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert {name.split(".")[1] for name in learning if name.split(".")[0] != "temporal"} == {"0"}


def test_frames_of_a_clip_are_cut_in_the_same_place() -> None:
    first = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    pictures = PictureSet((first, first.copy(), first.copy()), ("a", "b", "c"), clips=((0, 1, 2),))

    frames = random_clips(pictures, np.random.default_rng(1), num_clips=4, num_frames=5, side=64)

    assert len(frames) == 5
    assert all(torch.equal(frame, frames[0]) for frame in frames)
    assert not torch.equal(frames[0][0], frames[0][1])


@pytest.mark.slow
def test_from_scratch_a_codec_gets_a_video_mode_that_decodes(tmp_path: Path) -> None:
    make_video(tmp_path / "data.mp4", VideoSpec(num_frames=20, fps=10))
    config = write_settings(tmp_path / "a.yaml", steps=12, video_fps=10, held_out=0, batch_size=8)

    ended = run_command("train", "dicm", "--data", tmp_path / "data.mp4", "--out", tmp_path / "out", "--config", config)

    assert ended.code == 0, ended.stderr
    rows = [row for row in read_rows(tmp_path / "out", "training") if row["stage"] == "video"]
    assert [row["step"] for row in rows] == [2]
    weights = tmp_path / "out" / "dicm.safetensors"
    codec = load_dicm(CodecSpec(name="dicm", weights=str(weights), bitstream_version=2))
    assert codec.networks.config.motion == 40
    assert "motion: maps are fitted to 80 crops, enlarged" in ended.stderr.replace("\n", " ")
    frames = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8).repeat(3, 1, 1, 1)
    streams = codec.encoder(height=64, width=96).encode(frames)
    assert [codec.is_independent(stream) for stream in streams] == [True, False, False]
    assert codec.decoder(height=64, width=96).decode(streams).shape == (3, 24, 16, 24)
    assert f"--weights {weights}" in ended.stdout


def test_pictures_that_do_not_follow_one_another_are_refused(tmp_path: Path) -> None:
    config = write_settings(tmp_path / "a.yaml", stages=["video"])

    ended = run_command(
        "train", "dicm", "--data", make_data(tmp_path / "data"), "--out", tmp_path / "out", "--config", config
    )

    assert ended.code == 2
    assert "raise video_fps" in ended.stderr
