"""What is trained of a codec, in which groups, and compiled networks."""

from collections.abc import Callable

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from framevault.pipeline.jobs.train.errors import TrainingError
from framevault.pipeline.jobs.train.hsc.start import random_models
from framevault.pipeline.jobs.train.hsc.trained_parts import codec_groups, compile_networks
from tests.pipeline.jobs.train.hsc.toy import SMALL, make_setup


def test_every_parameter_stands_in_one_group() -> None:
    models, job = random_models(SMALL), make_setup(gain_rate_factor=2.0).job

    groups = codec_groups(models, job, rate=1e-3, sized_rate=3e-3)

    trained = [*models.networks.parameters(), *models.entropy.parameters()]
    trained += [parameter for parameter in models.core.parameters() if parameter.requires_grad]
    grouped = [id(parameter) for group in groups for parameter in group.parameters]
    assert sorted(grouped) == sorted(id(parameter) for parameter in trained)
    (of_gains,) = [
        group for group in groups if any(p is models.networks.style_codec.log_gain for p in group.parameters)
    ]
    assert (of_gains.learning_rate, of_gains.weight_decay) == (2e-3, 0.0)


def test_frozen_networks_are_in_no_group() -> None:
    models = random_models(SMALL)

    groups = codec_groups(models, make_setup().job, rate=1e-3, sized_rate=3e-3, frozen=(models.networks.inversion,))

    grouped = {id(parameter) for group in groups for parameter in group.parameters}
    assert not grouped & {id(parameter) for parameter in models.networks.inversion.parameters()}
    assert {id(parameter) for parameter in models.networks.generator.parameters()} <= grouped


def test_compiled_networks_keep_their_names_and_results(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def stand_in(function: Callable[..., object], *, dynamic: bool) -> Callable[..., object]:
        compiled.append(function.__qualname__)
        return lambda *arguments: function(*arguments)

    monkeypatch.setattr(torch, "compile", stand_in)
    networks = random_models(SMALL).networks.eval()
    names, rgb_nchw = set(networks.state_dict()), torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        before_nld, _ = networks.inversion(rgb_nchw)

    compile_networks(networks)

    with torch.no_grad():
        after_nld, _ = networks.inversion(rgb_nchw)
    assert compiled == ["InversionEncoder.forward", "Generator.tail"]
    assert torch.equal(before_nld, after_nld)
    assert set(networks.state_dict()) == names


def test_a_compiler_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_in(function: Callable[..., object], *, dynamic: bool) -> Callable[..., object]:
        def fail(*arguments: object) -> object:
            raise TorchDynamoException("no compiler")

        return fail

    monkeypatch.setattr(torch, "compile", stand_in)
    networks = random_models(SMALL).networks

    compile_networks(networks)

    with pytest.raises(TrainingError, match=r"expected a C\+\+ compiler"):
        networks.inversion(torch.zeros(1, 3, 64, 64))
