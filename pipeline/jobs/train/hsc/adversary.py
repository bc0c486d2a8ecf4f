"""The discriminator that sharpens: how it learns, and what gradient it has for a restored picture.

Its gradient at the picture is scaled to a share of the other losses' there: then neither the state of the
discriminator nor the resolution says how much it counts, and no weight has to be found by trial. (Esser et al., CVPR
2021, arXiv 2012.09841, equation 7, compare gradients at the last layer, for which they go through it twice more; at
the picture they are there anyway.) That is so only for one that has learned something: what one says that can't tell
pictures apart is noise, so the share grows with how much better than guessing it is.

Letters in shapes: N pictures, R the resolution.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from framevault.codecs.hsc.adversarial import (
    discriminator_loss,
    generator_loss,
    lazy_penalty,
    usual_penalty,
)
from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.discriminator import Discriminator
from framevault.configs.train_hsc import TrainHscJob
from framevault.pipeline.jobs.train.optimisation import Descent, ParameterGroup
from framevault.pipeline.jobs.train.precision import choose_precision, reduced
from framevault.pipeline.jobs.train.stages import StageSetup, State, as_mapping
from framevault.pipeline.jobs.train.world import World

BETAS = (0.0, 0.99)
"""StyleGAN2's memories of Adam for both sides."""

CLIP_NORM = 100.0
"""Longest gradient of the discriminator; only against what is no number any more."""

WARM_UP_STEPS = 20
"""Over which its learning rate grows."""

RATIO_MEMORY = 0.02
"""Share of the newest ratio of gradients in its running average."""

GUESSING_LOSS = 2 * math.log(2)
"""Of a discriminator that gives every picture the same chance of being real."""

TRUSTED_GAIN = 0.1
"""By which the loss must be less before the adversary has its whole share."""

LOSS_MEMORY = 0.02
"""Share of the newest loss in its running average."""

LEAST_LENGTH = 1e-12
"""Of a gradient that is divided by."""


