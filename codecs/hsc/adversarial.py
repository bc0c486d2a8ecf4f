"""What generator and discriminator minimise against each other.

Non-saturating loss (Goodfellow et al., 2014, arXiv 1406.2661); R1 penalty on real pictures (Mescheder et al., ICML
2018, arXiv 1801.04406, section 4.1), computed in one of 16 steps (StyleGAN2, section 3.1). The loop, the optimisers and
the running average of the weights belong to whoever trains. Letters in shapes: N pictures, R the resolution.
"""

import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.hsc.augmentation import augment
from framevault.codecs.hsc.discriminator import Discriminator

PENALTY_EVERY = 16
"""Steps of which one has the penalty."""


def generator_loss(discriminator: Discriminator, fake_nchw: Tensor, *, random: torch.Generator) -> Tensor:
    """Return how far generated pictures are from being taken for real ones.

    Args:
        discriminator: Its weights gather gradients too, if they are not frozen.
        fake_nchw: Pictures with a graph, [N, 3, R, R].
        random: Of the augmentation.
    """
    return functional.softplus(-discriminator(augment(fake_nchw, random)).float()).mean()


def discriminator_loss(
    discriminator: Discriminator,
    real_nchw: Tensor,
    fake_nchw: Tensor,
    *,
    penalty: float,
    random: torch.Generator,
) -> Tensor:
    """Return how badly the discriminator tells real from generated pictures, and its penalty.

    Args:
        discriminator: Under training.
        real_nchw: Real pictures, [N, 3, R, R].
        fake_nchw: Generated ones; no gradient reaches what made them.
        penalty: Factor of R1 over two: `lazy_penalty` of the step. At 0 it is not computed.
        random: Of the augmentation.
    """
    fake_n = discriminator(augment(fake_nchw.detach(), random)).float()
    real_nchw = real_nchw.detach().requires_grad_(penalty > 0)
    real_n = discriminator(augment(real_nchw, random)).float()
    loss = functional.softplus(fake_n).mean() + functional.softplus(-real_n).mean()
    return loss if penalty == 0 else loss + 0.5 * penalty * gradient_penalty(real_n, real_nchw)


def gradient_penalty(logits_n: Tensor, rgb_nchw: Tensor) -> Tensor:
    """Return R1: the mean squared length of the logits' gradient to the pictures that they came from."""
    (gradient_nchw,) = torch.autograd.grad(logits_n.sum(), rgb_nchw, create_graph=True)
    return gradient_nchw.float().square().sum(dim=(1, 2, 3)).mean()


def lazy_penalty(step: int, *, weight: float) -> float:
    """Return the penalty's factor at a step: larger by as much as it is rarer."""
    return weight * PENALTY_EVERY if step % PENALTY_EVERY == 0 else 0.0


def usual_penalty(resolution: int, *, batch_size: int) -> float:
    """Return a weight for the penalty that fits most data (Karras et al., NeurIPS 2020, arXiv 2006.06676, appendix)."""
    return 2e-4 * resolution**2 / batch_size
