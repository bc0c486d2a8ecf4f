"""How large the tensors are that some code makes; those on `meta`, which have no memory, don't count."""

from collections.abc import Callable, Iterable, Mapping

# A dispatch mode imports it at its first operation: done here, that second is in no test that has a time limit.
import torch._dynamo  # noqa: F401
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Watches what torch's operations return, while it is entered."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.size_bytes = 0
        """Of the largest tensor with memory, so far."""

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Call an operation, and look at what it returns."""
        returned = func(*args, **(kwargs or {}))
        for tensor in returned if isinstance(returned, list | tuple) else [returned]:
            if isinstance(tensor, Tensor) and not tensor.is_meta:
                self.size_bytes = max(self.size_bytes, tensor.numel() * tensor.element_size())
        return returned
