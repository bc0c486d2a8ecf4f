"""The stage `codec`: what it begins with, what its recipe does when, and what its last part leaves alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from framevault.codecs.checkpoint import load_checkpoint
from framevault.codecs.dicm.checkpoint import read_tensors
from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.dicm.video_checkpoint import video_names
from framevault.codecs.entropy.quantisation import RoundedConv2d
from framevault.codecs.entropy.tables import tables_from_pmf
from framevault.codecs.spec import CodecSpec
from framevault.configs.train import TrainDicmJob
from framevault.pipeline.jobs.train.codec_recipe import SCRATCH, TUNING, choose_recipe
from framevault.pipeline.jobs.train.codec_stage import CodecStage
from framevault.pipeline.jobs.train.codec_start import fit_density, make_density, restore_floats
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import StageSetup
from framevault.pipeline.jobs.train.world import World
from tests.media import test_pattern

SHIPPED = CodecSpec(name="dicm").checkpoint_path or Path()
PICTURES = PictureSet((test_pattern(0, width=96, height=80),), ("one",))


def make_stage(**settings: object) -> CodecStage:
    values = {"data": ("x",), "out": "out", "batch_size": 2, "crop": 64, "from_scratch": True, **settings}
    setup = StageSetup(
        job=TrainDicmJob.model_validate(values),
        device=torch.device("cpu"),
        world=World(),
        pictures=PICTURES,
        draw_samples=lambda draw, num: [draw(PICTURES, np.random.default_rng(n)) for n in range(num)],
        say=lambda text: None,
        earlier={},
    )
    return CodecStage(setup)


def step(stage: CodecStage, progress: float, *, seed: int = 0) -> dict[str, float]:
    torch.manual_seed(seed)
    return stage.step(stage.draw(PICTURES, np.random.default_rng(seed)), progress)


def test_a_restored_entropy_model_computes_what_its_integers_compute() -> None:
    tensors, config_json = load_checkpoint(SHIPPED, codec="dicm")
    config = DicmConfig.from_json(config_json)
    of_video = video_names(config)
    _, bitstream, _ = read_tensors({k: t for k, t in tensors.items() if k not in of_video}, config_json)
    restored = EntropyNetworks(config, RoundedConv2d)
    restore_floats(bitstream.networks, restored)
    torch.manual_seed(0)
    z_nchw = torch.randint(-4, 5, (2, config.hyper, 2, 3)).float()

    with torch.no_grad():
        mine, theirs = restored.hyper(z_nchw), bitstream.networks.hyper(z_nchw)

    assert torch.equal(mine, theirs)


def test_a_density_fitted_to_tables_costs_hardly_a_bit_more() -> None:
    torch.manual_seed(0)
    pmf = [torch.softmax(-((torch.arange(9.0) - 4) ** 2) / width, 0).double().tolist() for width in (2.0, 6.0, 12.0)]
    tables = tables_from_pmf([[0.999 * p for p in row] for row in pmf], [-4, -4, -4])

    excess = fit_density(make_density(3), tables)

    assert -0.001 < excess < 0.03  # of some two bits


def test_from_random_networks_everything_comes_in_turn() -> None:
    assert [SCRATCH.deep_share(progress) for progress in (0.0, 0.26, 0.32, 0.5)] == [
        None,
        None,
        pytest.approx(0.5),
        1.0,
    ]
    assert [SCRATCH.rate_share(progress) for progress in (0.0, 0.35)] == [0.1, 1.0]
    assert SCRATCH.finishing_share(0.7) is None
    assert SCRATCH.finishing_share(0.875) == pytest.approx(0.5)


def test_from_a_checkpoint_only_the_deep_losses_are_faded_in() -> None:
    assert TUNING.deep_share(0.05) == pytest.approx(0.5)
    assert TUNING.rate_share(0.0) == 1.0
    assert TUNING.learning_factor(0.0) == 1.0
    assert TUNING.learning_factor(TUNING.finishing_start) == pytest.approx(0.02)


def test_a_jobs_own_learning_rate_scales_all_of_them() -> None:
    job = TrainDicmJob(data=("x",), out="out", learning_rate=2 * TUNING.learning_rate, deep_start=0.3)

    recipe = choose_recipe(job)

    assert recipe.finishing_rate == pytest.approx(2 * TUNING.finishing_rate)
    assert recipe.entropy_rate is None
    assert recipe.deep_start == 0.3


def test_random_networks_get_gradients_everywhere() -> None:
    stage = make_stage()
    before = {name: tensor.clone() for name, tensor in stage.state_dict()["parts"].items()}  # type: ignore[attr-defined]  # a dict

    figures = step(stage, 0.5)

    after = stage.state_dict()["parts"]
    assert isinstance(after, dict)
    still = [name for name, tensor in after.items() if torch.equal(tensor, before[name])]
    # The head is frozen, statistics are not trained; the density's quantiles serve compressai's own tables.
    assert [n for n in still if not n.startswith(("networks.head", "networks.feature")) and "hyper._" not in n] == [
        "hyper.quantiles",
        "hyper.target",
        "hyper.likelihood_lower_bound.bound",
    ]
    assert figures["skipped_not_finite"] == 0


def test_in_the_last_part_the_entropy_model_learns_alone() -> None:
    stage = make_stage()
    step(stage, 0.5)
    step(stage, 0.8, seed=1)
    before = {name: tensor.clone() for name, tensor in stage.state_dict()["parts"].items()}  # type: ignore[attr-defined]  # a dict

    step(stage, 0.9, seed=2)

    after = stage.state_dict()["parts"]
    assert isinstance(after, dict)
    moved = {name.split(".")[1] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert not moved & {"g_a", "g_s", "log_gain", "log_inverse_gain", "head"}
    assert moved >= {"h_a", "expand_1", "contexts", "scales", "means"}
