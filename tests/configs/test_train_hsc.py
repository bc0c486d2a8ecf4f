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
        ({"revive": True, "from_scratch": True}, r"revive: .* starts from random networks \(from_scratch\)"),
        ({"revive": True, "stages": ("joint",)}, r"revive: .* is not trained \(stages are joint\), got True"),
        ({"revive": True, "generator": "g.pt"}, r"is not trained \(stages are inversion, codec, joint\), got True"),
        (
            {"revive": True, "generator": "g.pt", "stages": ("autoencoder",)},
            r"revive: .* starts from a generator \(g.pt\) alone",
        ),
        ({"revive": True, "stages": ("inversion", "autoencoder")}, "revive: .* follows inversion, which leaves no"),
        (
            {"revive": True, "stages": ("generator", "autoencoder"), "from_scratch": True},
            "revive: .* follows generator, which leaves no codec",
        ),
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


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"init": "a.safetensors"},
        {"init": "a.safetensors", "stages": ("autoencoder",)},
        {"stages": ("codec", "autoencoder")},
        {"from_scratch": True, "stages": ("generator", "inversion", "codec", "autoencoder")},
        {"generator": "g.pt", "stages": ("inversion", "codec", "autoencoder", "joint")},
    ],
)
def test_channels_are_revived_wherever_the_autoencoder_starts_from_a_codec(values: dict[str, object]) -> None:
    assert make_job(revive=True, **values).revive


def test_a_wrong_revival_in_a_file_names_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("data: [x]\nout: out\nrevive: true\n")

    with pytest.raises(ConfigError, match=rf"^{path}: revive: should be false .* \(from_scratch\).*, got True$"):
        load_job(TrainHscJob, path, overrides={"from_scratch": True})


def test_a_wrong_stage_is_said_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="video") as caught:
        make_job(revive=True, stages=("video",))

    assert "revive" not in str(caught.value)
