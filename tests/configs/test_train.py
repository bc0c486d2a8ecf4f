"""Settings of a training: what they refuse, and what a resumed one may change."""

from pathlib import Path

import pytest

from framevault.configs.loading import ConfigError, load_job
from framevault.configs.train import TrainDicmJob, changed_keys


def make_job(**values: object) -> TrainDicmJob:
    return load_job(TrainDicmJob, None, overrides={"data": ("frames",), "out": "out", **values})


def test_half_an_hour_is_trained_unless_told_otherwise() -> None:
    assert make_job().trained_minutes == 30
    assert make_job(minutes=5.0).trained_minutes == 5
    assert make_job(steps=7).trained_minutes is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"minutes": 5.0, "steps": 7}, "either minutes or steps"),
        ({"init": "a.safetensors", "from_scratch": True}, "either init or from_scratch"),
        ({"crop": 100}, "crop: should be a multiple of 64, got 100"),
        ({"stages": ("codec", "re")}, "in the order pretrain, re, codec, video"),
        ({"stages": ("codec", "codec")}, "each at most once"),
        ({"stages": ("sleep",)}, "'pretrain', 're', 'codec' or 'video'"),
        ({"architecture": "vgg"}, "'mobilenet_v2'"),
        ({"target_bpp": (0.1, 0.2)}, "8 positive numbers that rise"),
        ({"target_bpp": (0.1,) * 8}, "8 positive numbers that rise"),
        ({"validation_qualities": (3, 9)}, "1 to 8, rising"),
        ({"held_out": 0.6}, "held_out"),
        ({"data": ()}, "data"),
        ({"device": "tpu"}, "device"),
        ({"batchsize": 3}, "did you mean batch_size"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_job(**values)


def test_a_file_holds_every_setting_and_what_is_written_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: [frames, s3://more]\nout: out\nsteps: 3\nlimits: {max_pixels: 1000}\n")

    job = load_job(TrainDicmJob, tmp_path / "a.yaml", overrides={"seed": 4})

    assert (job.data, job.steps, job.seed, job.limits.max_pixels) == (("frames", "s3://more"), 3, 4, 1000)


def test_what_is_trained_may_not_change_but_how_it_runs_may() -> None:
    before = make_job(batch_size=4)

    assert changed_keys(before, make_job(batch_size=4, device="cpu", threads=2, out="moved")) == []
    assert changed_keys(before, make_job(batch_size=5, seed=1)) == ["seed", "batch_size"]
