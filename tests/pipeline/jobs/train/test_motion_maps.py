"""What a stage adds when it has ended: maps of motion that fit the codec, and tables counted on the clips.

Letters in shapes: N frames, H and W pixels.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.motion_checkpoint import motion_names
from framevault.codecs.dicm.video_checkpoint import video_names
from framevault.codecs.spec import CodecSpec
from framevault.configs.train import TrainDicmJob
from framevault.pipeline.jobs.train.codec_stage import CodecStage
from framevault.pipeline.jobs.train.motion_maps import complete_motion, renew_motion
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import StageSetup
from framevault.pipeline.jobs.train.video_stage import VideoStage
from framevault.pipeline.jobs.train.world import World

SHIPPED = CodecSpec(name="dicm").checkpoint_path or Path()

HEIGHT, WIDTH = 160, 224

TABLES = ("tables.moved", "tables.choices")


def moving_frames(num_frames: int, *, seed: int = 0, right: int = 6, down: int = 4) -> Tensor:
    """Return a textured picture that a camera pans over, RGB uint8 [N, 3, H, W]; pixels a frame, even numbers."""
    random = torch.Generator().manual_seed(seed)
    shape = (HEIGHT + down * num_frames, WIDTH + right * num_frames)
    scene_1chw = torch.zeros(1, 3, *shape)
    for cell, weight in ((6, 30.0), (24, 60.0), (80, 60.0)):
        coarse_1chw = torch.randn(1, 3, shape[0] // cell + 2, shape[1] // cell + 2, generator=random)
        scene_1chw += weight * torch.nn.functional.interpolate(coarse_1chw, size=shape, mode="bicubic")
    scene_chw = (scene_1chw[0] + 128).clamp(0, 255).byte()
    frames = [
        scene_chw[:, down * n : down * n + HEIGHT, right * n : right * n + WIDTH].clone() for n in range(num_frames)
    ]
    return torch.stack(frames)


def picture_set(frames_nchw: Tensor, *, num_clips: int = 1) -> PictureSet:
    """Return pictures, as many frames to a clip."""
    rgb = tuple(np.ascontiguousarray(rgb_hwc) for rgb_hwc in frames_nchw.permute(0, 2, 3, 1).numpy())
    length = len(rgb) // max(1, num_clips)
    clips = tuple(tuple(range(length * n, length * (n + 1))) for n in range(num_clips))
    return PictureSet(rgb, tuple(map(str, range(len(rgb)))), clips)


PANNED = picture_set(torch.cat([moving_frames(4, seed=seed) for seed in range(2)]), num_clips=2)


def make_setup(
    pictures: PictureSet, *, said: list[str] | None = None, earlier: Path | None = None, **settings: object
) -> StageSetup[TrainDicmJob]:
    values = {"data": ("x",), "out": "out", "batch_size": 4, "crop": 128, **settings}
    notes = [] if said is None else said
    return StageSetup(
        job=TrainDicmJob.model_validate(values),
        device=torch.device("cpu"),
        world=World(),
        pictures=pictures,
        draw_samples=lambda draw, num: [draw(pictures, np.random.default_rng(n)) for n in range(num)],
        say=notes.append,
        earlier={} if earlier is None else {"codec": earlier},
    )


def without(names: set[str], path: Path, **config: object) -> Path:
    """Write the shipped checkpoint without some tensors."""
    tensors, config_json = load_checkpoint(SHIPPED, codec="dicm")
    kept = {name: tensor for name, tensor in tensors.items() if name not in names}
    save_checkpoint(path, kept, codec="dicm", config={**config_json, **config})
    return path


def without_motion(path: Path) -> Path:
    return without(motion_names(shipped_config()), path, motion=0)


def shipped_config() -> DicmConfig:
    return DicmConfig.from_json(load_checkpoint(SHIPPED, codec="dicm")[1])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return copies of a checkpoint's tensors: others change with the file."""
    return {name: tensor.clone() for name, tensor in load_checkpoint(path, codec="dicm")[0].items()}


def load(path: Path, version: int) -> DicmCodec:
    """Load a codec, which decodes its golden frames, as it codes predicted frames."""
    return load_dicm(CodecSpec(name="dicm", weights=str(path), bitstream_version=version)).restricted_to(2)


