"""From and to torch's and scipy's sparse tensors, sharing their arrays."""

from typing import Any

import torch
from torch import Tensor

from gossamer.errors import FormatError, TensorError
from gossamer.formats import BSC, BSR, CSC, CSR, Expr, Format, coo_format, dense_levels
from gossamer.pattern import Pattern
from gossamer.tensor import SparseTensor

_ROWS = (torch.sparse_csr, torch.sparse_bsr)
_COLUMNS = (torch.sparse_csc, torch.sparse_bsc)
_BLOCKS = (torch.sparse_bsr, torch.sparse_bsc)


def torch_format(tensor: Tensor) -> Format:
    """Returns what `Format.of` does for a torch tensor."""
    if not isinstance(tensor, Tensor):
        raise FormatError(f"a {type(tensor).__name__} has no storage format; give a torch tensor or a SparseTensor")
    if tensor.layout == torch.strided:
        return Format.from_levels(tensor.dim(), dense_levels(0, tensor.dim()))
    if tensor.layout == torch.sparse_coo:
        return coo_format(tensor.sparse_dim(), tensor.dense_dim())
    if tensor.layout not in _ROWS + _COLUMNS:
        raise FormatError(f"the layout {tensor.layout} has no format; torch's COO, CSR, CSC, BSR and BSC have one")
    batch = tensor.dim() - 2 - tensor.dense_dim()
    if tensor.layout in _BLOCKS:
        block = tuple(tensor.values().shape[batch + 1 : batch + 3])
        base = BSR(block) if tensor.layout == torch.sparse_bsr else BSC(block)
    else:
        base = CSR if tensor.layout == torch.sparse_csr else CSC
    return _with_dense(base, tensor.dense_dim()).with_batch(batch)


def _with_dense(format: Format, count: int) -> Format:
    """Appends dense dimensions: torch's hybrid tensors, whose values are whole slices."""
    rank = format.dim_rank
    return Format.from_levels(rank + count, [*format.levels, *dense_levels(rank, count)]) if count else format


def from_torch(tensor: Tensor, *, check: bool = True) -> SparseTensor:
    """Returns what `gossamer.from_torch` does."""
    if not isinstance(tensor, Tensor) or tensor.layout == torch.strided:
        what = "a dense tensor" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
        raise TensorError(
            f"from_torch takes a torch sparse tensor, not {what}; gs.sparsify(x, format) makes one sparse"
        )
    format = torch_format(tensor)
    if tensor.layout == torch.sparse_coo:
        return _from_coo(tensor, format, check)
    rows = tensor.layout in _ROWS
    positions = tensor.crow_indices() if rows else tensor.ccol_indices()
    coordinates = tensor.col_indices() if rows else tensor.row_indices()
    outer = format.outer
    arrays = [[None] * (outer - 1) + [array] + [None] * (format.lvl_rank - outer) for array in (positions, coordinates)]
    pattern = Pattern(format, tensor.shape, *arrays, check=check)
    return SparseTensor(pattern, tensor.values().reshape(pattern.values_shape))


def _from_coo(tensor: Tensor, format: Format, check: bool) -> SparseTensor:
    if not tensor.is_coalesced():
        tensor = tensor.coalesce()
    indices, rank = tensor.indices(), tensor.sparse_dim()
    if rank == 0:
        raise TensorError("a COO tensor without sparse dimensions is dense: take its values()")
    rest = [None] * (format.lvl_rank - rank)
    ends = torch.tensor([0, indices.shape[1]], dtype=indices.dtype, device=indices.device)
    pattern = Pattern(
        format, tensor.shape, [ends] + [None] * (format.lvl_rank - 1), [*indices.unbind(), *rest], check=check
    )
    pattern.derived("torch_indices", lambda: indices)
    return SparseTensor(pattern, tensor.values())


def to_torch(tensor: SparseTensor) -> Tensor:
    """Returns what `SparseTensor.to_torch` does."""
    _check_zero_fill(tensor, "torch")
    pattern = tensor.pattern
    format, shape = tensor.format, tuple(tensor.shape)
    if not format.outer:
        return tensor.to_dense()
    base, dense = _without_dense(format)
    rank = base.dim_rank - base.batch_rank
    if base == coo_format(rank):
        indices = pattern.derived("torch_indices", lambda: _stacked(pattern, rank))
        return torch.sparse_coo_tensor(indices, tensor.values, shape, is_coalesced=True, check_invariants=False)
    layout = _compressed_layout(base)
    if layout is None:
        raise TensorError(f"torch has no layout for {format}; {_torch_hint(format)}")
    positions, coordinates = _last_arrays(pattern)
    values = tensor.values
    if layout in _BLOCKS:
        block = base.block or (1, 1)
        tail = values.shape[values.dim() - dense :] if dense else ()
        values = values.reshape(*coordinates.shape, *block, *tail)
    return torch.sparse_compressed_tensor(positions, coordinates, values, shape, layout=layout, check_invariants=False)


def _torch_hint(format: Format) -> str:
    if format.leading > 1 or (format.leading and format.levels[0].kind == "dense" and format.dim_rank > 2):
        return "torch's batches store equally many entries each: try .to(gs.CSR.with_batch(k)) for k leading dimensions"
    return "convert it with .to(gs.CSR), or another of COO, CSR, CSC, BSR, BSC"


