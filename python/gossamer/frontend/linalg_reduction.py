"""A reduction as ``linalg``: one generic that reduces, and one that rounds, divides and keeps dims, where asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .mlir import torch_mlir
from .reductions import Reduction

if TYPE_CHECKING:
    from torch_mlir import ir


def build(x: ir.Value, reduction: Reduction, result_type: ir.Type) -> ir.Value:
    """Reduce ``x``, of the result's element type; sums of half precision are taken in f32, as torch does."""
    ir = torch_mlir().ir
    element = ir.RankedTensorType(x.type).element_type
    narrow = str(element) in ("f16", "bf16") and reduction.kind in ("sum", "mean", "prod")
    reduced = _reduce(x, reduction, ir.F32Type.get() if narrow else element)
    result = ir.RankedTensorType(result_type)
    if narrow or reduction.kind == "mean" or (reduction.keepdim and reduction.dims):
        reduced = _finish(x, reduced, reduction, result.element_type)
    return reduced if reduced.type == result else torch_mlir().tensor.CastOp(result, reduced).result


def _reduce(x: ir.Value, reduction: Reduction, element: ir.Type) -> ir.Value:
    mlir = torch_mlir()
    ir = mlir.ir
    rank = ir.RankedTensorType(x.type).rank
    kept = [dim for dim in range(rank) if dim not in reduction.dims]
    combine, neutral = _combiner(reduction.kind, element)
    empty = mlir.tensor.EmptyOp([_size(x, dim) for dim in kept], element).result
    filled = mlir.linalg.fill(mlir.arith.ConstantOp(element, neutral).result, outs=[empty])
    maps = [ir.AffineMap.get_identity(rank), _projection(rank, kept)]
    generic = mlir.linalg.GenericOp(
        [filled.type], [x], [filled],
        ir.ArrayAttr.get([ir.AffineMapAttr.get(m) for m in maps]),
        ir.ArrayAttr.get([_iterator("parallel" if dim in kept else "reduction") for dim in range(rank)]),
    )  # fmt: skip
    body = generic.regions[0].blocks.append(ir.RankedTensorType(x.type).element_type, element)
    with ir.InsertionPoint(body):
        value, total = body.arguments
        if value.type != element:
            value = mlir.arith.ExtFOp(element, value).result
        mlir.linalg.YieldOp([combine(value, total).result])
    return generic.results[0]


def _finish(x: ir.Value, reduced: ir.Value, reduction: Reduction, element: ir.Type) -> ir.Value:
    """Divide by the number of entries for a mean, round to the result's element type, keep dims as of size 1."""
    mlir = torch_mlir()
    ir = mlir.ir
    rank = ir.RankedTensorType(x.type).rank
    kept = [dim for dim in range(rank) if dim not in reduction.dims]
    if reduction.keepdim:
        sizes = [_size(x, dim) if dim in kept else 1 for dim in range(rank)]
        source = _projection(rank, kept)
    else:
        sizes = [_size(x, dim) for dim in kept]
        source = ir.AffineMap.get_identity(len(kept))
    wide = ir.RankedTensorType(reduced.type).element_type
    inputs, maps = [reduced], [source]
    if reduction.kind == "mean":
        inputs.append(_count(x, reduction.dims, wide))
        maps.append(ir.AffineMap.get(len(sizes), 0, []))
    empty = mlir.tensor.EmptyOp(sizes, element).result
    maps.append(ir.AffineMap.get_identity(len(sizes)))
    generic = mlir.linalg.GenericOp(
        [empty.type], inputs, [empty],
        ir.ArrayAttr.get([ir.AffineMapAttr.get(m) for m in maps]),
        ir.ArrayAttr.get([_iterator("parallel")] * len(sizes)),
    )  # fmt: skip
    body = generic.regions[0].blocks.append(*[wide] * len(inputs), element)
    with ir.InsertionPoint(body):
        value = body.arguments[0]
        if reduction.kind == "mean":
            value = mlir.arith.DivFOp(value, body.arguments[1]).result
        if wide != element:
            value = mlir.arith.TruncFOp(element, value).result
        mlir.linalg.YieldOp([value])
    return generic.results[0]


def _count(x: ir.Value, dims: tuple[int, ...], element: ir.Type) -> ir.Value:
    """The number of entries along some dims, as a number."""
    mlir = torch_mlir()
    index, word = mlir.ir.IndexType.get(), mlir.ir.IntegerType.get_signless(64)
    count = mlir.arith.ConstantOp(index, 1).result
    for dim in dims:
        size = _size(x, dim)
        size = mlir.arith.ConstantOp(index, size).result if isinstance(size, int) else size
        count = mlir.arith.MulIOp(count, size).result
    return mlir.arith.SIToFPOp(element, mlir.arith.IndexCastOp(word, count).result).result


def _combiner(kind: str, element: ir.Type) -> tuple[Any, Any]:
    """The operation that takes in one more entry, and what nothing at all gives."""
    mlir = torch_mlir()
    arith = mlir.arith
    if isinstance(element, mlir.ir.IntegerType):
        width = element.width
        lowest, highest = -(1 << (width - 1)), (1 << (width - 1)) - 1
        return {
            "sum": (arith.AddIOp, 0), "prod": (arith.MulIOp, 1), "any": (arith.OrIOp, 0), "all": (arith.AndIOp, 1),
            # of bools, the maximum is whether any is true
            "amax": (arith.MaxSIOp, lowest) if width > 1 else (arith.OrIOp, 0),
            "amin": (arith.MinSIOp, highest) if width > 1 else (arith.AndIOp, 1),
        }[kind]  # fmt: skip
    return {
        "sum": (arith.AddFOp, 0.0), "mean": (arith.AddFOp, 0.0), "prod": (arith.MulFOp, 1.0),
        "amax": (arith.MaximumFOp, -math.inf), "amin": (arith.MinimumFOp, math.inf),
    }[kind]  # fmt: skip


def _projection(rank: int, kept: list[int]) -> ir.AffineMap:
    ir = torch_mlir().ir
    return ir.AffineMap.get(rank, 0, [ir.AffineDimExpr.get(dim) for dim in kept])


def _iterator(kind: str) -> ir.Attribute:
    return torch_mlir().ir.Attribute.parse(f"#linalg.iterator_type<{kind}>")


def _size(value: ir.Value, dim: int) -> Any:
    """One size of a tensor, as a number or as a ``tensor.dim``."""
    mlir = torch_mlir()
    tensor_type = mlir.ir.RankedTensorType(value.type)
    if not tensor_type.is_dynamic_dim(dim):
        return tensor_type.get_dim_size(dim)
    index = mlir.arith.ConstantOp(mlir.ir.IndexType.get(), dim).result
    return mlir.tensor.DimOp(value, index).result
