"""Capture a function as an FX graph of high-level PyTorch operations, by running it on fake dense tensors.

Nothing is computed and nothing of the size of a dense mask is allocated. Every size other than 1 of an input is a
symbol; what the function's control flow assumes about sizes becomes a guard. Sparse inputs are traced as if they were
dense: torch's own rules for sparse tensors would refuse most operations.
"""

from __future__ import annotations

import contextlib
import linecache
import logging
import math
import operator
import re
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sympy
import torch
from torch import fx
from torch._guards import GuardSource, SLoc, Source
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torch.utils._sympy.printers import PythonPrinter

from gossamer.errors import GossamerError, TraceError

from .leaf import TRACING, Leaf
from .lean import load_torch_compile, without_torch_compile

Shapes = Sequence[Sequence[int]]

# make_fx and the switches below are process-wide
_lock = threading.RLock()


@dataclass
class Trace:
    """A captured function.

    Attributes:
        graph: one placeholder a leaf, in order; ``meta["val"]`` of every node is its fake value.
        leaves: what the placeholders stand for.
        env: what is known about the symbols.
        places: where each symbol is read: (leaf, dim).
        rebuild: makes the function's own result from the graph's flat results.
        held: SparseTensors and options that nodes refer to by number.
        own_gradients: names of custom autograd functions, of which only the forward is in the graph.
        lengths: sizes in the graph that would be negative for empty inputs: x[1:] has one row less than x, or none.
    """

    graph: fx.Graph
    leaves: tuple[Leaf, ...]
    env: ShapeEnv
    places: dict[sympy.Symbol, tuple[int, int]]
    rebuild: Callable[[Sequence[Any]], Any]
    held: list[Any]
    own_gradients: tuple[str, ...] = ()
    lengths: tuple[sympy.Expr, ...] = ()

    def guard(self) -> Callable[[Shapes], bool]:
        """Whether leaves of other sizes may use this trace, as a function of their shapes."""
        texts = dict.fromkeys(self._text(guard.expr) for guard in self.env.guards)
        texts |= dict.fromkeys(f"{self._text(length)} >= 0" for length in self.lengths)
        return self._function("(" + " and ".join(f"({text})" for text in texts) + ")" if texts else "True")

    def sizes(self, expressions: Sequence[sympy.Expr]) -> Callable[[Shapes], tuple[int, ...]]:
        """The value of each expression, as a function of the leaves' shapes."""
        return self._function(self._tuple(expressions))

    def shapes(self, shapes: Sequence[Sequence[sympy.Expr]]) -> Callable[[Shapes], list[tuple[int, ...]]]:
        """The values of several shapes, likewise."""
        return self._function("[" + ", ".join(map(self._tuple, shapes)) + "]")

    def _tuple(self, expressions: Sequence[sympy.Expr]) -> str:
        return "(" + "".join(f"{self._text(expr)}, " for expr in expressions) + ")"

    def _text(self, expr: sympy.Basic) -> str:
        known = {s: sympy.Symbol(f"L[{leaf}][{dim}]", integer=True) for s, (leaf, dim) in self.places.items()}
        return PythonPrinter().doprint(expr.xreplace(known))

    @staticmethod
    def _function(text: str) -> Callable[[Shapes], Any]:
        return eval(f"lambda L: {text}", {"math": math, "torch": torch})


class SizeOf:
    """A number that follows from the shapes of the leaves, as something that a graph can call on them."""

    def __init__(self, expression: sympy.Expr, function: Callable[[Shapes], tuple[int, ...]]):
        self.expression = expression
        self.__name__ = "size_of"
        self._function = function

    def __call__(self, shapes: Shapes) -> int:
        return self._function(shapes)[0]


def trace(
    call: Callable[[list[torch.Tensor]], Any],
    leaves: Sequence[Leaf],
    below_autograd: Mapping[Any, Callable[..., Any]] | None = None,
) -> Trace:
    """Capture ``call``.

    Args:
        call: takes one tensor for each leaf and returns any pytree.
        leaves: their descriptions.
        below_autograd: None captures what the function calls; decompositions (which may be none) capture what reaches
            the backends when it has run, gradients that it asks for included, decomposed so.

    Raises:
        TraceError: the function looks at values, or does what cannot be captured; says where.
    """
    with _lock, without_torch_compile() as lean:
        try:
            return _trace(call, leaves, below_autograd)
        except TraceError:
            if not lean:
                raise
            load_torch_compile()  # for the rare operation whose tracing needs all of torch
        return _trace(call, leaves, below_autograd)