class Adversary:
    """A discriminator in training."""

    def __init__(self, setup: StageSetup[TrainHscJob], config: HscConfig, *, clip_norm: float = CLIP_NORM) -> None:
        """Build it with random weights."""
        job = setup.job
        self._device, self._world = setup.device, setup.world
        self._precision = choose_precision(job, setup.device)
        self._penalty = job.penalty
        if self._penalty is None:
            self._penalty = usual_penalty(config.resolution, batch_size=job.batch_size * setup.world.size)
        self.discriminator = Discriminator(config.channels)
        """On the device."""
        self.discriminator.to(setup.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        setup.world.copy_first([self.discriminator])
        group = ParameterGroup(parameters=tuple(self.discriminator.parameters()), learning_rate=job.discriminator_rate)
        self._descent = Descent(
            [group],
            clip_norm=clip_norm,
            world=setup.world,
            max_bad_steps=job.max_bad_steps,
            warm_up_steps=WARM_UP_STEPS,
            betas=BETAS,
            # The rare penalty is many times as long as the usual gradient.
            outlier_ratio=float("inf"),
        )
        self._ratio = RunningRatio(setup.world)
        self._usual_loss = GUESSING_LOSS

    @property
    def trust(self) -> float:
        """How far it is beyond guessing, 0..1: what its gradient is worth."""
        return min(1.0, max(0.0, (GUESSING_LOSS - self._usual_loss) / TRUSTED_GAIN))

    def learn(self, real_nchw: Tensor, fake_nchw: Tensor) -> dict[str, float]:
        """Learn to tell real pictures from restored ones; returns figures by name."""
        self.discriminator.requires_grad_(True)
        assert self._penalty is not None
        penalty = lazy_penalty(self._descent.num_steps, weight=self._penalty)
        # The penalty's second derivative is small differences of large numbers.
        with reduced(self._device, torch.float32 if penalty else self._precision):
            loss = discriminator_loss(
                self.discriminator, real_nchw, fake_nchw, penalty=penalty, random=fresh_generator()
            )
        descended = self._descent.step(loss, rate=1.0)
        figures = {"discriminator_gradient": descended.gradient_norm}
        # With the penalty in it, the loss would say nothing.
        return figures if penalty else figures | {"discriminator": self._remember(loss.detach())}

    def loss(self, fake_nchw: Tensor) -> Tensor:
        """Return how far pictures are from being taken for real ones, with gradients to them alone."""
        self.discriminator.requires_grad_(False)
        with reduced(self._device, self._precision):
            return generator_loss(self.discriminator, fake_nchw, random=fresh_generator())

    def join(self, fake_nchw: Tensor, distortion: Tensor, *, share: float) -> tuple[Tensor, dict[str, float]]:
        """Return the gradient of a distortion and the adversary at pictures.

        Args:
            fake_nchw: A leaf that requires gradients, [N, 3, R, R].
            distortion: A scalar that follows from it.
            share: Length of the adversary's gradient over the distortion's, for one that is fully trusted.

        Returns:
            [N, 3, R, R], and figures by name.
        """
        (mine_nchw,) = torch.autograd.grad(distortion, fake_nchw)
        trusted_share = share * self.trust
        if trusted_share == 0:
            return mine_nchw, {}
        adversarial = self.loss(fake_nchw)
        (theirs_nchw,) = torch.autograd.grad(adversarial, fake_nchw)
        factor = trusted_share * self._ratio.learn(float(mine_nchw.norm()), float(theirs_nchw.norm()))
        figures = {
            "adversarial": float(adversarial.detach()),
            "adversarial_factor": factor,
            "adversarial_share": trusted_share,
        }
        return mine_nchw + factor * theirs_nchw, figures

    def state_dict(self) -> dict[str, object]:
        """Return discriminator, optimiser and the gradients' ratio."""
        return {
            "discriminator": dict(self.discriminator.state_dict()),
            "descent": self._descent.state_dict(),
            "ratio": self._ratio.state_dict(),
            "usual_loss": self._usual_loss,
        }

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave."""
        self.discriminator.load_state_dict(as_mapping(state["discriminator"]))
        self._descent.load_state_dict(as_mapping(state["descent"]))
        self._ratio.load_state_dict(as_mapping(state["ratio"]))
        usual_loss = state["usual_loss"]
        assert isinstance(usual_loss, float)
        self._usual_loss = usual_loss

    def _remember(self, loss: Tensor) -> float:
        """Take the newest loss, of all processes, into the running average; returns this process's."""
        mine = float(loss)
        newest = float(self._world.sum(torch.tensor([mine], dtype=torch.float64))) / self._world.size
        if math.isfinite(newest):
            self._usual_loss += LOSS_MEMORY * (newest - self._usual_loss)
        return mine


class RunningRatio:
    """Running averages of two lengths, and how many times the second goes into the first."""

    def __init__(self, world: World) -> None:
        """Start knowing neither."""
        self._world = world
        self._lengths: Sequence[float] | None = None

    def learn(self, first: float, second: float) -> float:
        """Take the newest lengths, of all processes, and return the ratio of the averages.

        A step whose lengths are no numbers changes nothing: its gradient is left out, too.
        """
        newest = (self._world.sum(torch.tensor([first, second], dtype=torch.float64)) / self._world.size).tolist()
        if all(length < float("inf") for length in newest):
            before = self._lengths or newest
            self._lengths = [old + RATIO_MEMORY * (new - old) for old, new in zip(before, newest, strict=True)]
        if self._lengths is None:
            return 0.0
        return self._lengths[0] / max(self._lengths[1], LEAST_LENGTH)

    def state_dict(self) -> dict[str, object]:
        """Return both averages."""
        return {"lengths": self._lengths}

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave."""
        lengths = state["lengths"]
        assert lengths is None or isinstance(lengths, list)
        self._lengths = lengths


def fresh_generator() -> torch.Generator:
    """Return random numbers that follow from torch's own, which are seeded for each step."""
    return torch.Generator().manual_seed(int(torch.randint(2**31, ())))
