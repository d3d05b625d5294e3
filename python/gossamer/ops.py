"""What torch's functions do to a SparseTensor outside compiled code.

Operations that keep the pattern are done on the values; all others on dense tensors, with one warning each.
"""

import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gossamer.derive import elementwise, parts, wholes
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
# what more there is of several tensors
_OF_SEVERAL = _ELEMENTWISE | frozenset(
    [
        "addcdiv",
        "addcmul",
        "atan2",
        "copysign",
        "fmax",
        "fmin",
        "heaviside",
        "hypot",
        "lerp",
        "maximum",
        "minimum",
        "where",
        "xlogy",
    ]
)
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
                pass  # a view or a part that is no sparse tensor: a dense one has it
        elif name in _DTYPES and len(args) == 1:
            return first.to(_DTYPES[name])
        elif name in _ELEMENTWISE and _is_plain(args[1:], kwargs):
            return _elementwise(func, first, args[1:], kwargs)
    elif name in _JOINING and isinstance(first, tuple | list) and all(isinstance(t, SparseTensor) for t in first):
        return _JOINING[name](first, *args[1:], **kwargs)
    elif len(args) == 2 and isinstance(args[1], SparseTensor) and name in _ELEMENTWISE and _is_plain(args[:1], kwargs):
        return _elementwise(lambda value, other: func(other, value), args[1], args[:1], kwargs)
    if name in _OF_SEVERAL:
        result = _of_several(func, args, kwargs)
        if result is not None:
            return result
    return _densely(func, name, args, kwargs)


