"""From dense ``linalg`` to the text that goes to the C++ side: encodings on the arguments.

Bodies stay dense. A sparse argument is seen through ``gossamer.convert``; a result that stays sparse goes through
``gossamer.sample``, which names the argument whose pattern it is stored on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .importer import STORED_ON, main_function
from .mlir import torch_mlir

# torch-mlir's LLVM 24 refuses encodings on i1, MLIR 22 takes them: until they are text, bools are ui8, which no
# other tensor is (linalg's integers are signless)
_BOOL_STAND_IN = "ui8"

if TYPE_CHECKING:
    from torch_mlir import ir


@dataclass(frozen=True)
class ArgumentEncoding:
    """How an argument is stored.

    Attributes:
        encoding: the ``#sparse_tensor.encoding<...>`` text.
        fill: the value that is not stored.
        shares: the number of the earlier argument whose very pattern this one has; None if it brings its own.
    """

    encoding: str
    fill: float | int | bool
    shares: int | None = None


def annotate(module: ir.Module, arguments: Sequence[ArgumentEncoding | None], results: Sequence[int | None]) -> str:
    """Attach encodings and print: the hand-off text.

    Args:
        module: dense, with one function ``@main``; it is changed.
        arguments: per argument its encoding, or None for a dense one.
        results: per result the argument on whose pattern it is stored, or None for a dense one.

    Returns:
        The module's text, for MLIR 22.
    """
    mlir = torch_mlir()
    function = main_function(module)
    block = function.regions[0].blocks[0]
    terminator = list(block.operations)[-1].operation
    with module.context, mlir.ir.Location.unknown():
        converted = _convert_arguments(block, arguments)
        _store_on_patterns(block)
        returned = _sample_results(block, terminator, results)
        inputs = [argument.type for argument in block.arguments]
        function.attributes["function_type"] = mlir.ir.TypeAttr.get(
            mlir.ir.FunctionType.get(inputs, [value.type for value in returned])
        )
        function.attributes["arg_attrs"] = mlir.ir.ArrayAttr.get(
            [mlir.ir.DictAttr.get(attributes) for attributes in converted]
        )
    module.operation.verify()
    return str(module).replace(f"x{_BOOL_STAND_IN}, #", "xi1, #")


def _convert_arguments(block: ir.Block, encodings: Sequence[ArgumentEncoding | None]) -> list[dict[str, ir.Attribute]]:
    """Type the arguments and put a conversion at the top for each sparse one; returns the arguments' attributes."""
    mlir = torch_mlir()
    attributes: list[dict[str, ir.Attribute]] = []
    insertion = mlir.ir.InsertionPoint.at_block_begin(block)
    for argument, encoding in zip(block.arguments, encodings, strict=True):
        attributes.append({})
        if encoding is None:
            continue
        dense = mlir.ir.RankedTensorType(argument.type)
        fill = _fill_attribute(dense.element_type, encoding.fill)
        attributes[-1]["gossamer.fill"] = fill
        if encoding.shares is not None:
            attributes[-1]["gossamer.pattern"] = mlir.ir.IntegerAttr.get(
                mlir.ir.IntegerType.get_signless(64), encoding.shares
            )
        attribute = mlir.ir.Attribute.parse(encoding.encoding)
        with insertion:
            convert = mlir.ir.Operation.create(
                "gossamer.convert", results=[dense], operands=[argument], attributes={"fill": fill}
            )
        argument.replace_all_uses_except(convert.results[0], convert)
        argument.set_type(_encoded(dense.shape, dense.element_type, attribute))
    return attributes


def _store_on_patterns(block: ir.Block) -> None:
    """Store what is asked for on the pattern of an argument, and see it densely from there on."""
    mlir = torch_mlir()
    for op in [op.operation for op in block.operations if op.operation.name == STORED_ON]:
        dense, on = op.operands
        pattern = on.owner.operands[0]  # the argument, behind its conversion
        shape, plain = mlir.ir.RankedTensorType(pattern.type), mlir.ir.RankedTensorType(dense.type)
        sparse = _encoded(shape.shape, plain.element_type, shape.encoding)
        with mlir.ir.InsertionPoint(op):
            sample = mlir.ir.Operation.create("gossamer.sample", results=[sparse], operands=[dense, pattern])
            convert = mlir.ir.Operation.create(
                "gossamer.convert", results=[plain], operands=[sample.results[0]],
                attributes={"fill": op.attributes["fill"]},
            )  # fmt: skip
        op.results[0].replace_all_uses_with(convert.results[0])
        op.erase()


def _sample_results(block: ir.Block, terminator: ir.Operation, results: Sequence[int | None]) -> list[ir.Value]:
    """Store the results that stay sparse on the pattern of their argument; returns all results."""
    mlir = torch_mlir()
    for number, argument in enumerate(results):
        if argument is None:
            continue
        dense = terminator.operands[number]
        pattern = block.arguments[argument]
        shape = mlir.ir.RankedTensorType(pattern.type)
        element = mlir.ir.RankedTensorType(dense.type).element_type
        sparse = _encoded(shape.shape, element, shape.encoding)
        if (stored := _stored(dense, pattern)) is not None:
            terminator.operands[number] = stored
            continue
        with mlir.ir.InsertionPoint(terminator):
            sample = mlir.ir.Operation.create("gossamer.sample", results=[sparse], operands=[dense, pattern])
        terminator.operands[number] = sample.results[0]
    return list(terminator.operands)


def _stored(dense: ir.Value, pattern: ir.Value) -> ir.Value | None:
    """What was stored on the pattern already, if the dense value is the view of that."""
    convert = dense.owner
    if getattr(convert, "name", "") != "gossamer.convert":
        return None
    sample = convert.operands[0].owner
    if getattr(sample, "name", "") != "gossamer.sample" or sample.operands[1] != pattern:
        return None
    return sample.results[0]


def _encoded(shape: Sequence[int], element: ir.Type, encoding: ir.Attribute) -> ir.Type:
    ir = torch_mlir().ir
    if isinstance(element, ir.IntegerType) and element.width == 1:
        element = ir.Type.parse(_BOOL_STAND_IN)
    return ir.RankedTensorType.get(shape, element, encoding)


def _fill_attribute(element: ir.Type, fill: float | int | bool) -> ir.Attribute:
    ir = torch_mlir().ir
    if isinstance(element, ir.IntegerType):
        return ir.BoolAttr.get(bool(fill)) if element.width == 1 else ir.IntegerAttr.get(element, int(fill))
    return ir.FloatAttr.get(element, float(fill))
