"""Our folded ResNet-50 against torchvision's."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.ops.misc import FrozenBatchNorm2d

from framevault.codecs.dicm.backbones.resnet50 import Bottleneck, build_head, load_head, load_tail
from tests.codecs.dicm.backbones.random_weights import random_resnet50, randomise


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    return random_resnet50()


def stages_of(model: nn.Module, rgb_nchw: torch.Tensor) -> list[torch.Tensor]:
    """Return the outputs of torchvision's layer1 to layer4."""
    x_nchw = model.maxpool(model.relu(model.bn1(model.conv1(rgb_nchw))))  # type: ignore[operator]  # modules
    outputs = []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x_nchw = getattr(model, name)(x_nchw)
        outputs.append(x_nchw)
    return outputs


def assert_close(got: torch.Tensor | None, expected: torch.Tensor) -> None:
    """Compare float32 sums of up to 4,600 terms in another order, over 50 layers: 1e-4 relative."""
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_head_and_tail_give_torchvisions_own_outputs(reference: nn.Module) -> None:
    rgb_nchw = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        features_nchw = load_head(reference.state_dict())(rgb_nchw)
        stages, logits_nk = load_tail(reference.state_dict())(features_nchw)

        expected = stages_of(reference, rgb_nchw)
        assert_close(features_nchw, expected[0])
        for stage, expected_stage in zip(stages, expected[1:], strict=True):
            assert_close(stage, expected_stage)
        assert_close(logits_nk, reference(rgb_nchw))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (31, 33), (64, 4), (50, 97)])
def test_features_have_a_position_for_every_four_pixels_begun(height: int, width: int) -> None:
    with torch.inference_mode():
        features_nchw = build_head()(torch.zeros(1, 3, height, width))

    assert features_nchw.shape == (1, 256, -(-height // 4), -(-width // 4))


def test_odd_sizes_give_torchvisions_stages_too(reference: nn.Module) -> None:
    rgb_nchw = torch.randn(1, 3, 75, 101, generator=torch.Generator().manual_seed(2))

    with torch.inference_mode():
        stages, _ = load_tail(reference.state_dict())(load_head(reference.state_dict())(rgb_nchw))
        expected = stages_of(reference, rgb_nchw)

    assert [stage.shape for stage in stages] == [stage.shape for stage in expected[1:]]
    assert_close(stages[2], expected[3])


def test_fewer_stages_run_on_request(reference: nn.Module) -> None:
    tail = load_tail(reference.state_dict())

    with torch.inference_mode():
        stages, logits_nk = tail(torch.zeros(1, 256, 8, 8), 1)

    assert [stage.shape[1] for stage in stages] == [512]
    assert logits_nk is None


def test_weights_without_a_classifier_give_no_logits(reference: nn.Module) -> None:
    state = {key: value for key, value in reference.state_dict().items() if not key.startswith("fc.")}

    with torch.inference_mode():
        stages, logits_nk = load_tail(state)(torch.zeros(1, 256, 8, 8))

    assert len(stages) == 3
    assert logits_nk is None


def test_an_epsilon_of_zero_is_folded_as_such() -> None:
    """The first detectors of torchvision have it, with variances so small that 1e-5 would matter."""
    reference = randomise(resnet50(weights=None, norm_layer=FrozenBatchNorm2d), seed=3)
    for module in reference.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0
    variance = reference.get_buffer("layer1.0.bn1.running_var")
    variance[:8] = 1e-6
    rgb_nchw = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(4))

    with torch.inference_mode():
        (expected_nchw, *_) = stages_of(reference, rgb_nchw)
        exact_nchw = load_head(reference.state_dict(), norm_epsilon=0.0)(rgb_nchw)
        other_nchw = load_head(reference.state_dict(), norm_epsilon=1e-5)(rgb_nchw)

    # Channels amplified a thousandfold: relative to the largest feature.
    largest = float(expected_nchw.abs().max())
    assert float((exact_nchw - expected_nchw).abs().max()) < 1e-5 * largest
    assert float((other_nchw - expected_nchw).abs().max()) > 1e-2 * largest


def test_a_variance_of_zero_without_epsilon_is_refused(reference: nn.Module) -> None:
    state = dict(reference.state_dict())
    state["layer1.2.bn3.running_var"] = torch.zeros(256)

    with pytest.raises(ValueError, match=r"layer1\.2\.bn3\.running_var must be positive, its least is 0"):
        load_head(state, norm_epsilon=0.0)


def test_a_block_does_what_a_hand_computed_case_says() -> None:
    """One input channel of value 3: narrow doubles it (6), filter's middle takes 1 less (5), widen gives 5, 0, 10, -5.

    The shortcut adds 1, -2, -20 and 6 times 3 and the end is cut at 0: 8, 0, 0, 13.
    """
    block = Bottleneck(1, 1, stride=2)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.narrow.weight[:] = 2
        block.filter.weight[0, 0, 1, 1] = 1
        assert block.filter.bias is not None
        block.filter.bias[:] = -1
        block.widen.weight[:] = torch.tensor([1.0, 0, 2, -1])[:, None, None, None]
        assert block.shortcut is not None
        block.shortcut.weight[:] = torch.tensor([1.0, -2, -20, 6])[:, None, None, None]

        out_nchw = block(torch.full((1, 1, 3, 3), 3.0))

    assert out_nchw.shape == (1, 4, 2, 2)
    assert out_nchw[0, :, 0, 0].tolist() == [8, 0, 0, 13]
