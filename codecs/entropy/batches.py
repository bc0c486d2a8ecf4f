"""A step of decoding in every stream of a batch."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from framevault.codecs.entropy.coder import decode_many
from framevault.codecs.errors import BitstreamError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def for_each_stream(step: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> list[ResultT]:
    """Take a step of decoding in every stream, in as many threads as torch has.

    Raises:
        BitstreamError: A stream is damaged; the message says which of the call's streams it is.
    """

    def named(position: int) -> ResultT:
        try:
            return step(items[position])
        except BitstreamError as error:
            raise BitstreamError(f"stream {position} of the call: {error}") from error

    return decode_many(named, range(len(items)), num_threads=torch.get_num_threads())
