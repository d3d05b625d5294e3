"""What torch's functions do to a SparseTensor outside compiled code.

Operations that keep the pattern are done on the values; all others on dense tensors, with one warning each.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gossamer.errors import FallbackWarning, TensorError
from gossamer.frontend.leaf import is_tracing
from gossamer.tensor import SparseTensor, converted_fill

_UNARY = """
    abs absolute acos acosh arccos asin asinh arcsin atan atanh arctan bitwise_not ceil celu clamp clamp_max clamp_min
    clip cos cosh deg2rad elu erf erfc exp exp2 expm1 fix floor frac gelu hardshrink hardsigmoid hardswish hardtanh
    invert isfinite isinf isnan leaky_relu log log10 log1p log2 logical_not logit logsigmoid mish nan_to_num neg
    negative positive rad2deg reciprocal relu relu6 round rsqrt selu sgn sigmoid sign signbit silu sin sinc sinh
    softplus softshrink softsign sqrt square tan tanh tanhshrink threshold trunc
"""
_WITH_SCALAR = """
    add and bitwise_and bitwise_or bitwise_xor div divide eq floor_divide floordiv fmod ge gt le less less_equal
    logical_and logical_or logical_xor lt mod mul multiply ne not_equal or pow radd rdiv remainder rfloordiv rmul rpow
    rsub rtruediv sub subtract true_divide truediv xor
"""
_ELEMENTWISE = frozenset(_UNARY.split()) | frozenset(_WITH_SCALAR.split())
_DTYPES = {
    "float": torch.float32,
    "double": torch.float64,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "bool": torch.bool,
    "int": torch.int32,
    "long": torch.int64,
}

_warned: set[str] = set()


def dispatch(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Runs a function of torch that was given a SparseTensor among its arguments."""
    if is_tracing():  # it is of the enclosing scope: a constant of the trace, and dense there
        from gossamer.frontend.marker import capture

        args, kwargs = pytree.tree_map_only(
            SparseTensor, capture, (tuple(args), kwargs), is_leaf=lambda value: isinstance(value, SparseTensor)
        )
        return func(*args, **kwargs)
    name = getattr(func, "__name__", str(func)).strip("_")
    first = args[0] if args else None
    if isinstance(first, SparseTensor):
        if name in _STRUCTURAL:
            try:
                return _STRUCTURAL[name](first, *args[1:], **kwargs)
            except TensorError:
                pass  # a view that the pattern does not have: a dense one has it
        elif name in _DTYPES and len(args) == 1:
            return first.to(_DTYPES[name])
        elif name in _ELEMENTWISE and _is_plain(args[1:], kwargs):
            return _elementwise(func, first, args[1:], kwargs)
    elif len(args) == 2 and isinstance(args[1], SparseTensor) and name in _ELEMENTWISE and _is_plain(args[:1], kwargs):
        return _elementwise(lambda value, other: func(other, value), args[1], args[:1], kwargs)
    return _densely(func, name, args, kwargs)


def _is_plain(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether there is no tensor among the further arguments: then each entry depends on itself alone."""
    return all(isinstance(arg, (bool, int, float, complex, str, type(None))) for arg in (*args, *kwargs.values()))


def _elementwise(func: Callable[..., Any], first: SparseTensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    values = func(first.values, *args, **kwargs)
    # One entry that is not stored stands for all of them.
    fill = func(torch.tensor(first.fill, dtype=first.dtype), *args, **kwargs).item()
    return SparseTensor._make(first.pattern, values, converted_fill(fill, values.dtype))


def _densely(func: Callable[..., Any], name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if name not in _warned:
        _warned.add(name)
        warnings.warn(
            f"{name} of a SparseTensor runs on dense tensors; gs.sparse_jit compiles a function where it can",
            FallbackWarning,
            stacklevel=4,
        )

    def dense(leaf: Any) -> Any:
        return leaf.to_dense() if isinstance(leaf, SparseTensor) else leaf

    args, kwargs = pytree.tree_map(dense, (tuple(args), kwargs), is_leaf=lambda leaf: isinstance(leaf, SparseTensor))
    return func(*args, **kwargs)


def _shape(sizes: Sequence[Any]) -> tuple[int, ...]:
    """Sizes given one by one, or as one sequence."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list, torch.Size)) else tuple(sizes)


def _view(tensor: SparseTensor, *sizes: Any, **kwargs: Any) -> SparseTensor:
    if len(sizes) == 1 and isinstance(sizes[0], torch.dtype):
        raise TensorError("a view in another dtype")
    return _on(tensor, tensor.pattern.view(_shape(sizes or tuple(kwargs.values()))))


def _on(tensor: SparseTensor, pattern: Any) -> SparseTensor:
    return SparseTensor._make(pattern, tensor.values.reshape(pattern.values_shape), tensor.fill)


def _unsqueeze(tensor: SparseTensor, dim: int) -> SparseTensor:
    return _on(tensor, tensor.pattern.unsqueeze(dim))


def _squeeze(tensor: SparseTensor, dim: int | tuple[int, ...] | None = None) -> SparseTensor:
    chosen = range(tensor.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    gone = {d % tensor.ndim for d in chosen if tensor.shape[d] == 1}
    return _on(tensor, tensor.pattern.view([size for d, size in enumerate(tensor.shape) if d not in gone]))


def _flatten(tensor: SparseTensor, start_dim: int = 0, end_dim: int = -1) -> SparseTensor:
    start, end = start_dim % tensor.ndim, end_dim % tensor.ndim
    return _on(tensor, tensor.pattern.view((*tensor.shape[:start], -1, *tensor.shape[end + 1 :])))


def _permute(tensor: SparseTensor, *dims: Any, **kwargs: Any) -> SparseTensor:
    return _on(tensor, tensor.pattern.permute(_shape(dims or tuple(kwargs.values()))))


def _transpose(tensor: SparseTensor, dim0: int = 0, dim1: int = 1) -> SparseTensor:
    order = list(range(tensor.ndim))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _on(tensor, tensor.pattern.permute(order))


def _getitem(tensor: SparseTensor, index: Any) -> SparseTensor:
    """New leading dimensions: mask[None], mask[None, :, None]."""
    index = index if isinstance(index, tuple) else (index,)
    if any(
        not (part is None or part is Ellipsis or (isinstance(part, slice) and part == slice(None))) for part in index
    ):
        raise TensorError("an index that selects")
    named = sum(isinstance(part, slice) for part in index)
    shape: list[int] = []
    sizes = iter(tensor.shape)
    for part in index:
        count = tensor.ndim - named if part is Ellipsis else int(part is not None)
        shape += [1] if part is None else [next(sizes) for _ in range(count)]
    return _on(tensor, tensor.pattern.view([*shape, *sizes]))


_STRUCTURAL: dict[str, Callable[..., Any]] = {
    "view": _view,
    "reshape": _view,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "flatten": _flatten,
    "permute": _permute,
    "transpose": _transpose,
    "swapaxes": _transpose,
    "t": _transpose,
    "getitem": _getitem,
    "detach": lambda tensor: tensor.detach(),
    "clone": lambda tensor, **_: tensor.clone(),
    "contiguous": lambda tensor, **_: tensor,
    "cpu": lambda tensor: tensor.to("cpu"),
    "cuda": lambda tensor, device="cuda": tensor.to(device),
    "is_floating_point": lambda tensor: tensor.dtype.is_floating_point,
    "is_complex": lambda tensor: tensor.dtype.is_complex,
    "numel": lambda tensor: tensor.numel(),
}
