"""The short way from a call to its program: a Python function written for one program.

`Engine` finds a program by a key made of everything that code may depend on, for arguments of any kind. The function
written here compares a call's arguments with those that its program was found for, one condition after another, and
runs the program if all hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gossamer.runtime.caller import PLAIN
from gossamer.tensor import SparseTensor

if TYPE_CHECKING:
    from gossamer.frontend.program import Program
    from gossamer.state import ModuleState

_is_any_autocast_enabled = torch._C._is_any_autocast_enabled

# What the function returns if its program is not the one.
MISS = object()

Entry = Callable[[tuple[Any, ...], dict[str, Any]], Any]


def make_entry(
    program: Program, positional: int, names: tuple[str, ...], values: Sequence[Any], state: ModuleState | None
) -> Entry | None:
    """Writes the function.

    Args:
        program: What it runs, found for these values in the modes that are on now.
        positional: How many arguments are given by position.
        names: The names of the others, in their order.
        values: All arguments.
        state: Of the module, if the target is one.

    Returns:
        Takes a call's arguments and gives the result, or MISS. None if there is no short way for such arguments.
    """
    if program.autocasts or _is_any_autocast_enabled():
        return None
    writer = _Writer(program)
    writer.arguments(positional, names)
    for number, value in enumerate(values):
        if type(value) in PLAIN:
            writer.tensor(f"a{number}", value)
        elif type(value) is SparseTensor:
            writer.sparse(f"a{number}", value)
        elif type(value) in _CONSTANTS:
            writer.constant(f"a{number}", value)
        else:
            return None
    if state is not None:
        writer.module(state)
    return writer.function()


def shared_patterns(leaves: Sequence[Any]) -> tuple[int, ...]:
    """For each SparseTensor a number, the same for those that share a pattern."""
    seen: dict[int, int] = {}
    return tuple(seen.setdefault(id(leaf.pattern), len(seen)) for leaf in leaves if isinstance(leaf, SparseTensor))


_CONSTANTS = (int, float, bool, str, type(None), torch.dtype)


class _Writer:
    """Collects the function's lines, and the objects that they name."""

    def __init__(self, program: Program):
        self.program = program
        self.leaves: list[str] = []
        self.values: list[Any] = []
        self.shapes: list[str] = []
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "Sparse": SparseTensor,
            "plain": PLAIN,
            "strided": torch.strided,
            "shared": shared_patterns,
            "forward": program.module.forward,
            "rebuild": program.trace.rebuild,
            "fits": program.fits,
            "grad": torch.is_grad_enabled,
            "autocast": _is_any_autocast_enabled,
            "default": torch.get_default_dtype,
            "MISS": MISS,
        }

    def named(self, value: Any) -> str:
        """A name for an object."""
        name = next((name for name, known in self.names.items() if known is value), f"c{len(self.names)}")
        self.names[name] = value
        return name

    def unless(self, *conditions: str) -> None:
        self.lines.append(f"if {' or '.join(conditions)}: return MISS")

    def arguments(self, positional: int, names: tuple[str, ...]) -> None:
        self.unless(f"len(args) != {positional}", f"tuple(kwargs) != {names!r}" if names else "kwargs")
        given = "".join(f"a{number}, " for number in range(positional + len(names)))
        if given:
            self.lines.append(f"{given}= *args, *kwargs.values()" if names else f"{given}= args")

    def tensor(self, x: str, value: Tensor) -> None:
        self.unless(f"type({x}) not in plain", f"{x}.layout is not strided", *self._memory(x, value))
        self._leaf(x, value, f"{x}.shape")

    def sparse(self, x: str, value: SparseTensor) -> None:
        self.unless(f"type({x}) is not Sparse")
        self.lines.append(f"p{x} = {x}.pattern")
        self.unless(
            f"p{x}.kind is not {self.named(value.pattern.kind)}",
            f"{x}.fill != {self.named(value.fill)}",
            *self._memory(f"{x}.values", value.values),
        )
        self._leaf(x, value, f"p{x}.shape")

    def _memory(self, x: str, value: Tensor) -> list[str]:
        on_cpu = value.device.type == "cpu"
        where = f"not {x}.is_cpu" if on_cpu else f"{x}.device != {self.named(value.device)}"
        return [f"{x}.dtype is not {self.named(value.dtype)}", where]

    def _leaf(self, x: str, value: Any, shape: str) -> None:
        """Sizes of 1 are part of a program, all others are not."""
        self.lines.append(f"s{x} = {shape}")
        ones = [f"s{x}[{dim}] {'!=' if size == 1 else '=='} 1" for dim, size in enumerate(value.shape)]
        self.unless(f"len(s{x}) != {len(ones)}", *ones)
        self.leaves.append(x)
        self.values.append(value)
        self.shapes.append(f"s{x}")

    def constant(self, x: str, value: Any) -> None:
        same = f"{x}.hex() != {value.hex()!r}" if isinstance(value, float) else f"{x} != {self.named(value)}"
        self.unless(f"type({x}) is not {self.named(type(value))}", same)

    def module(self, state: ModuleState) -> None:
        own, key = state.read()
        self.lines.append(f"own, key = {self.named(state.read)}()")
        self.unless(f"key is not {self.named(key)} and key != {self.named(key)}")
        self.leaves.append("*own")
        self.values += own
        self.shapes.append("*[t.shape for t in own]")

    def function(self) -> Entry:
        patterns = shared_patterns(self.values)
        leaves = ", ".join(self.leaves)
        if len(patterns) > 1:
            self.unless(f"shared(({leaves},)) != {patterns!r}")
        self.unless(
            f"grad() is not {torch.is_grad_enabled()}",
            "autocast()",
            f"default() is not {self.named(torch.get_default_dtype())}",
        )
        self.lines.append(f"shapes = [{', '.join(self.shapes)}]")
        self.unless("not fits(shapes)")
        self.lines.append(f"return rebuild(forward(shapes, {leaves}))")
        text = "def enter(args, kwargs):\n" + "".join(f"    {line}\n" for line in self.lines)
        exec(text, self.names)
        return self.names["enter"]
