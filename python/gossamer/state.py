"""What a module brings to every call besides its arguments: parameters, buffers, sparse weights, sparse attributes."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.frontend.leaf import is_tracing
from gossamer.tensor import SparseTensor
from gossamer.weights import sparse_parameters

_GONE = object()
_PLAIN = (int, float, bool, str, type(None), torch.dtype)


class ModuleState:
    """The tensors of a module, as leaves of its calls, and the numbers and flags that its code may ask for.

    They are read anew in every call, so that what was replaced, loaded, moved or set is seen. What is not: the content
    of other objects that are attributes (a configuration, a list).

    Attributes:
        names: what they are called: dense ones, then sparse parameters, then plain attributes that are SparseTensors.
        static: how many of them, the first ones, have sizes that are part of the code.
    """

    names: list[str]
    static: int

    def __init__(self, module: nn.Module):
        self.module = module
        self._generation = 0
        # the plain attributes, the kinds of the tensors and the key, when they were last read
        self._last: tuple[list[Any], list[Any], Any] = [], [], None
        self._look()

    def _look(self) -> None:
        """Find out which tensors there are."""
        self._modules = list(self.module.modules())
        self._children = self._current_children()
        self._sparse = sparse_parameters(self.module)
        hidden = {id(value) for chain in self._sparse.values() for value in (chain.original, *chain[0].buffers())}
        self._chains = [(chain[0], chain._parameters) for chain in self._sparse.values()]
        self._dense: dict[str, tuple[dict[str, Any], str]] = {}
        self._attributes: dict[str, tuple[dict[str, Any], str]] = {}
        self._plain = [
            (module.__dict__, name)
            for module in self._modules
            for name, value in module.__dict__.items()
            if isinstance(value, _PLAIN)
        ]
        for path, owner in self.module.named_modules(remove_duplicate=False):
            prefix = f"{path}." if path else ""
            for table in (owner._parameters, owner._buffers):
                for name, value in table.items():
                    if value is not None and id(value) not in hidden:
                        self._dense[prefix + name] = table, name
            for name, value in owner.__dict__.items():
                if isinstance(value, SparseTensor):
                    self._attributes[prefix + name] = owner.__dict__, name
        self.names = [*self._dense, *self._sparse, *self._attributes]
        self.static = len(self._dense) + len(self._sparse)

    def _current_children(self) -> list[int]:
        """Changes when an attribute, a parameter or a buffer is added or removed, or a submodule replaced."""
        found = []
        for module in self._modules:
            own = module.__dict__  # nn.Module looks up attributes slowly
            children = own["_modules"]
            if children:
                found += map(id, children.values())
            found += (len(own["_parameters"]), len(own["_buffers"]), len(own))
        return found

    def _has_changed(self, plain: Sequence[Any]) -> bool:
        if self._current_children() != self._children:
            return True
        if not self._are_same(plain) and not all(isinstance(value, _PLAIN) for value in plain):
            return True
        for table, name in self._dense.values():
            if table.get(name) is None:
                return True
        return not all(isinstance(table.get(name), SparseTensor) for table, name in self._attributes.values())

    def _are_same(self, plain: Sequence[Any]) -> bool:
        """Whether the plain attributes are what they were when they were last read."""
        return len(plain) == len(self._last[0]) and all(map(operator.is_, plain, self._last[0]))

    def _read_plain(self) -> list[Any]:
        return [table.get(name, _GONE) for table, name in self._plain]

    def read(self) -> tuple[list[Any], Any]:
        """What a call depends on.

        Returns:
            The tensors, in the order of `names`, and what code depends on: their kinds, and the plain attributes,
            `training` among them.
        """
        plain = self._read_plain()
        if self._has_changed(plain):
            self._generation += 1
            self._look()
            plain = self._read_plain()
        dense = [table[name] for table, name in self._dense.values()]
        sparse = [make.forward(table["original"]) for make, table in self._chains]
        attributes = [table[name] for table, name in self._attributes.values()]
        kinds: list[Any] = [(t.dtype, t.device, t.shape) for t in dense]
        kinds += [(t.dtype, t.device, t.shape, t.pattern.kind, t.fill) for t in sparse]
        kinds += [(t.dtype, t.pattern.kind, t.fill, tuple(size == 1 for size in t.shape)) for t in attributes]
        _, last_kinds, key = self._last
        if kinds != last_kinds or not self._are_same(plain):
            key = self._generation, tuple(kinds), tuple(plain), tuple(map(type, plain))
            self._last = plain, kinds, key
        return dense + sparse + attributes, key

    def call(self, tensors: Sequence[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the module on other tensors, in a trace."""
        dense = dict(zip(self._dense, tensors, strict=False))
        sparse = tensors[len(self._dense) : self.static]
        with contextlib.ExitStack() as stack:
            for chain, tensor in zip(self._sparse.values(), sparse, strict=True):
                stack.enter_context(_giving(chain[0], tensor))
            for (table, name), tensor in zip(self._attributes.values(), tensors[self.static :], strict=True):
                stack.callback(table.__setitem__, name, table[name])
                table[name] = tensor
            return torch.func.functional_call(self.module, dense, args, kwargs, tie_weights=False, strict=False)


@contextlib.contextmanager
def _giving(parametrization: nn.Module, tensor: Tensor) -> Iterator[None]:
    """While this thread traces, the parametrization gives this tensor."""
    original = parametrization.forward
    parametrization.__dict__["forward"] = lambda values: tensor if is_tracing() else original(values)
    try:
        yield
    finally:
        del parametrization.__dict__["forward"]