def _of_several(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> SparseTensor | None:
    """An elementwise function of sparse tensors and numbers, if its result is sparse."""
    found = elementwise.split_operands(args, kwargs)
    if found is None:
        return None
    operands, fill_in = found
    return elementwise.apply(lambda *tensors: fill_in(func, tensors), operands)


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
    return wholes.reshape(tensor, _shape(sizes or tuple(kwargs.values())))


def _on(tensor: SparseTensor, pattern: Any) -> SparseTensor:
    return SparseTensor._make(pattern, tensor.values.reshape(pattern.values_shape), tensor.fill)


def _unsqueeze(tensor: SparseTensor, dim: int) -> SparseTensor:
    try:
        return _on(tensor, tensor.pattern.unsqueeze(dim))
    except TensorError:  # behind dimensions that are stored sparsely
        return parts.insert(tensor, dim % (tensor.ndim + 1))


def _squeeze(tensor: SparseTensor, dim: int | tuple[int, ...] | None = None) -> SparseTensor:
    chosen = range(tensor.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    gone = {d % tensor.ndim for d in chosen if tensor.shape[d] == 1}
    try:
        return _on(tensor, tensor.pattern.view([size for d, size in enumerate(tensor.shape) if d not in gone]))
    except TensorError:
        pass
    for d in sorted(gone, reverse=True):
        if tensor.ndim == 1:
            raise TensorError("a number is no sparse tensor")
        tensor = parts.drop(tensor, d)
    return tensor


def _flatten(tensor: SparseTensor, start_dim: int = 0, end_dim: int = -1) -> SparseTensor:
    start, end = start_dim % tensor.ndim, end_dim % tensor.ndim
    return wholes.reshape(tensor, (*tensor.shape[:start], -1, *tensor.shape[end + 1 :]))


def _unflatten(tensor: SparseTensor, dim: int, sizes: Sequence[int]) -> SparseTensor:
    dim %= tensor.ndim
    return wholes.reshape(tensor, (*tensor.shape[:dim], *sizes, *tensor.shape[dim + 1 :]))


def _permute(tensor: SparseTensor, *dims: Any, **kwargs: Any) -> SparseTensor:
    return wholes.permute(tensor, _shape(dims or tuple(kwargs.values())))


def _transpose(tensor: SparseTensor, dim0: int = 0, dim1: int = 1) -> SparseTensor:
    order = list(range(tensor.ndim))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return wholes.permute(tensor, order)


def _getitem(tensor: SparseTensor, index: Any) -> Any:
    """Slices, numbers, new dimensions, an ellipsis, and vectors of numbers, of which torch takes one at a time here."""
    index = list(index) if isinstance(index, tuple) else [index]
    if sum(isinstance(part, torch.Tensor | list | SparseTensor) for part in index) > 1:
        raise TensorError("several index tensors select points, of which there is no pattern")
    named = sum(part is not None and part is not Ellipsis for part in index)
    if any(part is Ellipsis for part in index):
        at = next(n for n, part in enumerate(index) if part is Ellipsis)
        index[at : at + 1] = [slice(None)] * (tensor.ndim - named)
    if named > tensor.ndim:
        raise IndexError(f"too many indices, {named}, for a tensor of {tensor.ndim} dimensions")
    dim = 0
    for part in index:
        if isinstance(tensor, torch.Tensor):  # a single number
            return tensor[part]
        if part is None:
            tensor = _unsqueeze(tensor, dim)
        elif isinstance(part, int) and not isinstance(part, bool):
            tensor = parts.select(tensor, dim, part)
            continue
        elif isinstance(part, slice):
            tensor = parts.slice_(tensor, dim, part.start, part.stop, 1 if part.step is None else part.step)
        elif isinstance(part, torch.Tensor | list):
            tensor = parts.index_select(tensor, dim, torch.as_tensor(part))
        else:
            raise TensorError(f"an index of type {type(part).__name__}")
        dim += 1
    return tensor


def _narrow(tensor: SparseTensor, dim: int, start: Any, length: int) -> SparseTensor:
    start = int(start)
    return parts.slice_(tensor, dim, start, None if start + length == 0 else start + length)


def _split(tensor: SparseTensor, size: int | Sequence[int], dim: int = 0) -> tuple[SparseTensor, ...]:
    total = tensor.shape[dim]
    sizes = [size] * -(-total // size) if isinstance(size, int) else list(size)
    ends = list(itertools.accumulate(sizes)) or [0]
    if not isinstance(size, int) and ends[-1] != total:
        raise TensorError(f"split into {sizes} of a dimension of size {total}: they do not add up")
    return tuple(parts.slice_(tensor, dim, begin, end) for begin, end in zip([0, *ends], ends, strict=False))


def _chunk(tensor: SparseTensor, chunks: int, dim: int = 0) -> tuple[SparseTensor, ...]:
    return _split(tensor, max(1, -(-tensor.shape[dim] // chunks)), dim)


def _unbind(tensor: SparseTensor, dim: int = 0) -> tuple[Any, ...]:
    return tuple(parts.select(tensor, dim, n) for n in range(tensor.shape[dim]))


_JOINING: dict[str, Callable[..., SparseTensor]] = {
    "cat": wholes.cat,
    "concat": wholes.cat,
    "concatenate": wholes.cat,
    "stack": wholes.stack,
}
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
    "unflatten": _unflatten,
    "select": parts.select,
    "narrow": _narrow,
    "index_select": parts.index_select,
    "diagonal": parts.diagonal,
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _chunk,
    "unbind": _unbind,
    "expand": lambda tensor, *sizes: wholes.expand(tensor, _shape(sizes)),
    "broadcast_to": lambda tensor, size: wholes.expand(tensor, size),
    "expand_as": lambda tensor, other: wholes.expand(tensor, other.shape),
    "detach": lambda tensor: tensor.detach(),
    "clone": lambda tensor, **_: tensor.clone(),
    "contiguous": lambda tensor, **_: tensor,
    "cpu": lambda tensor: tensor.to("cpu"),
    "cuda": lambda tensor, device="cuda": tensor.to(device),
    "is_floating_point": lambda tensor: tensor.dtype.is_floating_point,
    "is_complex": lambda tensor: tensor.dtype.is_complex,
    "numel": lambda tensor: tensor.numel(),
}
