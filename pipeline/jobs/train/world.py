"""The processes that train together: each learns from crops of its own, and all have the same weights.

Gradients are averaged over all processes once they are complete, in one message: what torch's
`DistributedDataParallel` does in several while the backward pass still runs. The codec's two million weights are one
message of 8 MB, so there is nothing to hide, and the stages stay plain modules.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where this process stands among all; with one process every method gives back what it got."""

    rank: int = 0
    """Number of this process; number 0 writes, measures and speaks."""
    size: int = 1
    """How many there are."""
    device: str = "cpu"
    """Where tensors must lie to be sent."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over all processes; one that a process lacks counts as zero."""
        if self.size == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.size
        pieces = torch.split(flat, [gradient.numel() for gradient in gradients])
        for parameter, gradient, piece in zip(parameters, gradients, pieces, strict=True):
            gradient.copy_(piece.view(gradient.shape))
            parameter.grad = gradient

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.size == 1:
            return values
        total = values.to(self.device, copy=True)
        distributed.all_reduce(total)
        return total.to(values.device)

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the largest of each over all processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return [float(value) for value in tensor.tolist()]

    def wait(self) -> None:
        """Wait until all processes have come so far."""
        self.largest([0.0])

    def gather(self, texts: Sequence[str]) -> list[str]:
        """Return the texts of all processes, in the order of the processes."""
        if self.size == 1:
            return list(texts)
        gathered: list[list[str]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(gathered, list(texts))
        return [text for each in gathered for text in each]

    def copy_first(self, modules: Iterable[nn.Module]) -> None:
        """Give all processes the weights of the first."""
        if self.size == 1:
            return
        for module in modules:
            for tensor in module.state_dict().values():
                sent = tensor.to(self.device).contiguous()
                distributed.broadcast(sent, src=0)
                tensor.copy_(sent)
