"""Networks without memory: built to compare a checkpoint's tensors with, before anything is made that could be large.

What a checkpoint says of sizes may be anything, and a file of a kilobyte may ask for terabytes. On torch's `meta`
device, tensors have names, shapes and types, and nothing else::

    configuration -> build_hollow -> shapes -> check_shapes with the file's tensors -> allocate -> filled by the caller
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class _WithoutInitialisation(TorchFunctionMode):
    """Skips `nn.init`: torch's forms of it for the `meta` device do nothing, but import a compiler, in a second."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Call a function of torch, or don't."""
        if getattr(func, "__module__", None) == nn.init.__name__:
            return None
        return func(*args, **(kwargs or {}))


def build_hollow(build: Callable[[], NetworkT]) -> NetworkT:
    """Build a network whose tensors have no memory; nor are random numbers drawn."""
    with torch.device("meta"), _WithoutInitialisation():
        return build()


def allocate(network: NetworkT) -> NetworkT:
    """Give a hollow network its memory, on the CPU, and return it.

    Floats are whatever lay there: the caller fills all that the state dict has. Integers, which are the batch norms'
    counters, begin at 0, as in a new network.
    """
    buffers = dict(network.named_buffers())
    assert buffers.keys() <= network.state_dict().keys(), "a buffer that no checkpoint holds would stay unset"
    # As `to_empty` does, whose `empty_like` takes ten times as long for a tensor on `meta`.
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(_allocated(parameter), parameter.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, _allocated(buffer))
    return network


def _allocated(tensor: Tensor) -> Tensor:
    make = torch.empty if tensor.is_floating_point() else torch.zeros
    return make(tensor.shape, dtype=tensor.dtype, device="cpu")
