"""`framevault restore` and `framevault similar --face` on a vault of codec hsc, with a toy checkpoint."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.hsc.directions import Direction, directions_path, generator_fingerprint, save_directions
from framevault.codecs.hsc.editing import move, shift_along
from framevault.codecs.spec import CodecSpec
from tests.codecs.hsc.toy import TOY_CONFIG, toy_tensors
from tests.pipeline.command_line import Ended, query_rows, run_command

NUM_FACES = 5
SIDE = 64
SHAPE = (TOY_CONFIG.num_styles, TOY_CONFIG.style)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with directions beside it, pictures, and a vault of them."""
    folder = tmp_path_factory.mktemp("faces")
    toy = save_lively(folder / "toy.safetensors")
    random = torch.Generator().manual_seed(11)
    items = [Direction(name=n, about=n, shift_ld=torch.randn(SHAPE, generator=random).half()) for n in ("age", "smile")]
    save_directions(directions_path(toy), items, generator=generator_fingerprint(toy))
    draw_pictures(folder / "stills")
    ended = run_command("compress", folder / "stills", folder / "vault", "--codec", "hsc", "--weights", toy)
    assert ended.code == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def codec(folder: Path) -> HscCodec:
    return load_hsc(CodecSpec(name="hsc", weights=str(folder / "toy.safetensors")))


def save_lively(path: Path) -> Path:
    """Write the toy checkpoint, its core symbols so large that no two pictures share them."""
    tensors, config = toy_tensors()
    tensors["networks.style_codec.log_gain"] += 4
    save_checkpoint(path, tensors, codec="hsc", config=config)
    return path