def _trace(
    call: Callable[[list[torch.Tensor]], Any],
    leaves: Sequence[Leaf],
    below_autograd: Mapping[Any, Callable[..., Any]] | None,
) -> Trace:
    env = _Env(duck_shape=False)
    mode = FakeTensorMode(shape_env=env, allow_non_fake_inputs=True)
    mode.cache_enabled = False  # of shape rules, for other traces in the same environment; filling it is half of one
    places: dict[sympy.Symbol, tuple[int, int]] = {}
    fakes: list[torch.Tensor] = []
    on_pattern: dict[int, torch.Tensor] = {}
    for number, leaf in enumerate(leaves):
        shared = None if leaf.pattern is None else on_pattern.get(leaf.pattern)
        fakes.append(_fake(leaf, number, env, mode, places) if shared is None else _fake_like(leaf, shared, mode))
        if leaf.pattern is not None:
            on_pattern.setdefault(leaf.pattern, fakes[-1])
    result: list[tuple[list[Any], list[int], TreeSpec]] = []

    def flat(*tensors: torch.Tensor) -> list[Any]:
        values, spec = tree_flatten(call(list(tensors)))
        in_graph = [i for i, value in enumerate(values) if isinstance(value, (torch.Tensor, torch.SymInt))]
        result[:] = [(values, in_graph, spec)]
        return [values[i] for i in in_graph]

    held: list[Any] = []
    with _switches(held), _custom_functions() as own_gradients:
        try:
            with mode:
                module = make_fx(
                    flat,
                    dict(below_autograd or {}),
                    tracing_mode="real",
                    pre_dispatch=below_autograd is None,
                )(*fakes)
        except GossamerError:
            raise
        except Exception as error:
            if _is_own(error):
                raise
            lengths = {str(symbol): leaves[leaf].shape[dim] for symbol, (leaf, dim) in places.items()}
            raise _explained(error, lengths) from error
    values, in_graph, spec = result[0]
    _lift_constants(module)
    rebuild = _rebuilder(values, in_graph, spec)
    lengths = _lengths(module.graph)
    return Trace(module.graph, tuple(leaves), env, places, rebuild, held, tuple(own_gradients), lengths)


def _lengths(graph: fx.Graph) -> tuple[sympy.Expr, ...]:
    """What `Trace.lengths` says: symbols count as positive while tracing, and no guard is left of that."""
    found: dict[sympy.Expr, None] = {}
    for node in graph.nodes:
        value = node.meta.get("val")
        for size in value.shape if isinstance(value, torch.Tensor) else ():
            expr = size.node.expr if isinstance(size, torch.SymInt) else None
            if expr is not None and not expr.is_Symbol and expr.xreplace(dict.fromkeys(expr.free_symbols, 0)) < 0:
                found[expr] = None
    return tuple(found)


def _rebuilder(values: Sequence[Any], in_graph: Sequence[int], spec: TreeSpec) -> Callable[[Sequence[Any]], Any]:
    if len(in_graph) == len(values):
        for kind, rebuild in ((None, operator.itemgetter(0)), (tuple, tuple), (list, list)):
            if tree_flatten(kind(in_graph) if kind else 0)[1] == spec:  # a tensor, or some in a row
                return rebuild
    constants = [None if i in in_graph else value for i, value in enumerate(values)]

    def rebuild_tree(outputs: Sequence[Any]) -> Any:
        merged = list(constants)
        for i, output in zip(in_graph, outputs, strict=True):
            merged[i] = output
        return tree_unflatten(merged, spec)

    return rebuild_tree


class _Env(ShapeEnv):
    """Without the search for the user's line at every size, which nobody prints."""

    def _get_stack_summary(self, *_: Any, **__: Any) -> tuple[SLoc, str]:
        return SLoc(None, None), ""


def _fake(
    leaf: Leaf, number: int, env: ShapeEnv, mode: FakeTensorMode, places: dict[sympy.Symbol, tuple[int, int]]
) -> torch.Tensor:
    """A contiguous stand-in whose sizes other than 1 are symbols, unless the leaf is static."""
    sizes: list[int | torch.SymInt] = []
    for dim, length in enumerate(leaf.shape):
        if leaf.static or length == 1:
            sizes.append(length)
            continue
        # torch specialises on 0; an empty tensor takes the same code as any other, so pretend it has some length
        hint = length or _LENGTH_OF_EMPTY
        source = _Size(f"L{number}_{dim}")
        symbol = env.create_symbol(hint, source, dynamic_dim=DimDynamic.DYNAMIC)
        places[symbol] = (number, dim)
        sizes.append(env.create_symintnode(symbol, hint=hint, source=source))
    with mode:
        return torch.empty(sizes, dtype=leaf.dtype, device=leaf.device)