def size_bytes(path: Path, version: int, frames_nchw: Tensor) -> int:
    """Return what all frames but the first take; they are decoded, too."""
    codec = load(path, version)
    streams = codec.encoder(height=HEIGHT, width=WIDTH).encode(frames_nchw)
    features_nchw = codec.decoder(height=HEIGHT, width=WIDTH).decode(streams)
    assert features_nchw.shape == (len(frames_nchw), 24, HEIGHT // 4, WIDTH // 4)
    return sum(map(len, streams[1:]))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """What stage `video` leaves of a codec that had no maps, and what it said."""
    folder = tmp_path_factory.mktemp("fitted")
    said: list[str] = []
    setup = make_setup(PANNED, said=said, earlier=without_motion(folder / "codec.safetensors"))
    VideoStage(setup).export(folder / "video.safetensors")
    complete_motion(folder / "video.safetensors", setup)
    return folder / "video.safetensors", said


@pytest.mark.parametrize("version", [9, 13])
def test_a_codec_gets_moved_frames_that_cost_less_on_a_clip_that_it_never_saw(
    fitted: tuple[Path, list[str]], version: int
) -> None:
    path, said = fitted
    frames_nchw = moving_frames(5, seed=99)

    moved, predicted = (size_bytes(path, each, frames_nchw) for each in (version, 2))

    assert moved < 0.75 * predicted
    assert said == ["motion: maps are fitted to 32 crops"]


def test_channels_of_the_slices_that_are_usually_kept_are_carried(fitted: tuple[Path, list[str]]) -> None:
    tensors, config_json = load_checkpoint(fitted[0], codec="dicm")

    config = DicmConfig.from_json(config_json)
    assert config.motion == sum(config.slices[:2]) == 40
    assert tensors["motion.maps"].shape == (64, 40, 360)
    assert video_names(config) <= tensors.keys()
    assert tensors.keys() == read_tensors(SHIPPED).keys()


def test_it_is_the_same_to_the_byte_each_time(tmp_path: Path) -> None:
    paths = [without_motion(tmp_path / f"{name}.safetensors") for name in ("one", "other")]

    for path in paths:
        complete_motion(path, make_setup(PANNED, crop=64))

    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_stage_video_keeps_the_maps_of_its_codec_and_counts_anew(tmp_path: Path) -> None:
    path = tmp_path / "video.safetensors"
    said: list[str] = []
    setup = make_setup(PANNED, said=said)

    VideoStage(setup).export(path)
    exported = read_tensors(path)
    complete_motion(path, setup)

    shipped = read_tensors(SHIPPED)
    completed, config_json = load_checkpoint(path, codec="dicm")
    assert all(torch.equal(exported[name], shipped[name]) for name in ("motion.maps", *TABLES))
    assert torch.equal(completed["motion.maps"], shipped["motion.maps"])
    assert [torch.equal(completed[name], shipped[name]) for name in TABLES] == [False, False]
    assert config_json == asdict(shipped_config()) | {"slices": [16, 24, 40, 48]}
    assert load(path, 9).video is not None
    assert said == []


def test_where_nothing_moves_the_tables_stay_and_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "video.safetensors"
    path.write_bytes(SHIPPED.read_bytes())
    still = picture_set(moving_frames(1).expand(4, -1, -1, -1))
    said: list[str] = []

    complete_motion(path, make_setup(still, said=said))

    assert path.read_bytes() == SHIPPED.read_bytes()
    assert said == ["motion: nothing is seen to move in 12 clips, so it has the tables of the start"]


def test_a_new_codec_that_saw_nothing_move_has_tables_that_know_nothing(tmp_path: Path) -> None:
    path = without_motion(tmp_path / "video.safetensors")
    still = picture_set(moving_frames(1).expand(4, -1, -1, -1))
    said: list[str] = []

    complete_motion(path, make_setup(still, said=said, crop=64))

    tensors = read_tensors(path)
    assert [len(set(tensors[name].tolist())) <= 2 for name in TABLES] == [True, True]
    assert said[1] == "motion: nothing is seen to move in 12 clips, so it has the tables that know nothing"
    assert load(path, 9).video is not None


def test_too_small_pictures_are_enlarged_and_it_is_said(tmp_path: Path) -> None:
    path = without_motion(tmp_path / "video.safetensors")
    said: list[str] = []

    complete_motion(path, make_setup(picture_set(moving_frames(2)[:, :, :70, :60]), said=said, crop=64))

    assert said[0] == ("motion: maps are fitted to 8 crops, enlarged, since no picture is as large as 80 x 80 pixels")
    assert load(path, 9).video is not None


def test_stage_codec_hands_maps_on_until_those_of_its_own_are_fitted(tmp_path: Path) -> None:
    path = tmp_path / "codec.safetensors"
    said: list[str] = []
    setup = make_setup(picture_set(moving_frames(2), num_clips=0), said=said, crop=64)

    CodecStage(setup).export(path)
    handed_on = read_tensors(path)
    assert load(path, 9).video is not None
    renew_motion(path, setup)

    shipped = read_tensors(SHIPPED)
    renewed = read_tensors(path)
    assert torch.equal(handed_on["motion.maps"], shipped["motion.maps"])
    assert not torch.equal(renewed["motion.maps"], shipped["motion.maps"])
    assert all(torch.equal(renewed[name], shipped[name]) for name in TABLES)
    assert load(path, 9).video is not None
    assert said[-2:] == [
        "motion: maps are fitted to 8 crops",
        "motion: nothing is seen to move in 0 clips, so it has the tables of the start",
    ]


def test_a_codec_without_video_mode_is_left_as_it_is(tmp_path: Path) -> None:
    path = without(video_names(shipped_config()), tmp_path / "codec.safetensors", temporal=0, motion=0)
    before = path.read_bytes()

    renew_motion(path, make_setup(PANNED))

    assert path.read_bytes() == before
