"""Stage 1 at toy size: InfoNCE by hand, the momentum encoder, the queue, and that it learns."""

import math

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck
from torch import nn
from torch.nn import functional

from framevault.codecs.dicm.pretraining import Contrast, ContrastConfig, ContrastLosses, SemanticEncoder, info_nce
from framevault.codecs.dicm.redundancy import RedundancyConfig, RedundancyElimination, RedundancyLosses

CONFIG = ContrastConfig(embedding=6, queue=8, momentum=0.75)
RE_CONFIG = RedundancyConfig(channels=4, widths=(4, 6, 8), depths=(1, 1, 1), expansion=1)


@pytest.fixture
def contrast() -> Contrast:
    torch.manual_seed(0)
    encoder = SemanticEncoder(
        head=nn.Conv2d(3, 4, 4, stride=4),
        redundancy=RedundancyElimination(RE_CONFIG),
        density=EntropyBottleneck(8),
        tail=nn.Conv2d(4, 10, 8, stride=8),
        last_channels=10,
        embedding=CONFIG.embedding,
    )
    return Contrast(encoder, CONFIG)


def test_info_nce_by_hand() -> None:
    """Similarities of 1 with the own key, 0 and -1 with the queue, over a temperature of 1/2."""
    query, key = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    queue = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])

    loss = info_nce(query, key, queue_qd=queue, temperature=0.5)

    assert loss.item() == pytest.approx(-math.log(math.e**2 / (math.e**2 + 1 + math.e**-2)))


def test_keys_like_all_negatives_leave_a_guess_among_them_all() -> None:
    same = torch.tensor([[0.6, 0.8]])

    loss = info_nce(same, same, queue_qd=same.expand(7, -1), temperature=0.2)

    assert loss.item() == pytest.approx(math.log(8))


def test_the_total_is_the_papers_sum() -> None:
    losses = ContrastLosses(
        contrast=torch.tensor([2.0]),
        redundancy=RedundancyLosses(rate_bpp=torch.tensor([0.5]), features=torch.tensor([3.0])),
        key_nd=torch.zeros(1, 6),
    )

    assert losses.total().item() == pytest.approx(2 + 0.1 * 0.5 + 0.1 * 3)


def test_losses_change_no_state_and_give_the_keys_no_gradient(contrast: Contrast) -> None:
    before = {name: tensor.clone() for name, tensor in contrast.state_dict().items()}

    losses = contrast(torch.randn(2, 3, 64, 32), torch.randn(2, 3, 64, 32))
    losses.total().mean().backward()

    assert all(torch.equal(tensor, before[name]) for name, tensor in contrast.state_dict().items())
    assert losses.contrast.shape == losses.redundancy.rate_bpp.shape == (2,)
    torch.testing.assert_close(losses.key_nd.norm(dim=1), torch.ones(2))
    assert not losses.key_nd.requires_grad
    # Quantiles are found apart from the losses.
    missing = [n for n, p in contrast.encoder.named_parameters() if p.grad is None and not n.endswith("quantiles")]
    assert missing == []
    assert all(parameter.grad is None for parameter in contrast.momentum_encoder.parameters())


def test_the_momentum_encoder_moves_by_its_share(contrast: Contrast) -> None:
    """Weights at 1, moved towards 5 with a momentum of 3/4: 1 * 3/4 + 5 / 4 = 2."""
    for parameter in contrast.momentum_encoder.parameters():
        nn.init.ones_(parameter)
    for parameter in contrast.encoder.parameters():
        nn.init.constant_(parameter, 5.0)

    contrast.remember(torch.zeros(2, 6))

    assert all((parameter == 2).all() for parameter in contrast.momentum_encoder.parameters())
    assert all((parameter == 5).all() for parameter in contrast.encoder.parameters())


def test_the_queue_forgets_the_oldest_keys_first(contrast: Contrast) -> None:
    batches = [torch.full((4, 6), float(number)) for number in range(3)]

    for batch in batches:
        contrast.remember(batch)

    assert contrast.queue_qd[:, 0].tolist() == [2, 2, 2, 2, 1, 1, 1, 1]
    assert int(contrast.oldest) == 4


def test_a_batch_that_does_not_divide_the_queue_is_refused(contrast: Contrast) -> None:
    with pytest.raises(ValueError, match="multiple of the batch, got 8 and 3"):
        contrast.remember(torch.zeros(3, 6))


def test_a_saved_state_goes_on_as_if_nothing_had_happened(contrast: Contrast) -> None:
    contrast.remember(functional.normalize(torch.randn(4, 6), dim=1))
    torch.manual_seed(1)
    other = Contrast(contrast.encoder, CONFIG)

    other.load_state_dict(contrast.state_dict())

    views = torch.randn(2, 2, 3, 32, 32)
    assert torch.equal(other(*views).contrast, contrast(*views).contrast)
    assert int(other.oldest) == 4


def test_training_tells_a_picture_from_others(contrast: Contrast) -> None:
    """Against the keys of eight other pictures: each query comes nearer to its own key."""
    pictures = 30 * torch.randn(12, 3, 32, 32)
    contrast.queue_qd.copy_(contrast(pictures, pictures).key_nd[4:])
    parameters = [p for n, p in contrast.encoder.named_parameters() if not n.endswith("quantiles")]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)

    for _ in range(20):
        optimiser.zero_grad()
        losses = contrast(pictures[:4], pictures[:4])
        losses.contrast.mean().backward()
        optimiser.step()

    # A guess among nine costs ln 9.
    assert losses.contrast.mean() < math.log(9) - 0.2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"queue": 0}, "at least 1, got 128 and 0"),
        ({"momentum": 1.5}, "within 0 to 1, got 1.5"),
        ({"temperature": 0.0}, "above 0, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContrastConfig(**values)  # type: ignore[arg-type]  # a dict of mixed numbers
