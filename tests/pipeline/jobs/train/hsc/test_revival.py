"""Silent channels begin anew as what the living ones don't say; living ones stay as they are."""

import torch
from torch import Tensor, nn

from framevault.codecs.hsc.training import TrainedModels
from framevault.pipeline.jobs.train.hsc.revival import revive_channels
from framevault.pipeline.jobs.train.hsc.squares import signed
from framevault.pipeline.jobs.train.hsc.start import random_models
from tests.pipeline.jobs.train.hsc.toy import SMALL

SILENT = [1, 4, 5]
"""Of the six channels, in slices of two."""

LIVING = [0, 2, 3]


def make_models(*, silent: list[int]) -> TrainedModels:
    torch.manual_seed(5)
    models = random_models(SMALL)
    last = models.networks.feature_codec.analysis[-1]
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        # Loud enough that every channel is heard, but those that shall be silent.
        last.weight.mul_(20)
        last.weight[silent] = 0
        # Gains as training leaves them, not as it begins.
        models.networks.feature_codec.log_gain.add_(0.5)
        models.networks.feature_codec.log_inverse_gain.sub_(0.5)
    models.networks.eval()
    return models


def batches() -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (8, 3, 64, 64), generator=random, dtype=torch.uint8)
    return [signed(pictures[:4], torch.device("cpu")), signed(pictures[4:], torch.device("cpu"))]


@torch.no_grad()
def latents(models: TrainedModels, *, quality: int) -> Tensor:
    """Return the scaled latents of all positions, [P, M]."""
    networks = models.networks
    found = []
    for rgb_nchw in batches():
        styles_nld, feature_nchw = networks.inversion(rgb_nchw)
        decoded_nld = networks.style_codec.synthesise(torch.round(networks.style_codec.analyse(styles_nld)))
        own_nchw, _ = networks.generator.lower(decoded_nld)
        quality_n = torch.full((len(rgb_nchw),), quality)
        found.append(networks.feature_codec.analyse(feature_nchw, own_nchw, quality_n))
    return torch.cat(found).permute(0, 2, 3, 1).flatten(0, 2)


def test_silent_channels_speak_of_what_the_others_leave_out() -> None:
    models = make_models(silent=SILENT)
    assert latents(models, quality=7)[:, SILENT].std(dim=0).max() == 0

    assert revive_channels(models, batches()) == len(SILENT)

    y_pm = latents(models, quality=7).double()
    stds = y_pm[:, SILENT].std(dim=0).tolist()
    # Quality 8's gain, exp(1 + log(12) / 2), times a unit variance for the first, less for the others.
    assert abs(stds[0] - 9.4) < 0.2
    assert stds == sorted(stds, reverse=True)
    correlations = torch.corrcoef(y_pm.T)
    assert correlations[SILENT][:, LIVING].abs().max() < 0.01
    assert (correlations[SILENT][:, SILENT] - torch.eye(3, dtype=torch.float64)).abs().max() < 0.01


def test_living_channels_stay_as_they_are() -> None:
    models = make_models(silent=SILENT)
    before = {name: tensor.clone() for name, tensor in models.networks.state_dict().items()}
    before_pm = latents(models, quality=3)

    revive_channels(models, batches())

    assert torch.equal(latents(models, quality=3)[:, LIVING], before_pm[:, LIVING])
    changed = {name for name, tensor in models.networks.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {
        "feature_codec.analysis.5.weight",
        "feature_codec.analysis.5.bias",
        "feature_codec.expand.0.weight",
        "feature_codec.log_gain",
        "feature_codec.log_inverse_gain",
    }
    for name in ("feature_codec.log_gain", "feature_codec.log_inverse_gain"):
        assert torch.equal(models.networks.state_dict()[name][:, LIVING], before[name][:, LIVING])
    expand = "feature_codec.expand.0.weight"
    assert torch.equal(models.networks.state_dict()[expand][:, LIVING], before[expand][:, LIVING])


def test_the_entropy_model_is_told_of_revived_channels_alone() -> None:
    models = make_models(silent=SILENT)
    with torch.no_grad():
        for layer in (*models.entropy.scales, *models.entropy.means):
            layer.get_submodule("conv").get_parameter("bias").fill_(7.0)
    kept = [layer.get_submodule("conv").get_parameter("weight").clone() for layer in models.entropy.means]

    revive_channels(models, batches())

    biases = torch.cat([layer.get_submodule("conv").get_parameter("bias") for layer in models.entropy.means])
    weights = [layer.get_submodule("conv").get_parameter("weight") for layer in models.entropy.means]
    assert biases.tolist() == [7.0, 0.0, 7.0, 7.0, 0.0, 0.0]
    assert torch.equal(weights[1], kept[1])
    assert not weights[2].any()
    scales = torch.cat([layer.get_submodule("conv").get_parameter("bias") for layer in models.entropy.scales])
    assert scales[LIVING].tolist() == [7.0] * 3
    assert (scales[SILENT] > 7.0).all()


def test_nothing_changes_where_all_channels_are_heard() -> None:
    models = make_models(silent=[])
    before = {name: tensor.clone() for name, tensor in models.networks.state_dict().items()}

    assert revive_channels(models, batches()) == 0

    assert all(torch.equal(tensor, before[name]) for name, tensor in models.networks.state_dict().items())
