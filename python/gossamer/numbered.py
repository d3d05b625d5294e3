"""Masks and functions of scores by number: what a compiled graph, which has tensors and numbers only, knows a Python
object by."""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from gossamer.errors import TensorError

# The backward of a compiled graph may want an object that nobody else holds any more: the last ones live on.
_HELD = 64
_numbers = count(1)
_objects: WeakValueDictionary[int, Any] = WeakValueDictionary()
_held: OrderedDict[int, Any] = OrderedDict()


def numbered(given: int) -> Any:
    """The object of a number; None for 0.

    Raises:
        TensorError: It is gone.
    """
    if not given:
        return None
    found = _objects.get(given)
    if found is None:
        raise TensorError(
            f"the mask, or the gs.Score, of a compiled gs.attention is gone (number {given}): keep a reference to it "
            f"until the backward"
        )
    _held[given] = found
    _held.move_to_end(given)
    if len(_held) > _HELD:
        _held.popitem(last=False)
    return found


class Numbered:
    """What can be a mask, or a function of scores, of a compiled graph."""

    _number: int

    def _be_numbered(self) -> None:
        """Gives it the number `_number`, which it keeps and no other ever has."""
        if _objects.get(self.__dict__.get("_number", 0)) is not self:
            given = next(_numbers)
            object.__setattr__(self, "_number", given)  # patterns are frozen
            _objects[given] = self

    # torch.compile runs it when it traces, and reads `_number` afterwards, of which it makes a guard. This is what
    # `torch.compiler.assume_constant_result` does, which would load all of torch.compile.
    _be_numbered._dynamo_marked_constant = True  # type: ignore[attr-defined]
