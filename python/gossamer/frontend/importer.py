"""From the FX graph of a region to ``linalg`` on dense tensors.

torch-mlir lowers the elementwise part. Contractions and softmax do not go through it (its matmul broadcasts the
weight and collapses dims, its softmax drags the index of the maximum along): the graph is opened there, the result
becomes an argument and the operands become results, and afterwards one ``linalg.generic`` with the equation's maps,
or one ``linalg.softmax``, closes the gap.

Sizes that the trace has proved equal are made one ``tensor.dim``, so that broadcasts and assertions fold away.

torch-mlir is imported on first use only: a warm process, with its regions in the cache, never loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sympy
from torch import fx

from gossamer.errors import UnsupportedError

from . import graph as g
from . import linalg_reduction, reductions
from .contract import PRODUCTS_OF, contract, contract_all, parse_all
from .graph import aten
from .marker import stored_on
from .mlir import torch_mlir
from .pointwise import spell_out
from .reduced import REDUCED

if TYPE_CHECKING:
    from torch_mlir import ir

_LOWER = (
    "builtin.module(func.func(torch-match-quantized-custom-ops),"
    "torchdynamo-export-to-torch-backend-pipeline{extra-library=})",
    "builtin.module(torch-backend-to-linalg-on-tensors-backend-pipeline)",
)
# stands in the module for a value that is stored on the pattern of an argument
STORED_ON = "gossamer.stored_on"
# on a contraction: its products are not summed, but combined so
COMBINE = "gossamer.combine"
_CLEAN = "builtin.module(canonicalize,cse,resolve-ranked-shaped-type-result-dims,canonicalize,cse)"


@dataclass(frozen=True)
class _Gap:
    """An operation that was opened: where its operands are found, and which argument stands for its result.

    ``attribute`` is the equation of a contraction, the dim of a softmax, the fill of what is stored, how the products
    of a row are reduced, or a ``Reduction``.
    """

    build: Callable[..., ir.Value]
    attribute: Any
    operands: tuple[tuple[str, int], ...]
    result: int


def import_region(region: fx.Graph) -> ir.Module:
    """The region as a module with one function ``@main`` over dense tensors.

    Args:
        region: placeholders and result are tensors with fake values; it must not hold symbolic numbers.

    Returns:
        A module in a context of its own, which allows unregistered dialects.
    """
    mlir = torch_mlir()
    graph, gaps, n_inputs, n_results = _open_gaps(reductions.spell_out(region))
    sizes = _argument_sizes(graph)
    context = mlir.ir.Context()
    context.allow_unregistered_dialects = True
    mlir.torch.register_dialect(context)
    importer = mlir.FxImporter(context=context)
    importer.import_stateless_graph(graph, func_name="main")
    module = importer.module
    try:
        for pipeline in _LOWER:
            mlir.PassManager.parse(pipeline, context).run(module.operation)
    except mlir.ir.MLIRError as error:
        raise UnsupportedError(f"torch-mlir cannot import a region: {_first_error(str(error))}") from error
    with context, mlir.ir.Location.unknown():
        _share_sizes(module, sizes)
        if gaps:
            _close_gaps(module, gaps, n_inputs, n_results)
    mlir.PassManager.parse(_CLEAN, context).run(module.operation)
    _drop_assertions(module)
    _round_constants(module)
    mlir.PassManager.parse(_CLEAN, context).run(module.operation)
    return module


def _first_error(text: str) -> str:
    return next((line for line in text.splitlines() if line.startswith("error:")), text)[:300]


def main_function(module: ir.Module) -> ir.Operation:
    """The function of an imported module."""
    return next(op for op in module.body.operations if op.operation.name == "func.func").operation


def _open_gaps(region: fx.Graph) -> tuple[fx.Graph, list[_Gap], int, int]:
    """Copy the region, with contractions opened and sizes settled; also how many inputs and results are its own."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    result = graph.graph_copy(region, copies)
    inverse = {copy: original for original, copy in copies.items()}
    for copy, original in inverse.items():
        copy.meta = {"val": original.meta["val"]}
    results = list(result if isinstance(result, (tuple, list)) else [result])
    n_results = len(results)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    arguments = list(inputs)
    gaps = []
    for node in list(graph.nodes):
        operands = _gap_operands(node)
        if operands:
            with graph.inserting_after(arguments[-1]):
                argument = graph.placeholder(f"gap{len(gaps)}")
            argument.meta = dict(node.meta)
            node.replace_all_uses_with(argument)
            results = [argument if old is node else old for old in results]
            arguments.append(argument)
            places = tuple(_place(operand, arguments, results) for operand in operands)
            gaps.append(_Gap(*_gap_builder(node, operands), places, len(arguments) - 1))
            graph.erase_node(node)
    graph.output(tuple(results))
    spell_out(graph)
    g.settle(graph, g.fake_mode(graph).shape_env)
    graph.lint()
    return graph, gaps, len(inputs), n_results