def _without_dense(format: Format) -> tuple[Format, int]:
    """Splits off the dense dimensions that torch's hybrid tensors end with."""
    count = 0
    while count < format.lvl_rank - format.outer and format.levels[-1 - count].expr == Expr(
        format.dim_rank - 1 - count
    ):
        count += 1
    while count > 0 and format.dim_rank - count - format.batch_rank < 1:
        count -= 1
    kept = format.levels[: format.lvl_rank - count]
    return Format.from_levels(format.dim_rank - count, kept), count


def _compressed_layout(format: Format) -> torch.layout | None:
    """The compressed layout of torch that stores like a format, or None."""
    if format.dim_rank - format.batch_rank != 2:
        return None
    block = format.block
    candidates = (
        [(CSR, torch.sparse_csr), (CSC, torch.sparse_csc)]
        if block is None
        else [(BSR(block), torch.sparse_bsr), (BSC(block), torch.sparse_bsc)]
    )
    batch = format.batch_rank
    return next((layout for base, layout in candidates if base.with_batch(batch) == format), None)


def _stacked(pattern: Pattern, rank: int) -> Tensor:
    return torch.stack([array for array in map(pattern.coordinates, range(rank)) if array is not None]).long()


def _last_arrays(pattern: Pattern) -> tuple[Tensor, Tensor]:
    """The positions and coordinates of the one compressed level."""
    level = pattern.format.outer - 1
    positions, coordinates = pattern.positions(level), pattern.coordinates(level)
    assert positions is not None
    assert coordinates is not None
    return positions, coordinates


def _check_zero_fill(tensor: SparseTensor, who: str) -> None:
    if tensor.fill:
        raise TensorError(f"entries that {who} does not store are 0, and here they are {tensor.fill}; use to_dense()")


def from_scipy(array: Any) -> SparseTensor:
    """Returns what `gossamer.from_scipy` does."""
    kind = getattr(array, "format", None)
    if kind not in ("coo", "csr", "csc", "bsr") or not hasattr(array, "data"):
        what = f"scipy's {kind}" if isinstance(kind, str) else f"a {type(array).__name__}"
        raise TensorError(
            f"from_scipy takes a scipy sparse array in COO, CSR, CSC or BSR, not {what}; convert it, .tocsr()"
        )
    if kind == "coo":
        return _from_scipy_coo(array)
    format = BSR(tuple(array.blocksize)) if kind == "bsr" else CSR if kind == "csr" else CSC
    try:
        return _from_scipy_compressed(array, format)
    except TensorError:  # not sorted, or with duplicates: scipy promises neither
        array = array.copy()
        array.sum_duplicates()
        return _from_scipy_compressed(array, format)


def _from_scipy_compressed(array: Any, format: Format) -> SparseTensor:
    rest = [None] * (format.lvl_rank - 2)
    positions = [None, torch.from_numpy(array.indptr), *rest]
    coordinates = [None, torch.from_numpy(array.indices), *rest]
    pattern = Pattern(format, array.shape, positions, coordinates)
    return SparseTensor(pattern, torch.from_numpy(array.data).reshape(pattern.values_shape))


def _from_scipy_coo(array: Any) -> SparseTensor:
    indices = [torch.from_numpy(c) for c in getattr(array, "coords", None) or (array.row, array.col)]
    values = torch.from_numpy(array.data)
    format = coo_format(len(indices))
    ends = torch.tensor([0, values.numel()], dtype=indices[0].dtype)
    try:
        pattern = Pattern(format, array.shape, [ends] + [None] * (len(indices) - 1), indices)
    except TensorError:  # not sorted by rows, or with duplicates
        indices = torch.stack(indices).long()
        return from_torch(torch.sparse_coo_tensor(indices, values, array.shape, check_invariants=True).coalesce())
    return SparseTensor(pattern, values)


def to_scipy(tensor: SparseTensor) -> Any:
    """Returns what `SparseTensor.to_scipy` does."""
    from scipy import sparse

    _check_zero_fill(tensor, "scipy")
    pattern, format = tensor.pattern, tensor.format
    values = _numpy(tensor.values, "values")
    if format == coo_format(format.dim_rank):
        coordinates = tuple(_numpy(pattern.coordinates(l), "coordinates") for l in range(format.dim_rank))
        result = sparse.coo_array((1,) * format.dim_rank, dtype=values.dtype)
        result._shape, result.coords, result.data = tuple(tensor.shape), coordinates, values
        return result
    layouts = {
        torch.sparse_csr: sparse.csr_array,
        torch.sparse_csc: sparse.csc_array,
        torch.sparse_bsr: sparse.bsr_array,
    }
    layout = _compressed_layout(format) if not format.batch_rank else None
    if layout not in layouts:
        raise TensorError(f"scipy has no layout for {format}; convert it with .to(gs.CSR), or another of COO, CSC, BSR")
    block = {"blocksize": format.block or (1, 1)} if layout == torch.sparse_bsr else {}
    result = layouts[layout](tuple(tensor.shape), dtype=values.dtype, **block)
    # Set one by one: the constructor would copy index arrays to the narrowest dtype.
    result.indptr, result.indices = (_numpy(array, "indices") for array in _last_arrays(pattern))
    result.data = values.reshape(-1, *block["blocksize"]) if block else values
    result.has_canonical_format = True
    return result


def _numpy(array: Tensor | None, what: str) -> Any:
    assert array is not None
    if array.device.type != "cpu":
        raise TensorError(f"scipy holds arrays on the CPU, and the {what} are on {array.device}; use .to('cpu') first")
    if array.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        raise TensorError(f"numpy has no {array.dtype}; convert the {what} first, .to(torch.float32)")
    return array.detach().numpy()
