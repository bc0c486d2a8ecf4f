"""The stages of the codec of pictures: what each starts from, what it changes, and that it goes on as it stopped."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.errors import CheckpointError
from framevault.codecs.hsc.importing.generators import GeneratorParts, save_generator
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.hsc.adversary import Adversary
from framevault.pipeline.jobs.train.hsc.generator_stage import GeneratorStage
from framevault.pipeline.jobs.train.hsc.stage_table import HSC
from framevault.pipeline.jobs.train.hsc.start import choose_sizes, make_mapping, make_start, random_models
from framevault.pipeline.jobs.train.saved_state import load_state, save_state
from framevault.pipeline.jobs.train.stages import TrainingStage
from tests.pipeline.jobs.train.hsc.toy import PICTURES, SIZES, SMALL, changed, make_setup, step, tensors_of

STAGE_NAMES = ("generator", "inversion", "codec", "autoencoder", "joint")


def build(name: str, files: Mapping[str, Path], **settings: object) -> TrainingStage:
    """Make a stage on what the stages before it left."""
    before = {"inversion": "generator", "codec": "inversion", "joint": "autoencoder"}.get(name)
    earlier = {} if before is None else {before: files[before]}
    torch.manual_seed(7)
    return HSC.rows[name].build(make_setup(earlier=earlier, **settings))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each stage exports after a step."""
    folder, files = tmp_path_factory.mktemp("exports"), dict[str, Path]()
    for name in ("generator", "inversion", "codec", "autoencoder"):
        stage = build(name, files)
        step(stage, 0.0)
        stage.export(folder / f"{name}.safetensors")
        files[name] = folder / f"{name}.safetensors"
    return files


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_a_restored_stage_goes_on_to_the_bit(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    straight = build(name, files)
    step(straight, 0.5, seed=1)
    save_state(tmp_path / "state.safetensors", straight.state_dict())
    figures = step(straight, 0.6, seed=2)

    resumed = build(name, files)
    step(resumed, 0.2, seed=9)
    state = load_state(tmp_path / "state.safetensors")
    assert state is not None
    resumed.load_state_dict(state)
    again = step(resumed, 0.6, seed=2)

    assert again == figures
    mine, theirs = tensors_of(resumed.state_dict()), tensors_of(straight.state_dict())
    assert mine.keys() == theirs.keys()
    assert [key for key in mine if not torch.equal(mine[key], theirs[key])] == []
    assert figures["skipped_not_finite"] == 0


def test_an_autoencoder_trains_every_network(files: dict[str, Path]) -> None:
    stage = build("autoencoder", files)
    before = tensors_of(stage.state_dict())

    for seed in range(3):
        step(stage, 0.5, seed=seed)

    still = before.keys() - changed(before, tensors_of(stage.state_dict()), "")
    names = {key.removeprefix("parts.module.") for key in still if key.startswith("parts.module.")}
    # Noise is a constant; the density's quantiles serve compressai's own tables.
    assert {name for name in names if not name.endswith(".noise") and not name.startswith("core.")} == set()
    assert "core._matrix0" not in names


def test_while_channels_are_free_gains_stay_and_the_entropy_model_learns(files: dict[str, Path]) -> None:
    stage = build("autoencoder", files, free_share=0.5)
    before = tensors_of(stage.state_dict())

    step(stage, 0.4)
    free = tensors_of(stage.state_dict())
    step(stage, 0.6)
    paid = tensors_of(stage.state_dict())

    gains = {"feature_codec.log_gain", "feature_codec.log_inverse_gain"}
    names = changed(before, free, "parts.module.networks.")
    assert names & gains == set()
    assert "feature_codec.analysis.0.weight" in names
    assert changed(before, free, "parts.module.entropy.scales.")
    assert gains <= changed(free, paid, "parts.module.networks.")


def test_an_autoencoder_says_which_channels_were_silent(files: dict[str, Path], tmp_path: Path) -> None:
    tensors, config = load_checkpoint(files["autoencoder"], codec="hsc")
    tensors["networks.feature_codec.analysis.5.weight"][1:3] = 0
    save_checkpoint(tmp_path / "silent.safetensors", tensors, codec="hsc", config=config)
    said: list[str] = []
    init = str(tmp_path / "silent.safetensors")

    stage = HSC.rows["autoencoder"].build(dataclasses.replace(make_setup(init=init, revive=True), say=said.append))
    HSC.rows["autoencoder"].build(dataclasses.replace(make_setup(init=init), say=said.append))

    assert [text for text in said if "silent" in text] == ["2 of 6 latent channels were silent, and begin anew"]
    figures = step(stage, 0.1)
    assert figures["skipped_not_finite"] == 0


def test_while_the_discriminator_learns_alone_the_codec_stays_as_it_is(files: dict[str, Path]) -> None:
    stage = build("joint", files, discriminator_start=0.5)
    before = tensors_of(stage.state_dict())

    figures = step(stage, 0.4)

    after = tensors_of(stage.state_dict())
    assert changed(before, after, "parts.") == set()
    assert changed(before, after, "adversary.discriminator.")
    assert "adversarial" not in figures


def test_with_the_adversary_everything_learns_but_the_encoder(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Adversary, "trust", 1.0)
    stage = build("joint", files, discriminator_start=0.1)
    before = tensors_of(stage.state_dict())

    figures = step(stage, 0.9)

    names = changed(before, tensors_of(stage.state_dict()), "parts.module.")
    assert not [name for name in names if name.startswith("networks.inversion.")]
    for part in ("networks.generator.", "networks.style_codec.", "networks.feature_codec.", "entropy.", "core."):
        assert [name for name in names if name.startswith(part)], part
    assert figures["adversarial_factor"] > 0


def test_a_joint_stage_keeps_the_rates_that_it_finds(files: dict[str, Path]) -> None:
    stage = build("joint", files)

    state = tensors_of(stage.state_dict())

    figures = step(stage, 0.9)
    rates_q = state["steering.rates"]
    assert torch.equal(rates_q.log(), state["steering.log_targets"])
    assert float(rates_q.min()) < figures["rate_bpp"] * 2
    assert figures["rate_bpp"] < float(rates_q.max()) * 2


def test_a_joint_stage_starts_from_a_codec(files: dict[str, Path]) -> None:
    with pytest.raises(PreflightError, match="stage joint starts from a codec: train stage autoencoder or codec"):
        HSC.rows["joint"].build(make_setup())
    with pytest.raises(PreflightError, match="stage joint starts from a codec"):
        HSC.rows["joint"].build(make_setup(earlier={"inversion": files["inversion"]}))


def test_an_inversion_stage_changes_the_encoder_alone(files: dict[str, Path], tmp_path: Path) -> None:
    stage = build("inversion", files)
    step(stage, 0.5)

    stage.export(tmp_path / "out.safetensors")

    before = make_start(make_setup(earlier={"generator": files["generator"]})).models.networks.state_dict()
    after = make_start(make_setup(earlier={"inversion": tmp_path / "out.safetensors"})).models.networks.state_dict()
    same = {name for name in after if torch.equal(before[name], after[name])}
    assert {name for name in after if name.startswith("generator.")} <= same
    assert [name for name in after if name.startswith("inversion.") and name not in same]


def test_half_of_an_inversion_stages_pictures_are_the_generators(files: dict[str, Path]) -> None:
    stage = build("inversion", files, batch_size=5)
    of_codec = HSC.rows["inversion"].build(make_setup(earlier={"codec": files["codec"]}, batch_size=5))

    batch, alone = (each.draw(PICTURES, np.random.default_rng(0)) for each in (stage, of_codec))

    assert batch.num_crops == 3
    # A codec's checkpoint has no mapping network to make pictures with.
    assert alone.num_crops == 5
    assert stage.step(batch, 0.5)["skipped_not_finite"] == 0
    assert of_codec.step(alone, 0.5)["skipped_not_finite"] == 0


def test_stages_behind_a_generator_say_what_they_need() -> None:
    with pytest.raises(PreflightError, match="stage inversion needs a trained generator"):
        HSC.rows["inversion"].build(make_setup())
    with pytest.raises(PreflightError, match="stage codec needs a trained inversion encoder"):
        HSC.rows["codec"].build(make_setup())


def test_a_generator_without_an_encoder_is_not_enough_for_the_codecs(files: dict[str, Path]) -> None:
    with pytest.raises(PreflightError, match="stage codec needs a trained inversion encoder"):
        HSC.rows["codec"].build(make_setup(earlier={"generator": files["generator"]}))


def test_the_codec_stage_learns_from_styles_and_features_without_pictures(files: dict[str, Path]) -> None:
    stage = build("codec", files)
    before = tensors_of(stage.state_dict())

    batch = stage.draw(PICTURES, np.random.default_rng(0))
    step(stage, 0.9)

    assert [tuple(view.shape) for view in batch.views] == [(2, 10, 16), (2, 16, 8, 8)]
    names = changed(before, tensors_of(stage.state_dict()), "parts.module.")
    assert not [name for name in names if name.startswith(("networks.inversion.", "networks.generator."))]
    assert [name for name in names if name.startswith("networks.feature_codec.")]
    assert [name for name in names if name.startswith("entropy.")]


def test_a_generator_stage_trains_both_sides_and_hands_on_the_mean_style(files: dict[str, Path]) -> None:
    stage = build("generator", files)
    before = tensors_of(stage.state_dict())

    figures = step(stage, 0.5)

    after = tensors_of(stage.state_dict())
    for prefix in ("trained.generator.", "trained.mapping.", "adversary.discriminator.", "average.module."):
        assert changed(before, after, prefix), prefix
    # The first step has the penalty in it.
    assert figures["adversarial"] > 0
    assert "discriminator" not in figures
    mapping = make_mapping(make_start(make_setup(earlier={"generator": files["generator"]})).others)
    assert mapping is not None
    assert float(mapping.mean.abs().sum()) > 0


def test_styles_of_a_generator_stage_are_those_of_two_vectors(files: dict[str, Path]) -> None:
    stage = build("generator", files)
    assert isinstance(stage, GeneratorStage)
    torch.manual_seed(0)

    styles_nld = stage._draw_styles(64).detach()

    num_different = [len({tuple(style.tolist()) for style in styles_ld}) for styles_ld in styles_nld]
    assert set(num_different) == {1, 2}
    assert 0.8 < num_different.count(2) / 64 < 1


def test_a_generator_that_is_given_is_built_behind(tmp_path: Path, files: dict[str, Path]) -> None:
    mapping = make_mapping(make_start(make_setup(earlier={"generator": files["generator"]})).others)
    assert mapping is not None
    generator = random_models(SMALL).networks.generator
    save_generator(GeneratorParts(config=SMALL, generator=generator, mapping=mapping), tmp_path / "g.safetensors")

    start = make_start(make_setup(generator=str(tmp_path / "g.safetensors"), sizes=SIZES))

    assert (start.has_generator, start.has_inversion, start.is_codec) == (True, False, False)
    theirs = generator.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in start.models.networks.generator.state_dict().items())
    assert make_mapping(start.others) is not None


def test_a_start_of_other_sizes_is_refused_with_the_difference(files: dict[str, Path]) -> None:
    job = make_setup(init=str(files["codec"]), domain="face128").job

    with pytest.raises(CheckpointError, match=r"codec.safetensors has resolution 64 instead of 128, split 8 instead"):
        choose_sizes(job)


def test_a_start_gives_the_sizes_where_none_are_chosen(files: dict[str, Path]) -> None:
    assert choose_sizes(make_setup(init=str(files["codec"])).job) == SMALL
    assert choose_sizes(make_setup(generator=str(files["generator"])).job) == SMALL


def test_a_start_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")

    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        choose_sizes(make_setup(init=str(tmp_path / "x.safetensors")).job)
    with pytest.raises(CheckpointError, match="gone"):
        choose_sizes(make_setup(generator=str(tmp_path / "gone.pt")).job)