def _gap_operands(node: fx.Node) -> tuple[fx.Node, ...]:
    """The operands of an operation that torch-mlir shall not see; none for all others."""
    if node.target in (stored_on, REDUCED):
        return node.args[:2]
    if node.target in PRODUCTS_OF:
        return node.args[:-1]
    if node.target is aten.softmax.int and g.value(node).dtype == g.value(node.args[0]).dtype:
        return node.args[:1]
    return node.args[:1] if reductions.reduction_of(node) else ()


def _gap_builder(node: fx.Node, operands: tuple[fx.Node, ...]) -> tuple[Callable[..., ir.Value], Any]:
    """What closes the gap, and what it has to know beside the operands."""
    reduction = reductions.reduction_of(node)
    if reduction is not None:
        return linalg_reduction.build, reduction
    return _BUILDERS.get(node.target, _softmax), node.args[len(operands)]


def _place(operand: fx.Node, arguments: list[fx.Node], results: list[fx.Node]) -> tuple[str, int]:
    """Where the opened function has ``operand``: among its arguments, or (added here) among its results."""
    if operand in arguments:
        return "argument", arguments.index(operand)
    if operand not in results:
        results.append(operand)
    return "result", results.index(operand)


def _argument_sizes(graph: fx.Graph) -> list[tuple[sympy.Expr, ...]]:
    env = g.fake_mode(graph).shape_env
    return [g.expressions(g.value(node), env) for node in graph.nodes if node.op == "placeholder"]


def _share_sizes(module: ir.Module, sizes: Sequence[tuple[sympy.Expr, ...]]) -> None:
    """Read every symbolic size once, at the top: all ``tensor.dim`` of equal sizes become that one."""
    mlir = torch_mlir()
    block = main_function(module).regions[0].blocks[0]
    arguments = list(block.arguments)
    first: dict[sympy.Expr, tuple[int, int]] = {}
    for number, shape in enumerate(sizes):
        for dim, expr in enumerate(shape):
            first.setdefault(expr, (number, dim))
    shared: dict[sympy.Expr, Any] = {}
    insertion = mlir.ir.InsertionPoint.at_block_begin(block)
    for op in list(block.operations):
        if op.operation.name != "tensor.dim":
            continue
        source, index = op.operation.operands
        dim = _constant(index)
        if source not in arguments or dim is None:
            continue
        expr = sizes[arguments.index(source)][dim]
        if expr not in shared:
            number, dim = first[expr]
            with insertion:
                constant = mlir.arith.ConstantOp(mlir.ir.IndexType.get(), dim)
                shared[expr] = mlir.tensor.DimOp(arguments[number], constant.result).result
        op.operation.results[0].replace_all_uses_with(shared[expr])


def _constant(number: ir.Value) -> int | None:
    owner = number.owner
    if getattr(owner, "name", "") != "arith.constant":
        return None
    return owner.attributes["value"].value


def _close_gaps(module: ir.Module, gaps: Sequence[_Gap], n_inputs: int, n_results: int) -> None:
    """Put a generic in place of every opened contraction and give the function its own signature again."""
    mlir = torch_mlir()
    function = main_function(module)
    block = function.regions[0].blocks[0]
    terminator = list(block.operations)[-1].operation
    returned = list(terminator.operands)
    arguments = list(block.arguments)
    found = {"argument": arguments, "result": returned}
    for gap in gaps:
        operands = [found[kind][number] for kind, number in gap.operands]
        with mlir.ir.InsertionPoint(terminator):
            result = gap.build(*operands, gap.attribute, arguments[gap.result].type)
        arguments[gap.result].replace_all_uses_with(result)
        # later gaps and results may have been that argument itself
        arguments[gap.result] = result
        returned[:] = [result if value == block.arguments[gap.result] else value for value in returned]
    with mlir.ir.InsertionPoint(terminator):
        mlir.func.ReturnOp(returned[:n_results])
    terminator.erase()
    for number in reversed(range(n_inputs, len(block.arguments))):
        block.erase_argument(number)
    inputs = [argument.type for argument in block.arguments]
    results = [value.type for value in returned[:n_results]]
    function.attributes["function_type"] = mlir.ir.TypeAttr.get(mlir.ir.FunctionType.get(inputs, results))
    _sort(block)


def _sort(block: ir.Block) -> None:
    """Bring the operations back into an order in which values come before their uses."""
    *operations, terminator = (op.operation for op in block.operations)
    placed: set[Any] = set()

    def place(op: Any) -> None:
        if op in placed:
            return
        placed.add(op)
        for value in _used_values(op):
            owner = value.owner
            if owner in operations:
                place(owner)
        op.move_before(terminator)

    for op in operations:
        place(op)