def draw_pictures(folder: Path) -> None:
    """Write pictures that have little in common: random blocks, as large and as strong as their number says."""
    folder.mkdir()
    random = np.random.default_rng(12)
    for number in range(NUM_FACES):
        blocks = 2**number
        rgb_hwc = random.integers(0, 256, (blocks, blocks, 3), np.uint8).repeat(SIDE // blocks, 0)
        Image.fromarray(rgb_hwc.repeat(SIDE // blocks, 1)).save(folder / f"{number:03d}.png")


def restore(folder: Path, out: Path, *arguments: str | Path) -> Ended:
    return run_command("restore", folder / "vault", out, "--weights", folder / "toy.safetensors", *arguments)


def pictures(out: Path) -> NDArray[np.uint8]:
    """Return restored pictures, [N, H, W, 3]."""
    return np.stack([np.array(Image.open(path)) for path in sorted((out / "stills").iterdir())])


def streams(folder: Path, codec: HscCodec) -> list[bytes]:
    """Return what the pictures are stored as, coded anew, as the worker does."""
    frames_nhwc = np.stack([np.array(Image.open(path)) for path in sorted((folder / "stills").iterdir())])
    encoder = codec.encoder(height=SIDE, width=SIDE)
    return encoder.encode(torch.from_numpy(frames_nhwc).permute(0, 3, 1, 2).contiguous())


def assert_near(found_nhwc: NDArray[np.uint8], expected_nchw: torch.Tensor) -> None:
    """Compare pictures; floats may round a value of 255 the other way in another batch."""
    expected_nhwc = expected_nchw.permute(0, 2, 3, 1).numpy()
    assert found_nhwc.shape == expected_nhwc.shape
    assert np.abs(found_nhwc.astype(int) - expected_nhwc).max() <= 1


@pytest.mark.parametrize(("given", "slices"), [("core", 0), ("0", 0), ("1", 1), ("2", 2), ("3", 3), (None, None)])
def test_every_number_of_slices_gives_the_codec_s_pictures(
    folder: Path, tmp_path: Path, codec: HscCodec, given: str | None, slices: int | None
) -> None:
    decoder = codec.decoder(height=SIDE, width=SIDE)
    latents = decoder.decode_latents(streams(folder, codec), slices=slices)

    ended = restore(folder, tmp_path / "out", *(() if given is None else ("--slices", given)))

    assert ended.code == 0, ended.stderr
    assert_near(pictures(tmp_path / "out"), decoder.render(latents.styles_nld, latents.feature_nchw))


def test_of_nothing_comes_the_mean_face(folder: Path, tmp_path: Path, codec: HscCodec) -> None:
    decoder = codec.decoder(height=SIDE, width=SIDE)
    mean = decoder.mean_latents(NUM_FACES)

    ended = restore(folder, tmp_path / "out", "--slices", "nothing")

    assert ended.code == 0, ended.stderr
    assert_near(pictures(tmp_path / "out"), decoder.render(mean.styles_nld, mean.feature_nchw))
    assert (pictures(tmp_path / "out") == pictures(tmp_path / "out")[:1]).all()


def test_edits_are_made_in_the_compressed_domain(folder: Path, tmp_path: Path, codec: HscCodec) -> None:
    random = torch.Generator().manual_seed(11)
    age_ld, smile_ld = (torch.randn(SHAPE, generator=random).half().float() for _ in range(2))
    decoder = codec.decoder(height=SIDE, width=SIDE)
    shift = shift_along(Direction(name="both", about="", shift_ld=1.5 * smile_ld - age_ld), 1.0)
    moved = move(decoder.decode_latents(streams(folder, codec)), shift, decoder.own_feature)

    ended = restore(folder, tmp_path / "out", "--edit", "smile=+1.5", "--edit", "age=-1")
    restore(folder, tmp_path / "plain")

    assert ended.code == 0, ended.stderr
    assert_near(pictures(tmp_path / "out"), decoder.render(moved.styles_nld, moved.feature_nchw))
    assert np.abs(pictures(tmp_path / "out").astype(int) - pictures(tmp_path / "plain")).mean() > 3


def test_an_edit_of_zero_gives_the_same_picture_to_the_bit(folder: Path, tmp_path: Path) -> None:
    restore(folder, tmp_path / "plain")
    ended = restore(folder, tmp_path / "out", "--edit", "smile=0")

    assert ended.code == 0, ended.stderr
    assert np.array_equal(pictures(tmp_path / "out"), pictures(tmp_path / "plain"))


def test_faces_become_a_video_and_a_sheet(folder: Path, tmp_path: Path) -> None:
    video = restore(folder, tmp_path / "out", "--as", "video", "--slices", "1")
    sheet = restore(folder, tmp_path / "sheet.png", "--as", "sheet")

    assert (video.code, sheet.code) == (0, 0), video.stderr + sheet.stderr
    assert (tmp_path / "out" / "stills.mp4").stat().st_size > 0
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 2 * SIDE


def test_an_unknown_edit_names_the_known_ones(folder: Path, tmp_path: Path) -> None:
    ended = restore(folder, tmp_path / "out", "--edit", "beard=1")

    assert ended.code == 2
    assert "edit 'beard' is unknown" in ended.stderr
    assert "has age, smile" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_directions_of_another_generator_are_refused(folder: Path, tmp_path: Path) -> None:
    items = [Direction(name="smile", about="", shift_ld=torch.ones(SHAPE))]
    save_directions(tmp_path / "other.safetensors", items, generator="cd" * 32)

    ended = restore(folder, tmp_path / "out", "--edit", "smile=1", "--directions", tmp_path / "other.safetensors")

    assert ended.code == 2
    assert "has directions of generator cdcdcdcdcdcdcdcd" in ended.stderr


def test_a_checkpoint_without_directions_says_so(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "toy.safetensors", tmp_path / "alone.safetensors")
    vault = Path(shutil.copytree(folder / "vault", tmp_path / "vault"))
    shutil.rmtree(vault / "directions")

    ended = run_command(
        "restore", vault, tmp_path / "out", "--weights", tmp_path / "alone.safetensors", "--edit", "smile=1"
    )

    assert ended.code == 2
    assert "alone.directions.safetensors is not there" in ended.stderr
    generator = generator_fingerprint(folder / "toy.safetensors")
    assert f"{vault} keeps none of generator {generator[:16]}: name a file with --directions" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_slices_out_of_range_are_a_usage_error(folder: Path, tmp_path: Path) -> None:
    ended = restore(folder, tmp_path / "out", "--slices", "4")

    assert ended.code == 2
    assert "slices must be nothing, core, or 0 to 3, which the streams have, got 4" in ended.stderr


def test_a_thinned_vault_is_restored_as_the_whole_one_is_with_so_many_slices(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vault", tmp_path / "vault")
    thinned = run_command("thin", tmp_path / "vault", "--slices", "1", "--weights", folder / "toy.safetensors")
    assert thinned.code == 0, thinned.stderr

    restore(folder, tmp_path / "whole", "--slices", "1")
    ended = run_command("restore", tmp_path / "vault", tmp_path / "out", "--weights", folder / "toy.safetensors")
    too_many = run_command(
        "restore", tmp_path / "vault", tmp_path / "more", "--weights", folder / "toy.safetensors", "--slices", "2"
    )

    assert ended.code == 0, ended.stderr
    found_nhwc, expected_nhwc = pictures(tmp_path / "out"), pictures(tmp_path / "whole")
    assert np.abs(found_nhwc.astype(int) - expected_nhwc).max() <= 1
    assert too_many.code == 2
    assert "0 to 1, which the streams have, got 2" in too_many.stderr


def test_weights_that_are_not_here_are_a_usage_error(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vault", tmp_path / "vault", ignore=shutil.ignore_patterns("checkpoints"))

    ended = run_command("restore", tmp_path / "vault", tmp_path / "out", "--checkpoint-cache", tmp_path / "cache")

    assert ended.code == 2
    assert "video stills" in ended.stderr


@pytest.mark.parametrize("number", range(NUM_FACES))
def test_the_face_most_like_a_picture_is_its_own(folder: Path, number: int) -> None:
    ended = run_command(
        "similar", folder / "vault", "--face", "--image", folder / "stills" / f"{number:03d}.png", "--json",
        "--weights", folder / "toy.safetensors", "--top", "2",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    matches = json.loads(ended.stdout.splitlines()[-1])["matches"]
    assert matches[0]["video_frame"] == number
    assert matches[0]["distance"] == pytest.approx(0, abs=1e-3)
    assert matches[1]["distance"] > matches[0]["distance"]


def test_faces_are_looked_through_once_and_the_vault_stays_clean(folder: Path) -> None:
    search = (
        "similar", folder / "vault", "--face", "--image", folder / "stills" / "000.png", "--json",
        "--weights", folder / "toy.safetensors",
    )  # fmt: skip

    run_command(*search)
    again = run_command(*search)

    assert json.loads(again.stdout.splitlines()[-1])["num_cached"] == 1
    assert run_command("verify", folder / "vault").code == 0
    assert query_rows(folder / "vault", "select count(*) as n from labels") == [{"n": 0}]


def test_a_vault_without_faces_can_not_be_searched_for_them(folder: Path, tmp_path: Path) -> None:
    run_command("compress", folder / "stills", tmp_path / "vault", "--codec", "raw")

    ended = run_command("similar", tmp_path / "vault", "--face", "--image", folder / "stills" / "000.png")

    assert ended.code == 2
    assert "no chosen video holds faces" in ended.stderr


def test_other_videos_of_the_vault_are_left_out_and_it_is_said(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vault", tmp_path / "vault")
    run_command("compress", folder / "stills", tmp_path / "vault", "--codec", "raw")

    ended = run_command(
        "similar", tmp_path / "vault", "--face", "--image", folder / "stills" / "001.png",
        "--weights", folder / "toy.safetensors",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    assert "1 chosen segments hold no faces of codec hsc" in ended.stderr
    assert "Faces most like" in ended.stdout
