"""Stage `generator`: StyleGAN2 from pictures alone.

Non-saturating loss, R1 in one of 16 steps, differentiable augmentation, style mixing, a running average of the weights
(Karras et al., CVPR 2020, arXiv 1912.04958; Zhao et al., NeurIPS 2020, arXiv 2006.10738). No path length penalty: it
costs a second backward pass through the generator for evenness that coding does not need.

Letters in shapes: N pictures, Z width of the random vector, L styles of D values.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from framevault.codecs.hsc.mapping import LEARNING_RATE_RATIO, MappingNetwork
from framevault.codecs.hsc.networks import HscNetworks
from framevault.configs.train_hsc import TrainHscJob
from framevault.pipeline.jobs.train.hsc.adversary import BETAS, Adversary
from framevault.pipeline.jobs.train.hsc.squares import random_squares, signed
from framevault.pipeline.jobs.train.hsc.start import export_parts, make_mapping, make_start
from framevault.pipeline.jobs.train.optimisation import Descent, ParameterGroup, RunningAverage, cosine_rate
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.precision import choose_precision, reduced
from framevault.pipeline.jobs.train.stages import Batch, Row, StageSetup, State, as_mapping

RATE = 5e-4
"""Learning rate of the generator, if none is given; its weights are stored as they are used, so it is a small one."""

MIXING_SHARE = 0.9
"""So many pictures have styles of two random vectors."""


class GeneratorStage:
    """Trains generator, mapping network and discriminator."""

    starts_from: Path | None = None
    """Nothing to compare with."""

    def __init__(self, setup: StageSetup[TrainHscJob]) -> None:
        """Make the networks, or take those of a start.

        Raises:
            CodecError: A file is missing, damaged or another's.
        """
        self._job, self._device = setup.job, setup.device
        start = make_start(setup)
        self._networks: HscNetworks = start.models.networks
        config = self._networks.config
        self._config = config
        mapping = make_mapping(start.others) or MappingNetwork(width=config.style, style=config.style)
        self._mapping = mapping.requires_grad_(True)
        self._trained = nn.ModuleDict({"generator": self._networks.generator, "mapping": self._mapping})
        self._trained.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        setup.world.copy_first([self._trained])
        self._average = RunningAverage(self._trained, decay=self._job.average_decay)
        self._precision = choose_precision(self._job, self._device)
        self._adversary = Adversary(setup, config)
        rate = self._job.learning_rate or RATE
        self._descent = Descent(
            [
                ParameterGroup(parameters=tuple(self._networks.generator.parameters()), learning_rate=rate),
                ParameterGroup(parameters=tuple(self._mapping.parameters()), learning_rate=rate * LEARNING_RATE_RATIO),
            ],
            clip_norm=self._job.clip_norm,
            world=setup.world,
            max_bad_steps=self._job.max_bad_steps,
            betas=BETAS,
        )

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        """Take whole pictures."""
        squares_nchw = random_squares(pictures, rng, num_squares=self._job.batch_size, side=self._config.resolution)
        return Batch(views=(squares_nchw,))

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Let the generator learn, and then the discriminator."""
        rgb_nchw = signed(batch.rgb_nchw, self._device)
        styles_nld = self._draw_styles(batch.num_crops)
        with reduced(self._device, self._precision):
            fake_nchw = self._networks.generator(styles_nld).float()
        loss = self._adversary.loss(fake_nchw)
        descended = self._descent.step(loss, rate=cosine_rate(progress))
        if descended.is_finite:
            self._average.follow(self._trained)
        return {
            "adversarial": float(loss.detach()),
            "gradient": descended.gradient_norm,
            "skipped_not_finite": float(not descended.is_finite),
            "skipped_outlier": float(descended.is_outlier),
            **self._adversary.learn(rgb_nchw, fake_nchw.detach()),
        }

    def state_dict(self) -> State:
        """Return networks, running average, discriminator and optimisers."""
        return {
            "trained": dict(self._trained.state_dict()),
            "average": self._average.state_dict(),
            "adversary": self._adversary.state_dict(),
            "descent": self._descent.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave."""
        self._trained.load_state_dict(as_mapping(state["trained"]))
        self._average.load_state_dict(as_mapping(state["average"]))
        self._adversary.load_state_dict(as_mapping(state["adversary"]))
        self._descent.load_state_dict(as_mapping(state["descent"]))

    def export(self, path: Path) -> None:
        """Write the running average, and the discriminator as it is."""
        averaged = copy.deepcopy(self._average.module).cpu()
        assert isinstance(averaged, nn.ModuleDict)
        mapping = averaged["mapping"]
        assert isinstance(mapping, MappingNetwork)
        mapping.measure_mean()
        networks = HscNetworks(self._config)
        networks.generator.load_state_dict(averaged["generator"].state_dict())
        others = {f"mapping.{name}": tensor for name, tensor in mapping.state_dict().items()}
        discriminator = self._adversary.discriminator.state_dict()
        others |= {f"discriminator.{name}": tensor for name, tensor in discriminator.items()}
        export_parts(path, networks, others)

    def validate(self, exported: Path, pictures: PictureSet, qualities: Sequence[int]) -> list[Row]:
        """Measure nothing: it has no bitstream."""
        return []

    def _draw_styles(self, num_pictures: int) -> Tensor:
        """Return styles of random vectors, [N, L, D]; from some layer on, those of another one."""
        num_styles = self._config.num_styles
        first_nld, second_nld = (self._styles_of_one(num_pictures, num_styles) for _ in range(2))
        cut_n = torch.randint(1, num_styles, (num_pictures,))
        cut_n = torch.where(torch.rand(num_pictures) < MIXING_SHARE, cut_n, num_styles)
        is_first_nl = torch.arange(num_styles) < cut_n[:, None]
        return torch.where(is_first_nl.to(self._device)[:, :, None], first_nld, second_nld)

    def _styles_of_one(self, num_pictures: int, num_styles: int) -> Tensor:
        z_nz = torch.randn(num_pictures, self._mapping.width).to(self._device)
        return self._mapping.styles(z_nz, num_styles=num_styles)