def _used_values(op: ir.Operation) -> list[ir.Value]:
    """Operands of the operation and of what is nested in it."""
    used = list(op.operands)
    for region in op.regions:
        for block in region.blocks:
            for inner in block.operations:
                used += _used_values(inner.operation)
    return used


def _reduced(a: ir.Value, b: ir.Value, reduce: str, result_type: ir.Type) -> ir.Value:
    """The product of two matrices, marked as one that is no sum: raising takes the mark, or refuses."""
    return _contraction(a, b, "mk,kn->mn", result_type, combine=reduce)


def _contraction(*arguments: Any, combine: str | None = None) -> ir.Value:
    """``linalg.generic`` for operands, equation and type: the result's dims first, in order, then what is summed."""
    *operands, equation, result_type = arguments
    mlir = torch_mlir()
    ir = mlir.ir
    names, out = parse_all(equation)
    named = list(zip(operands, names, strict=True))
    labels = out + "".join(dict.fromkeys(label for label in "".join(names) if label not in out))
    result_type = ir.RankedTensorType(result_type)
    element = result_type.element_type
    # half-precision products are summed in f32, as torch does
    narrow = str(element) in ("f16", "bf16")
    accumulator = ir.F32Type.get() if narrow else element
    sizes = [_label_size(label, *named) for label in out]
    empty = mlir.tensor.EmptyOp(sizes, accumulator).result
    is_float = isinstance(accumulator, (ir.F32Type, ir.F64Type))
    zero = mlir.arith.ConstantOp(accumulator, 0.0 if is_float else 0).result
    filled = mlir.linalg.fill(zero, outs=[empty])
    # A loop must be the index of something: what is summed over one element is read by its loop after all.
    single = {n for n in labels if n not in out and _label_size(n, *named) == 1}
    maps = [_map(value, own, labels, single) for value, own in (*named, (filled, out))]
    generic = mlir.linalg.GenericOp(
        [filled.type], operands, [filled],
        ir.ArrayAttr.get([ir.AffineMapAttr.get(m) for m in maps]),
        ir.ArrayAttr.get([_iterator("parallel" if label in out else "reduction") for label in labels]),
    )  # fmt: skip
    if combine:
        generic.operation.attributes[COMBINE] = ir.StringAttr.get(combine)
    elements = [ir.RankedTensorType(value.type).element_type for value in operands] + [accumulator]
    body = generic.regions[0].blocks.append(*elements)
    with ir.InsertionPoint(body):
        multiply, add = _arithmetic(is_float, accumulator)
        product, *others = (_widened(value, accumulator) for value in list(body.arguments)[:-1])
        for other in others:
            product = multiply(product, other).result
        mlir.linalg.YieldOp([add(product, body.arguments[len(operands)]).result])
    result = generic.results[0]
    return _narrowed(result, result_type) if narrow else _cast(result, result_type)


def _arithmetic(is_float: bool, element: ir.Type) -> tuple[Any, Any]:
    """What multiplies and what adds: bools are or-ed."""
    arith = torch_mlir().arith
    if is_float:
        return arith.MulFOp, arith.AddFOp
    return (arith.AndIOp, arith.OrIOp) if str(element) == "i1" else (arith.MulIOp, arith.AddIOp)


def _softmax(x: ir.Value, dim: int, result_type: ir.Type) -> ir.Value:
    """``linalg.softmax`` over one dim."""
    mlir = torch_mlir()
    tensor_type = mlir.ir.RankedTensorType(x.type)
    empty = mlir.tensor.EmptyOp(_sizes(x), tensor_type.element_type).result
    softmax = mlir.linalg.SoftmaxOp([tensor_type], x, empty, dim % tensor_type.rank)
    return _cast(softmax.results[0], result_type)


def _stored(x: ir.Value, on: ir.Value, fill: float | int | bool, result_type: ir.Type) -> ir.Value:
    """An operation that `annotate` replaces, as soon as ``on`` is sparse."""
    mlir = torch_mlir()
    attribute = mlir.ir.FloatAttr.get(mlir.ir.RankedTensorType(x.type).element_type, float(fill))
    stored = mlir.ir.Operation.create(STORED_ON, results=[x.type], operands=[x, on], attributes={"fill": attribute})
    return _cast(stored.results[0], result_type)


_BUILDERS: dict[Any, Callable[..., Any]] = {
    contract: _contraction, contract_all: _contraction, REDUCED: _reduced, stored_on: _stored,
}  # fmt: skip


