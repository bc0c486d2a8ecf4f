"""The codec's networks under training and their running average, which is what is exported."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.entropy.densities import frequency_tables
from framevault.codecs.hsc.checkpoint import export_tensors
from framevault.codecs.hsc.networks import HscNetworks
from framevault.codecs.hsc.training import TrainedModels
from framevault.configs.train_hsc import TrainHscJob
from framevault.pipeline.jobs.train.errors import TrainingError
from framevault.pipeline.jobs.train.hsc.start import HscStart
from framevault.pipeline.jobs.train.optimisation import ParameterGroup, RunningAverage, sized_groups
from framevault.pipeline.jobs.train.stages import StageSetup, State, as_mapping

ResultT = TypeVar("ResultT")

DENSITY_RATE = 3.0
"""The core symbols' density learns so many times faster than the networks."""


class TrainedParts:
    """Networks, entropy model and density as one module, beside their running average."""

    def __init__(self, setup: StageSetup[TrainHscJob], start: HscStart) -> None:
        """Move the start's networks to the device."""
        models = start.models
        self._module = nn.ModuleDict({"networks": models.networks, "entropy": models.entropy, "core": models.core})
        # The same memory order all the way: mixed ones are copied at each layer.
        self._module.to(setup.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        setup.world.copy_first([self._module])
        self.models = models
        """On the device, under training."""
        self.average = RunningAverage(self._module, decay=setup.job.average_decay)
        """Of all of them."""

    def follow(self) -> None:
        """Let the average take in what a step changed."""
        self.average.follow(self._module)

    def state_dict(self) -> dict[str, object]:
        """Return networks and average."""
        return {"module": dict(self._module.state_dict()), "average": self.average.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave."""
        self._module.load_state_dict(as_mapping(state["module"]))
        self.average.load_state_dict(as_mapping(state["average"]))

    def export(self, path: Path) -> None:
        """Write the running average as a checkpoint of the codec; its limits are found apart."""
        models = averaged_models(self.average)
        core_tables, latent_tables = frequency_tables(models.core)
        tensors, config = export_tensors(
            models.networks, models.entropy, core_tables=core_tables, latent_tables=latent_tables
        )
        save_checkpoint(path, tensors, codec="hsc", config=config)


def averaged_models(average: RunningAverage) -> TrainedModels:
    """Return a copy of the averaged networks on the CPU."""
    module = copy.deepcopy(average.module).cpu()
    assert isinstance(module, nn.ModuleDict)
    return TrainedModels(networks=module["networks"], entropy=module["entropy"], core=module["core"])  # type: ignore[arg-type]  # a ModuleDict forgets its modules' types


def codec_groups(
    models: TrainedModels, job: TrainHscJob, *, rate: float, sized_rate: float, frozen: tuple[nn.Module, ...] = ()
) -> list[ParameterGroup]:
    """Return what is trained of a codec, in groups that learn alike.

    Args:
        models: The codec.
        job: Says how much faster gains learn, and the weight decay.
        rate: Of the float networks.
        sized_rate: Of the entropy model, relative to each tensor's size.
        frozen: Networks that stay as they are.
    """
    networks = models.networks
    gains = (networks.feature_codec.log_gain, networks.feature_codec.log_inverse_gain, networks.style_codec.log_gain)
    left_out = {id(parameter) for module in frozen for parameter in module.parameters()} | {id(gain) for gain in gains}
    rest = tuple(parameter for parameter in networks.parameters() if id(parameter) not in left_out)
    densities = tuple(parameter for parameter in models.core.parameters() if parameter.requires_grad)
    return [
        ParameterGroup(parameters=rest, learning_rate=rate, weight_decay=job.weight_decay),
        ParameterGroup(parameters=gains, learning_rate=rate * job.gain_rate_factor),
        ParameterGroup(parameters=densities, learning_rate=rate * DENSITY_RATE),
        *sized_groups(models.entropy, rate=sized_rate),
    ]


def compile_networks(networks: HscNetworks) -> None:
    """Let torch compile the two networks that take most of a step; compiled at their first call.

    A compiler that fails, or is not there, ends the training with a `TrainingError`.
    """
    inversion, generator = networks.inversion, networks.generator
    inversion.forward = _compiled(inversion.forward)  # type: ignore[method-assign]  # the module stays what it is: same parameters, same names
    generator.tail = _compiled(generator.tail)  # type: ignore[method-assign]  # as above


def _compiled(function: Callable[..., ResultT]) -> Callable[..., ResultT]:
    # Imported here, as it takes seconds and few want it.
    from torch._dynamo.exc import TorchDynamoException

    compiled = torch.compile(function, dynamic=False)

    def call(*tensors: Tensor) -> ResultT:
        try:
            return compiled(*tensors)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise TrainingError(
                f"compile: expected a C++ compiler that torch can use, got: {reason}. Run the same settings without "
                "compile, in another folder"
            ) from error

    return call
