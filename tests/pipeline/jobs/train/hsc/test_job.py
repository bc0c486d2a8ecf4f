"""The whole command for one domain's codec at toy size: what it writes, how it resumes, and what it refuses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml

from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.hsc.distortion import NO_LIMITS
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.jobs.train import job as train_job
from framevault.pipeline.jobs.train.hsc.start import export_parts, random_models
from tests.media import make_pictures
from tests.pipeline.command_line import Ended, run_command
from tests.pipeline.jobs.train.hsc.toy import SIZES, SMALL
from tests.pipeline.jobs.train.toy import read_rows, timeless

SETTINGS: dict[str, object] = {
    "from_scratch": True,
    "sizes": {name: list(value) if isinstance(value, tuple) else value for name, value in SIZES.items()},
    "batch_size": 2,
    "steps": 4,
    "threads": 1,
    "device": "cpu",
    "precision": "float32",
    "report_steps": 1,
    "validation_pictures": 1,
    "discriminator_start": 0.2,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("data") / "faces", [(64, 64), (80, 72), (48, 48)] * 2)


def train(data: Path, out: Path, *arguments: str | Path, **settings: object) -> Ended:
    """Train at toy size; a setting of None takes a key out."""
    values = {name: value for name, value in {**SETTINGS, **settings}.items() if value is not None}
    config = out.with_name(f"{out.name}.yaml")
    config.write_text(yaml.safe_dump(values))
    return run_command("train", "hsc", "--data", data, "--out", out, "--config", config, *arguments)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A training that nobody disturbed."""
    out = tmp_path_factory.mktemp("trained") / "out"
    ended = train(data, out)
    assert ended.code == 0, ended.stderr
    return out, ended


def stop_after(num_steps: int) -> Callable[[], object]:
    """Return what stands for Ctrl-C after some steps: the wish is asked for once a step."""

    @contextmanager
    def watch() -> Iterator[Callable[[], bool]]:
        asked = 0

        def is_told_to_stop() -> bool:
            nonlocal asked
            asked += 1
            return asked >= num_steps

        yield is_told_to_stop

    return watch


def test_a_training_leaves_a_codec_that_decodes(trained: tuple[Path, Ended]) -> None:
    out, ended = trained
    frames_nchw = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)

    codec = load_hsc(CodecSpec(name="hsc", weights=str(out / "hsc.safetensors")))
    streams = codec.encoder(height=64, width=64).encode(frames_nchw)

    assert codec.decoder(height=64, width=64).decode(streams).shape == frames_nchw.shape
    assert codec.limits != NO_LIMITS
    assert (out / "hsc.safetensors").read_bytes() == (out / "joint.safetensors").read_bytes()
    assert (out / "joint.png").read_bytes().startswith(b"\x89PNG")
    assert f"--codec hsc --weights {out}/hsc.safetensors" in ended.stdout


def test_stages_share_the_budget_and_write_their_figures(trained: tuple[Path, Ended]) -> None:
    out, _ = trained

    rows = read_rows(out, "training")

    assert [(row["stage"], row["step"]) for row in rows] == [
        ("autoencoder", 1),
        ("autoencoder", 2),
        ("autoencoder", 3),
        ("joint", 1),
    ]
    assert {"loss", "rate_bpp", "absolute", "perceptual", "rate_q1", "weight_q8"} <= rows[0].keys()


def test_what_is_measured_are_real_bytes_and_named_distances_of_held_out_pictures(trained: tuple[Path, Ended]) -> None:
    out, _ = trained

    rows = [row for row in read_rows(out, "validation") if row["stage"] == "joint"]

    assert [(row["checkpoint"], row["quality"]) for row in rows] == [
        *(("start", quality) for quality in range(1, 9)),
        *(("trained", quality) for quality in range(1, 9)),
    ]
    for row in rows:
        size, bpp, psnr_db = row["bytes_per_picture"], row["bits_per_pixel"], row["psnr_db"]
        assert isinstance(size, float)
        assert isinstance(psnr_db, float)
        assert size == int(size) > 0  # of one picture
        assert bpp == pytest.approx(8 * size / 64**2)
        assert 0 < psnr_db < 60
        distances = [name for name in row if name.endswith("_distance")]
        assert distances in (["mobilenet_v2_distance"], ["detector_distance"])