def _sizes(value: ir.Value) -> list[Any]:
    """Every size of a tensor, as a number or as a ``tensor.dim``."""
    mlir = torch_mlir()
    tensor_type = mlir.ir.RankedTensorType(value.type)
    sizes: list[Any] = []
    for dim in range(tensor_type.rank):
        if tensor_type.is_dynamic_dim(dim):
            index = mlir.arith.ConstantOp(mlir.ir.IndexType.get(), dim).result
            sizes.append(mlir.tensor.DimOp(value, index).result)
        else:
            sizes.append(tensor_type.get_dim_size(dim))
    return sizes


def _label_size(label: str, *operands: tuple[ir.Value, str]) -> Any:
    """The size of a label: from the first operand whose dim is not a broadcast 1."""
    mlir = torch_mlir()
    static = None
    for value, labels in operands:
        if label not in labels:
            continue
        dim = labels.index(label)
        tensor_type = mlir.ir.RankedTensorType(value.type)
        if tensor_type.is_dynamic_dim(dim):
            index = mlir.arith.ConstantOp(mlir.ir.IndexType.get(), dim).result
            return mlir.tensor.DimOp(value, index).result
        if tensor_type.get_dim_size(dim) != 1:
            return tensor_type.get_dim_size(dim)
        static = 1
    return static


def _map(value: ir.Value, operand: str, labels: str, single: set[str]) -> ir.AffineMap:
    """The indexing map of an operand; a static size of 1, but for `single` labels, is read at 0 (a broadcast)."""
    mlir = torch_mlir()
    tensor_type = mlir.ir.RankedTensorType(value.type)
    results = []
    for dim, label in enumerate(operand):
        one = not tensor_type.is_dynamic_dim(dim) and tensor_type.get_dim_size(dim) == 1
        broadcast = one and label not in single and not _is_output(value)
        results.append(
            mlir.ir.AffineConstantExpr.get(0) if broadcast else mlir.ir.AffineDimExpr.get(labels.index(label))
        )
    return mlir.ir.AffineMap.get(len(labels), 0, results)


def _is_output(value: ir.Value) -> bool:
    return getattr(value.owner, "name", "") == "linalg.fill"


def _iterator(kind: str) -> ir.Attribute:
    return torch_mlir().ir.Attribute.parse(f"#linalg.iterator_type<{kind}>")


def _widened(value: ir.Value, element: ir.Type) -> ir.Value:
    mlir = torch_mlir()
    return value if value.type == element else mlir.arith.ExtFOp(element, value).result


def _narrowed(value: ir.Value, result_type: ir.RankedTensorType) -> ir.Value:
    """The f32 sums as the half-precision result."""
    mlir = torch_mlir()
    ir = mlir.ir
    rank = result_type.rank
    empty = mlir.tensor.EmptyOp(_sizes(value), result_type.element_type).result
    identity = ir.AffineMapAttr.get(ir.AffineMap.get_identity(rank))
    generic = mlir.linalg.GenericOp(
        [empty.type], [value], [empty],
        ir.ArrayAttr.get([identity, identity]), ir.ArrayAttr.get([_iterator("parallel")] * rank),
    )  # fmt: skip
    element = ir.RankedTensorType(value.type).element_type
    body = generic.regions[0].blocks.append(element, result_type.element_type)
    with ir.InsertionPoint(body):
        mlir.linalg.YieldOp([mlir.arith.TruncFOp(result_type.element_type, body.arguments[0]).result])
    return _cast(generic.results[0], result_type)


def _cast(value: ir.Value, wanted: ir.Type) -> ir.Value:
    return value if value.type == wanted else torch_mlir().tensor.CastOp(wanted, value).result


def _drop_assertions(module: ir.Module) -> None:
    """Shapes were checked by the guards before the call; inside of bodies they are torch-mlir's (1 / 0 is no error)."""
    found = []

    def look(op: ir.Operation) -> Any:
        if op.name == "cf.assert":
            found.append(op)
        return torch_mlir().ir.WalkResult.ADVANCE

    main_function(module).walk(look)
    for op in found:
        op.erase()


def _round_constants(module: ir.Module) -> None:
    """Python's numbers are doubles that bodies narrow, which MLIR folds only where it is exact."""
    mlir = torch_mlir()
    found = []

    def look(op: ir.Operation) -> Any:
        if op.name == "arith.truncf" and getattr(op.operands[0].owner, "name", "") == "arith.constant":
            found.append(op)
        return mlir.ir.WalkResult.ADVANCE

    main_function(module).walk(look)
    for op in found:
        number, wanted = op.operands[0].owner.attributes["value"], op.results[0].type
        if isinstance(number, mlir.ir.FloatAttr):
            with module.context, mlir.ir.Location.unknown(), mlir.ir.InsertionPoint(op):
                narrow = mlir.arith.ConstantOp(wanted, mlir.ir.FloatAttr.get(wanted, number.value))
            op.results[0].replace_all_uses_with(narrow.result)
            op.erase()
