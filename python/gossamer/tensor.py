"""Sparse tensors: a pattern, and the values that it stores."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gossamer.coordinates import node_index
from gossamer.errors import TensorError
from gossamer.formats import Format, Level
from gossamer.frontend.leaf import is_tracing
from gossamer.numbered import Numbered
from gossamer.pattern import Pattern
from gossamer.validate import check_values

Fill = bool | int | float


class SparseTensor(Numbered):
    """A tensor whose pattern is stored with it; every entry that is not stored is the fill.

    Not a subclass of torch.Tensor: a pytree node whose one leaf is `values`. Operations of torch that keep the pattern
    (views of leading dimensions, permutations, elementwise functions of one operand) return sparse tensors, all others
    run on `to_dense()` and warn once.

    Args:
        pattern: Where entries are stored.
        values: What is stored there, of shape `pattern.values_shape`; the unused slots of a loose_compressed level
            hold the fill.
        fill: What entries that are not stored are; None means 0, or False for bools.

    Raises:
        TensorError: The values are of another shape, on another device, or of a dtype that cannot hold the fill.
    """

    pattern: Pattern
    values: Tensor
    fill: Fill

    def __init__(self, pattern: Pattern, values: Tensor, fill: Fill | None = None):
        check_values(pattern, values)
        self.pattern, self.values, self.fill = pattern, values, fill_of(values.dtype, fill)

    @classmethod
    def _make(cls, pattern: Pattern, values: Any, fill: Fill) -> "SparseTensor":
        """Without checks: pytree functions put anything where the values were."""
        self = object.__new__(cls)
        self.pattern, self.values, self.fill = pattern, values, fill
        return self

    def __repr__(self) -> str:
        fill = f", fill={self.fill}" if self.fill else ""
        return f"SparseTensor({self.pattern!r}, dtype={self.dtype}, density={self.density:.3g}{fill})"

    def __reduce__(self) -> tuple:
        return SparseTensor._make, (self.pattern, self.values, self.fill)

    @property
    def format(self) -> Format:
        """The storage format."""
        return self.pattern.format

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor."""
        return self.pattern.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.pattern.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """The device of the values and of the index arrays."""
        return self.values.device

    @property
    def requires_grad(self) -> bool:
        """Whether the values require a gradient."""
        return self.values.requires_grad

    @property
    def nnz(self) -> int:
        """Number of stored entries, those of blocks included."""
        return self.pattern.nnz

    @property
    def density(self) -> float:
        """Stored entries over all entries."""
        return self.pattern.density

    def positions(self, level: int) -> Tensor | None:
        """Returns the positions of a level, or None where it has none."""
        return self.pattern.positions(level)

    def coordinates(self, level: int) -> Tensor | None:
        """Returns the coordinates of a level, or None where it has none."""
        return self.pattern.coordinates(level)

    def size(self, dim: int | None = None) -> torch.Size | int:
        """Returns the shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Returns the number of dimensions."""
        return self.ndim

    def numel(self) -> int:
        """Returns the number of entries, stored or not."""
        return math.prod(self.shape)

    def validate(self) -> None:
        """Checks the index arrays and the values again; raises TensorError as the constructors do."""
        self.pattern.validate()
        check_values(self.pattern, self.values)

    def with_values(self, values: Tensor, fill: Fill | None = None) -> "SparseTensor":
        """Returns other values on the same pattern."""
        return SparseTensor(self.pattern, values, fill)

    def to_dense(self) -> Tensor:
        """Returns the tensor with all its entries (strided); differentiable in the values."""
        if is_tracing():
            return self._captured()
        return to_dense(self.pattern, self.values, self.fill)

    def _captured(self) -> Any:
        """What stands for this tensor in the trace that goes on."""
        from gossamer.frontend.marker import capture

        return capture(self)

    def to(self, *args: Any, **kwargs: Any) -> "SparseTensor":
        """Returns the tensor in another format, or on another device, or in another dtype: any of them, in any order.

        A change of the format drops no stored entry, zero or not; entries that the new format must store besides hold
        the fill.

        Raises:
            FormatError: The format does not fit the shape.
            TensorError: The format cannot hold the entries, or the dtype not the fill.
        """
        formats = [arg for arg in args if isinstance(arg, Format)]
        formats += [kwargs.pop("format")] if "format" in kwargs else []
        rest = [arg for arg in args if not isinstance(arg, Format)]
        if is_tracing():
            from gossamer.frontend.marker import mark

            traced = self._captured().to(*rest, **kwargs) if rest or kwargs else self._captured()
            return mark(traced, formats[-1]) if formats else traced  # type: ignore[return-value]
        result = self
        if rest or kwargs:
            values = self.values.to(*rest, **kwargs)
            pattern = self.pattern.to(values.device)
            if values is not self.values or pattern is not self.pattern:
                result = SparseTensor(pattern, values, converted_fill(self.fill, values.dtype))
        for format in formats:
            result = result._in_format(format)
        return result

    def _in_format(self, format: Format) -> "SparseTensor":
        pattern, gather, size = self.pattern.converted_runs(format)
        if pattern is self.pattern:
            return self
        values = self.values if gather is None else gather_runs(self.values, gather, size, self.fill)
        return SparseTensor._make(pattern, values.reshape(pattern.values_shape), self.fill)

    def to_torch(self) -> Tensor:
        """Returns torch's own sparse tensor of the same layout, sharing all arrays.

        Raises:
            TensorError: torch has no such layout (says what to convert to), or the fill is not zero.
        """
        from gossamer.interop import to_torch

        return to_torch(self)

    def to_scipy(self) -> Any:
        """Returns scipy's sparse array of the same layout, sharing all arrays.

        Raises:
            TensorError: scipy has no such layout, device or dtype, or the fill is not zero.
        """
        from gossamer.interop import to_scipy

        return to_scipy(self)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from gossamer.ops import dispatch

        return dispatch(func, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        """Methods of torch.Tensor, except those that change it in place."""
        method = getattr(Tensor, name, None)
        if name.startswith("_") or name.endswith("_") or not callable(method):
            raise AttributeError(f"a SparseTensor has no attribute {name!r}; its values and to_dense() are tensors")
        return partial(self._call, method)

    def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        from gossamer.ops import dispatch

        return dispatch(method, (self, *args), kwargs)

    @property
    def mT(self) -> "SparseTensor":
        """The last two dimensions transposed: the same arrays in the transposed format (CSR becomes CSC)."""
        return self.transpose(-2, -1)

    @property
    def T(self) -> "SparseTensor":
        """The dimensions reversed, likewise."""
        return self.permute(*reversed(range(self.ndim)))

    def detach(self) -> "SparseTensor":
        """Returns the tensor cut off from the graph of its values."""
        if is_tracing():
            return self._captured().detach()
        return SparseTensor._make(self.pattern, self.values.detach(), self.fill)

    def clone(self) -> "SparseTensor":
        """Returns a tensor with its own values, on the same pattern."""
        if is_tracing():
            return self._captured().clone()
        return SparseTensor._make(self.pattern, self.values.clone(), self.fill)

    def resparsify_(self, dense: Tensor, by: Any = None) -> "SparseTensor":
        """Takes new values, and with `by` a new pattern, of a dense tensor; in place, outside of autograd.

        The values stay in the memory where they are, so that an optimizer's parameter, or a CUDA graph that reads the
        values alone, sees the new ones. A pattern is never changed: with `by` this tensor gets another one, and other
        tensors keep theirs.

        Args:
            dense: A dense tensor of the same shape, dtype and device.
            by: What to keep, as for `gs.sparsify`; it must keep as much as is stored now (`gs.by.magnitude` and others
                of a fixed density do). None keeps the pattern: no index is touched, and nothing waits for a GPU.

        Returns:
            This tensor.

        Raises:
            TensorError: The tensors do not fit, there is memory for another number of values, or the values are part
                of a graph.
        """
        from gossamer.sparsifiers.renew import resparsify_

        return resparsify_(self, dense, by)

    def requires_grad_(self, requires_grad: bool = True) -> "SparseTensor":
        """Sets whether the values require a gradient; returns this tensor."""
        self.values.requires_grad_(requires_grad)
        return self


def _operator(name: str) -> Any:
    method = getattr(Tensor, name)

    def call(self: SparseTensor, *args: Any) -> Any:
        return self._call(method, *args)

    call.__name__ = name
    return call


_OPERATORS = """
    neg invert abs add radd sub rsub mul rmul truediv rtruediv floordiv mod pow rpow matmul rmatmul and or xor
    lt le gt ge getitem
"""
for _name in _OPERATORS.split():  # == and != compare objects, as hashing needs; torch.eq compares entries
    setattr(SparseTensor, f"__{_name}__", _operator(f"__{_name}__"))


def gather_runs(values: Tensor, gather: Tensor, size: int, fill: Fill) -> Tensor:
    """Returns the runs of `size` values that `gather` (int64) names, with the fill where it is -1: [runs, size].

    Differentiable in the values.
    """
    if not values.numel():
        return filled_from_nothing(values, (gather.numel(), size), fill)
    runs = values.reshape(-1, size)
    missing = gather < 0
    # To ask a GPU would be to wait for it.
    if not missing.is_cuda and not bool(missing.any()):
        return runs.index_select(0, gather)
    return runs.index_select(0, gather.clamp(min=0)).masked_fill(missing[:, None], fill)


def filled_from_nothing(values: Tensor, shape: Sequence[int], fill: Fill) -> Tensor:
    """Returns a tensor of the fill alone, in the graph of empty `values`: a gradient of nothing is one, too."""
    filled = values.new_full(tuple(shape), fill)
    return filled + values.sum() if values.requires_grad else filled


def fill_of(dtype: torch.dtype, fill: Fill | None) -> Fill:
    """Returns the fill as a Python number of the kind of the dtype (None: zero).

    Raises:
        TensorError: The dtype cannot hold it.
    """
    fill = 0 if fill is None else fill
    if dtype.is_floating_point or dtype.is_complex:
        return float(fill)
    if not math.isfinite(fill) or int(fill) != fill or (dtype == torch.bool and fill not in (0, 1)):
        raise TensorError(f"a fill of {fill} is no value of {dtype}; convert the values to one that holds it")
    return bool(fill) if dtype == torch.bool else int(fill)


def converted_fill(fill: Fill, dtype: torch.dtype) -> Fill:
    """Returns the fill in another dtype, as the values are converted.

    Raises:
        TensorError: The dtype cannot hold it.
    """
    return fill_of(
        dtype,
        bool(fill)
        if dtype == torch.bool
        else int(fill)
        if math.isfinite(fill) and not dtype.is_floating_point
        else fill,
    )


def level_view(dense: Tensor, format: Format) -> Tensor:
    """Returns a tensor with its dimensions split and permuted to the levels of a format: a view, where strides allow.

    Raises:
        FormatError: The format does not fit the shape.
    """
    format.level_sizes(dense.shape)
    split, order = _split_order(format)
    sizes = [size for d, parts in enumerate(split) for size in _part_sizes(dense.shape[d], parts)]
    return dense.reshape(sizes).permute(order)


def dims_of_level_view(levels: Tensor, format: Format, shape: Sequence[int]) -> Tensor:
    """Returns the tensor of which `levels` is the `level_view`."""
    _, order = _split_order(format)
    back = sorted(range(len(order)), key=order.__getitem__)
    return levels.permute(back).reshape(tuple(shape))


def _part_sizes(size: int, parts: list[Level]) -> list[int]:
    block = parts[-1].expr.block
    return [size] if len(parts) == 1 else [size // block, block]


def _split_order(format: Format) -> tuple[list[list[Level]], list[int]]:
    """The levels of each dimension, and where each level is among those of all dimensions in order."""
    split = [[level for level in format.levels if level.expr.dim == d] for d in range(format.dim_rank)]
    flat = [level for parts in split for level in parts]
    return split, [flat.index(level) for level in format.levels]


def to_dense(pattern: Pattern, values: Tensor, fill: Fill) -> Tensor:
    """Returns the dense tensor; entries stored more than once are summed (or-ed, for bools)."""
    format = pattern.format
    if values.device.type == "meta":
        return values.new_empty(pattern.shape)
    if not format.outer:
        return dims_of_level_view(values, format, pattern.shape)
    from gossamer.conversion.values import has_mover, is_plain_memory, put_values

    if is_plain_memory(values) and has_mover(format):
        return put_values(values, pattern, fill)
    return to_dense_by_index(pattern, values, fill)


def to_dense_by_index(pattern: Pattern, values: Tensor, fill: Fill) -> Tensor:
    """Does it by operations of torch, on any device: for what has no kernels, and as their oracle."""
    format, sizes = pattern.format, pattern.level_sizes
    outer, inner = sizes[: format.outer], sizes[format.outer :]
    index = node_index(pattern)
    blocks = values.reshape(-1, *inner) if math.prod(inner) else values.reshape(index.numel(), *inner)
    if any(level.kind == "loose_compressed" for level in format.levels):
        used = (index >= 0).nonzero()[:, 0]
        index, blocks = index[used], blocks[used]
    places = math.prod(outer)
    if format.allows_duplicates:
        summed = blocks.new_zeros(places, *inner).index_put((index,), blocks, accumulate=True)
        stored = torch.zeros(places, dtype=torch.bool, device=index.device).index_fill(0, index, True)
        dense = torch.where(stored.view(-1, *[1] * len(inner)), summed, fill).to(values.dtype)
    else:
        dense = blocks.new_full((places, *inner), fill).index_put((index,), blocks)
    return dims_of_level_view(dense.view(*outer, *inner), format, pattern.shape)


def from_torch(tensor: Tensor, *, check: bool = True) -> SparseTensor:
    """Returns a torch sparse tensor (COO, CSR, CSC, BSR or BSC, batched or not) as a SparseTensor sharing its arrays.

    A COO tensor that is not coalesced is coalesced first, which copies.

    Args:
        tensor: The tensor.
        check: Whether to check its indices; torch itself does not by default.

    Raises:
        TensorError: It is dense, or its indices are not consistent.
    """
    from gossamer.interop import from_torch as convert

    return convert(tensor, check=check)


def from_scipy(array: Any) -> SparseTensor:
    """Returns a scipy sparse array or matrix (COO, CSR, CSC, BSR) as a SparseTensor sharing its arrays.

    One that is not sorted, or has duplicates, is copied and summed first.

    Raises:
        TensorError: It has another layout (says what to convert it to).
    """
    from gossamer.interop import from_scipy as convert

    return convert(array)


def _flatten(tensor: SparseTensor) -> tuple[list[Any], tuple[Pattern, Fill]]:
    return [tensor.values], (tensor.pattern, tensor.fill)


def _unflatten(values: Any, context: tuple[Pattern, Fill]) -> SparseTensor:
    (leaf,) = values
    return SparseTensor._make(context[0], leaf, context[1])


def _flatten_with_keys(tensor: SparseTensor) -> tuple[list[tuple[Any, Any]], tuple[Pattern, Fill]]:
    return [(pytree.GetAttrKey("values"), tensor.values)], (tensor.pattern, tensor.fill)


pytree.register_pytree_node(
    SparseTensor,
    _flatten,
    _unflatten,
    serialized_type_name="gossamer.SparseTensor",
    flatten_with_keys_fn=_flatten_with_keys,
)
