"""One step down the gradient, and the running average of the weights."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from framevault.pipeline.jobs.train.errors import TrainingError
from framevault.pipeline.jobs.train.world import World

WARM_UP_STEPS = 150
"""Steps over which the learning rate grows from nothing, unless told otherwise."""

LAST_RATE = 0.02
"""The learning rate at the end, over that at the start."""

OUTLIER_RATIO = 6.0
"""A gradient so many times longer than usual is left out: some pictures give them, and one undoes minutes."""

NORM_DECAY = 0.98
"""Of the running average that says what is usual."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParameterGroup:
    """Parameters that learn alike."""

    parameters: tuple[nn.Parameter, ...]
    """Which."""
    learning_rate: float
    """Before the schedule."""
    weight_decay: float = 0.0
    """Of AdamW."""


SMALLEST_WEIGHT_SIZE, SMALLEST_BIAS_SIZE = 0.01, 10.0
"""Tensors of integer networks learn as if they were at least so large: zeros must be able to leave, and biases are in
units of activations, 0 to 255."""


def sized_groups(networks: nn.Module, *, rate: float) -> list[ParameterGroup]:
    """Return each tensor by itself, with a learning rate in proportion to its size.

    For networks that have an integer form: the values of their tensors are of very different sizes.
    """
    groups = []
    for name, parameter in networks.named_parameters():
        smallest = SMALLEST_BIAS_SIZE if name.endswith("bias") else SMALLEST_WEIGHT_SIZE
        size = max(float(parameter.detach().square().mean().sqrt()), smallest)
        groups.append(ParameterGroup(parameters=(parameter,), learning_rate=rate * size))
    return groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Descended:
    """What came of one step."""

    gradient_norm: float
    """Length of the gradient before it was clipped; may be no number."""
    is_finite: bool
    """Whether it was one; if not, nothing was changed."""
    is_outlier: bool
    """Whether it was left out for being much longer than usual."""


class Descent:
    """AdamW with clipping, over all processes; steps without a finite gradient change nothing and are counted."""

    def __init__(
        self,
        groups: Sequence[ParameterGroup],
        *,
        clip_norm: float,
        world: World,
        max_bad_steps: int,
        warm_up_steps: int = WARM_UP_STEPS,
        betas: tuple[float, float] = (0.9, 0.999),
        outlier_ratio: float = OUTLIER_RATIO,
    ) -> None:
        """Remember what is trained; each parameter stands in one group, and `betas` are AdamW's memories."""
        self._groups = tuple(groups)
        self._parameters = [parameter for group in groups for parameter in group.parameters]
        self._optimiser = torch.optim.AdamW(
            [{"params": list(group.parameters), "weight_decay": group.weight_decay} for group in groups],
            lr=1e-4,
            betas=betas,
        )
        self._clip_norm = clip_norm
        self._world = world
        self._max_bad_steps = max_bad_steps
        self._warm_up_steps = warm_up_steps
        self._outlier_ratio = outlier_ratio
        self._usual_norm: float | None = None
        self._bad_in_a_row = 0
        self.num_steps = 0
        """Steps so far, those left out included."""

    def step(self, loss: Tensor, *, rate: float) -> Descended:
        """Go down the gradient of a loss.

        Args:
            loss: A scalar with a graph.
            rate: Factor of the learning rates, from `cosine_rate`.

        Raises:
            TrainingError: Too many steps in a row had no finite gradient.
        """
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        for group, options in zip(self._groups, self._optimiser.param_groups, strict=True):
            options["lr"] = group.learning_rate * rate * min(1.0, (self.num_steps + 1) / self._warm_up_steps)
        self._world.average_gradients(self._parameters)
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self._clip_norm))
        self.num_steps += 1
        if not math.isfinite(norm):
            self._count_bad()
            return Descended(gradient_norm=norm, is_finite=False, is_outlier=False)
        self._bad_in_a_row = 0
        is_outlier = self._usual_norm is not None and norm > self._outlier_ratio * self._usual_norm
        if not is_outlier:
            self._optimiser.step()
        self._learn_usual(norm)
        return Descended(gradient_norm=norm, is_finite=True, is_outlier=is_outlier)

    def state_dict(self) -> dict[str, object]:
        """Return all that the next step depends on, but the parameters themselves."""
        return {
            "optimiser": self._optimiser.state_dict(),
            "usual_norm": self._usual_norm,
            "bad_in_a_row": self._bad_in_a_row,
            "num_steps": self.num_steps,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take what `state_dict` gave."""
        optimiser, usual_norm = state["optimiser"], state["usual_norm"]
        num_steps, bad_in_a_row = state["num_steps"], state["bad_in_a_row"]
        assert isinstance(optimiser, dict)
        assert isinstance(num_steps, int)
        assert isinstance(bad_in_a_row, int)
        assert usual_norm is None or isinstance(usual_norm, float)
        self._optimiser.load_state_dict(optimiser)
        self._keep_layouts()
        self._usual_norm, self.num_steps, self._bad_in_a_row = usual_norm, num_steps, bad_in_a_row

    def _keep_layouts(self) -> None:
        """Copy AdamW's averages into their parameters' memory order: in another one, sums round another way."""
        for parameter, values in self._optimiser.state.items():
            for name, tensor in values.items():
                assert isinstance(tensor, Tensor)
                is_average = tensor.shape == parameter.shape
                values[name] = torch.empty_like(parameter.detach()).copy_(tensor) if is_average else tensor.clone()

    def _learn_usual(self, norm: float) -> None:
        if self._usual_norm is None:
            self._usual_norm = norm
        # An outlier counts, or a loss that grows for good would be left out for ever; but not at its full length.
        capped = min(norm, (self._outlier_ratio - 1) * self._usual_norm)
        self._usual_norm = NORM_DECAY * self._usual_norm + (1 - NORM_DECAY) * capped

    def _count_bad(self) -> None:
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= self._max_bad_steps:
            raise TrainingError(
                f"{self._bad_in_a_row} steps in a row gave no finite gradient (step {self.num_steps}): nothing was "
                "changed by them. Start anew in another folder with a smaller learning_rate (a tenth), or with "
                "precision: float32; a checkpoint given as start may be damaged"
            )


class RunningAverage:
    """A copy of a module whose weights are the average of the trained ones over the last steps."""

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        """Start from the module as it is."""
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        """The copy."""
        self._decay = decay
        self._num_steps = 0

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """Move towards the module's weights; its buffers are copied."""
        self._num_steps += 1
        decay = min(self._decay, (1 + self._num_steps) / (10 + self._num_steps))
        for mine, theirs in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        for my_buffer, their_buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            my_buffer.copy_(their_buffer)

    def state_dict(self) -> dict[str, object]:
        """Return weights and age."""
        return {"module": dict(self.module.state_dict()), "num_steps": self._num_steps}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take what `state_dict` gave."""
        module, num_steps = state["module"], state["num_steps"]
        assert isinstance(module, dict)
        assert isinstance(num_steps, int)
        self.module.load_state_dict(module)
        self._num_steps = num_steps


def cosine_rate(progress: float) -> float:
    """Return the factor of the learning rates: a half cosine from 1 to `LAST_RATE`."""
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
