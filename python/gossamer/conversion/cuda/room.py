"""Memory for what a conversion stores, before or after it is known how much that is."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_WORDS = 64  # that are pinned at a time
_SPARE = 32  # for so many nodes there is room for one more
_WASTED = 8  # of so many nodes that there is room for, at most one is not in use
_UNSET = -1


class Words:
    """Words in pinned memory, which kernels write to; each is one conversion's at a time."""

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []
        self._free: list[ctypes.c_int64] = []

    @contextmanager
    def one(self) -> Iterator[int]:
        """The address of one that is unset. What goes wrong inside is no end of what may write to it: it is lost."""
        while True:
            try:
                word = self._free.pop()  # of several threads, one gets it
                break
            except IndexError:
                self._add()
        word.value = _UNSET
        yield ctypes.addressof(word)
        self._free.append(word)

    def _add(self) -> None:
        block = torch.empty(_WORDS, dtype=torch.int64, device="cpu", pin_memory=True)
        self._blocks.append(block)
        first = block.data_ptr()
        self._free += [ctypes.c_int64.from_address(first + 8 * n) for n in range(_WORDS)]


words = Words()


class Room:
    """How much room conversions of one kind are given before it is known how much they need.

    Where the last one of the kind stored about as much, nothing waits between counting and storing; what it said is
    tried again after one that stored much more, or less.
    """

    def __init__(self) -> None:
        self._last: int | None = None

    def fill(
        self,
        known: Callable[[], int],
        make: Callable[[int], Sequence[Tensor]],
        store: Callable[[int, Sequence[Tensor]], None],
        most: int,
    ) -> tuple[int, Sequence[Tensor]]:
        """Stores nodes.

        Args:
            known: Waits for how many there are.
            make: Allocates, for so many nodes, tensors whose sizes are multiples of that.
            store: Launches what stores them, if they are not more than the first number, and does nothing otherwise.
            most: So many there can be.

        Returns:
            How many there are, and the tensors, of just that size.
        """
        guess = self._last
        if guess is None:
            count = self._last = known()
        else:
            capacity = min(most, guess + guess // _SPARE)
            tensors = make(capacity)
            store(capacity, tensors)
            count = known()
            if capacity - capacity // _WASTED <= count <= capacity:
                self._last = count
                if count < capacity:
                    for tensor in tensors:
                        tensor.resize_(tensor.numel() // capacity * count)
                return count, tensors
            self._last = None
        tensors = make(count)
        store(count, tensors)
        return count, tensors