def test_stopped_and_run_again_it_ends_where_it_would_have_ended(
    trained: tuple[Path, Ended], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(train_job, "watch_for_stop", stop_after(2))
        stopped = train(data, out)

    again = train(data, out)

    assert stopped.code == 130
    assert again.code == 0, again.stderr
    assert "autoencoder: goes on after 2 steps" in again.stderr
    assert (out / "hsc.safetensors").read_bytes() == (trained[0] / "hsc.safetensors").read_bytes()
    assert timeless(read_rows(out, "training")) == timeless(read_rows(trained[0], "training"))


def test_too_few_pictures_are_said(data: Path, tmp_path: Path) -> None:
    ended = train(data, tmp_path / "out", batch_size=40)

    assert ended.code == 2
    assert "expected at least 40 pictures to train on" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--domain", "cats"), "should be one of face128"),
        (("--stages", "pretrain"), "stages"),
        (("--backbone", "gone.pth"), "gone.pth"),
        (("--stages", "inversion"), "stage inversion needs a trained generator"),
        (("--stages", "joint"), "stage joint starts from a codec"),
    ],
)
def test_wrong_choices_end_with_what_is_wrong(
    data: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = train(data, tmp_path / "out", *arguments)

    assert ended.code == 2
    assert message in ended.stderr


def test_a_start_of_another_resolution_is_refused(trained: tuple[Path, Ended], data: Path, tmp_path: Path) -> None:
    start = trained[0] / "hsc.safetensors"

    ended = train(data, tmp_path / "out", "--init", start, "--domain", "face128", from_scratch=None, sizes=None)

    assert ended.code == 2
    assert f"{start} has resolution 64 instead of 128" in ended.stderr


@pytest.mark.parametrize("settings", [{}, {"from_scratch": None, "sizes": None, "stages": ["joint"]}])
def test_nothing_to_revive_is_refused_before_anything_is_begun(
    data: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    ended = train(data, tmp_path / "out", revive=True, **settings)

    assert ended.code == 2
    assert f"{tmp_path}/out.yaml: revive: should be false where stage autoencoder" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_reviving_parts_that_are_no_codec_yet_is_refused_before_anything_is_begun(data: Path, tmp_path: Path) -> None:
    parts = tmp_path / "inversion.safetensors"
    export_parts(parts, random_models(SMALL).networks, {})

    ended = train(data, tmp_path / "out", "--init", parts, revive=True, from_scratch=None, sizes=None)

    assert ended.code == 2
    assert f"revive: should be false where stage autoencoder starts from {parts}, got true" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_revival_goes_on_where_it_stopped(
    trained: tuple[Path, Ended], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = trained[0] / "hsc.safetensors"
    settings: dict[str, object] = {"revive": True, "stages": ["autoencoder"], "from_scratch": None, "sizes": None}
    straight = train(data, tmp_path / "straight", "--init", start, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(train_job, "watch_for_stop", stop_after(2))
        stopped = train(data, tmp_path / "out", "--init", start, **settings)
    again = train(data, tmp_path / "out", "--init", start, **settings)

    assert (straight.code, stopped.code, again.code) == (0, 130, 0)
    assert "of 6 latent channels were silent, and begin anew" in straight.stderr
    exported = (tmp_path / "out" / "hsc.safetensors").read_bytes()
    assert exported == (tmp_path / "straight" / "hsc.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_train_one_codec(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    ended = train(data, out, "--processes", "2", batch_size=1, steps=4)

    assert ended.code == 0, ended.stderr
    load_hsc(CodecSpec(name="hsc", weights=str(out / "hsc.safetensors")))