def _fake_like(leaf: Leaf, shared: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    """A stand-in with the very sizes of another leaf's, which is on the same pattern."""
    with mode:
        return torch.empty(shared.shape, dtype=leaf.dtype, device=leaf.device)


_LENGTH_OF_EMPTY = 5040


@dataclass(frozen=True)
class _Size(Source):
    """Names a symbol for torch."""

    label: str

    @property
    def _name_template(self) -> str:
        return self.label

    @property
    def guard_source(self) -> GuardSource:  # type: ignore[override]
        return GuardSource.CONSTANT


@contextlib.contextmanager
def _switches(held: list[Any]) -> Iterator[None]:
    """While tracing: mark the thread, and keep torch's fused transformer layer (one opaque operation) off."""
    token = TRACING.set(held)
    # torch logs the trace of every failed shape rule, which we report ourselves
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    was_disabled, logger.disabled = logger.disabled, True
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        logger.disabled = was_disabled
        TRACING.reset(token)


@contextlib.contextmanager
def _custom_functions() -> Iterator[dict[str, None]]:
    """Collects the names of the user's autograd.Functions that run: tracing sees through them to what they compute."""
    seen: dict[str, None] = {}
    apply = torch.autograd.Function.__dict__["apply"]

    def noted(cls: type, *args: Any, **kwargs: Any) -> Any:
        if not cls.__module__.startswith("torch."):
            seen[cls.__qualname__] = None
        return apply.__func__(cls, *args, **kwargs)

    torch.autograd.Function.apply = classmethod(noted)  # type: ignore[method-assign, assignment]
    try:
        yield seen
    finally:
        torch.autograd.Function.apply = apply


_TORCH = str(Path(torch.__file__).parent)
_OWN = str(Path(__file__).parents[1])
_VALUE = (
    "it needs a tensor's value; use torch.where or another tensor operation instead of .item(), float() or an if on it"
)
_ADVICE = {
    "DataDependentOutputException": _VALUE,
    "GuardOnDataDependentSymNode": _VALUE,
    "DynamicOutputShapeException": "the shape of its result depends on values; use a mask instead of selecting entries",
    "UnsupportedFakeTensorException": "the operation cannot run without data",
}


def _user_frames(error: Exception) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if not frame.filename.startswith((_TORCH, _OWN, "<"))]


def _is_own(error: Exception) -> bool:
    """Whether the traced function raised the error itself."""
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    own = _user_frames(error)
    line = linecache.getline(innermost.filename, innermost.lineno or 0).strip()
    return bool(own) and innermost is not None and own[-1] == innermost and line.startswith(("raise", "assert"))


def _explained(error: Exception, lengths: Mapping[str, int]) -> TraceError:
    """What could not be traced, on which line, why, and what to do; with the call's own sizes for their symbols."""
    own = _user_frames(error)
    where = ""
    if own:
        line = (own[-1].line or "").strip()
        where = f" at {own[-1].filename}:{own[-1].lineno}, in {own[-1].name}: `{line}`"
    kind = type(error).__name__
    text = re.sub(r"\bs\d+\b", lambda match: str(lengths.get(match[0], match[0])), str(error))
    advice = next((advice for name, advice in _ADVICE.items() if name in kind), None)
    if advice is None and "get value out of a tracing tensor" in text:
        advice = _VALUE
    reason = advice or f"{kind}: {text.splitlines()[0] if text else ''}".rstrip(".")
    return TraceError(
        f"cannot be traced{where}: {reason}. Or apply sparse_jit to the parts on either side of this line"
    )


def _lift_constants(module: fx.GraphModule) -> None:
    """Tensors that the function made of thin air are attributes of the traced module; make them arguments of a call."""
    for node in list(module.graph.nodes):
        if node.op != "get_attr":
            continue
        constant = module
        for part in node.target.split("."):
            constant = getattr(constant, part)
        with module.graph.inserting_before(node):
            call = module.graph.call_function(Constant(constant))
        call.meta = {"val": node.meta.get("val", constant)}
        node.replace_all_uses_with(call)
        module.graph.erase_node(node)


class Constant:
    """A tensor, or a SparseTensor, that is part of the code, as something that a graph can call."""

    def __init__(self, tensor: Any):
        self.tensor = tensor
        self.__name__ = "constant"

    def __call__(self) -> Any:
        return self.tensor
