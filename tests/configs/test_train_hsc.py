"""Settings of the training of one domain's codec: what they refuse."""

from pathlib import Path

import pytest

from framevault.codecs.hsc.config import HscConfig
from framevault.configs.loading import ConfigError, load_job
from framevault.configs.train_hsc import TrainHscJob


def make_job(**values: object) -> TrainHscJob:
    return load_job(TrainHscJob, None, overrides={"data": ("faces",), "out": "out", **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stages": ("joint", "codec")}, "in the order generator, inversion, codec, autoencoder, joint"),
        ({"stages": ("video",)}, "'generator', 'inversion', 'codec', 'autoencoder' or 'joint'"),
        ({"domain": "cats"}, "domain: should be one of face128"),
        ({"sizes": {"width": 3}}, "sizes: "),
        ({"sizes": {"resolution": 96}}, "sizes: channels must have one entry a resolution"),
        ({"target_bytes": (100, 50)}, "8 positive numbers that rise"),
        ({"init": "a", "generator": "b"}, "either init or generator"),
        ({"minutes": 5.0, "steps": 7}, "either minutes or steps"),
        ({"discriminator_start": 1.0}, "discriminator_start"),
        ({"crop": 192}, "crop"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_job(**values)


def test_sizes_change_those_of_the_domain(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: [x]\nout: out\nsizes: {core: 64, slices: [16, 16]}\n")

    job = load_job(TrainHscJob, tmp_path / "a.yaml", overrides={})

    assert job.chosen_sizes() == HscConfig(core=64, slices=(16, 16))


def test_sizes_are_the_starts_unless_something_is_chosen() -> None:
    assert make_job().chosen_sizes() is None
    assert make_job(domain="face128").chosen_sizes() == HscConfig()
