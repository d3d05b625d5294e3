"""One operation for every product of two tensors: ``contract(a, b, "bhsd,bhtd->bhst")``.

Matrix products reach us as matmul, linear, einsum, bmm, ... with transposes and unsqueezes around them. In a
region all of them become this one operation, and the views around it go into its equation, so that exactly one
``linalg.generic`` comes out, whatever the orientation.

A dim of size 1 whose label has another size elsewhere is broadcast, as in ``torch.einsum``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from gossamer.errors import TensorError

from . import graph as g
from .marker import library

aten = torch.ops.aten
BATCH = "abcdefghij"


def contract(a: torch.Tensor, b: torch.Tensor, equation: str) -> torch.Tensor:
    """The product of ``a`` and ``b``, of one dtype, summed over the labels that the result lacks.

    Also works on fake tensors, where it computes the shape only (and so puts no operations on a trace).

    Raises:
        TensorError: the dtypes or devices differ, which torch's fake tensors let pass and torch itself does not.
    """
    if a.device != b.device:
        raise TensorError(f"a product of a tensor on {a.device} with one on {b.device}: move one of them")
    if a.dtype != b.dtype:
        raise TensorError(f"a product of {a.dtype} with {b.dtype}: cast one of them to the dtype of the other")
    if isinstance(a, g.FakeTensor):
        return torch.empty(_result_shape([a, b], equation), dtype=a.dtype, device=a.device)
    return torch.einsum(equation, a, b)


def contract_all(*operands_and_equation: Any) -> torch.Tensor:
    """``contract`` of any number of tensors at once, the equation last, as in ``contract_all(a, b, c, "ij,jk,k->i")``.

    No product of two of them exists on the way; each letter is in two of them, or in one and in the result.
    """
    *operands, equation = operands_and_equation
    for other in operands[1:]:
        if operands[0].device != other.device:
            raise TensorError(f"a product of tensors on {operands[0].device} and {other.device}: move one of them")
        if operands[0].dtype != other.dtype:
            raise TensorError(
                f"a product of {operands[0].dtype} with {other.dtype}: cast one to the dtype of the other"
            )
    if isinstance(operands[0], g.FakeTensor):
        return torch.empty(_result_shape(operands, equation), dtype=operands[0].dtype, device=operands[0].device)
    return torch.einsum(equation, *operands)


PRODUCTS_OF = (contract, contract_all)


def parse(equation: str) -> tuple[str, str, str]:
    """``"ij,jk->ik"`` as ``("ij", "jk", "ik")``."""
    (a, b), out = parse_all(equation)
    return a, b, out


def parse_all(equation: str) -> tuple[list[str], str]:
    """``"ij,jk,k->i"`` as ``(["ij", "jk", "k"], "i")``."""
    operands, out = equation.split("->")
    return operands.split(","), out


def matmul_equation(a_rank: int, b_rank: int) -> str:
    """The equation of ``torch.matmul`` for operands of these ranks (1-D operands included)."""
    batch = BATCH[: max(a_rank, b_rank, 2) - 2]
    a = "k" if a_rank == 1 else batch[len(batch) - (a_rank - 2) :] + "mk"
    b = "k" if b_rank == 1 else batch[len(batch) - (b_rank - 2) :] + "kn"
    out = batch + ("m" if a_rank > 1 else "") + ("n" if b_rank > 1 else "")
    return f"{a},{b}->{out}"


def _result_shape(operands: Sequence[torch.Tensor], equation: str) -> list[int | torch.SymInt]:
    names, out = parse_all(equation)
    sizes: dict[str, int | torch.SymInt] = {}
    for labels, tensor in zip(names, operands, strict=True):
        for label, dim in zip(labels, tensor.shape, strict=True):
            if label in sizes and not g.is_one(dim) and not g.is_one(sizes[label]):
                torch._check(sizes[label] == dim, lambda: f"the sizes of a dim in {equation} differ")
            elif label not in sizes or g.is_one(sizes[label]):
                sizes[label] = dim
    return [sizes[label] for label in out]


library.define("contract(Tensor a, Tensor b, str equation) -> Tensor")
library.impl("contract", lambda a, b, equation: torch.einsum(equation, a, b), "CompositeExplicitAutograd")
library.impl("contract", lambda a, b, equation: a.new_empty(_result_shape([a, b], equation)), "Meta")
# `contract` as an operation that autograd differentiates, and whose gradients are contractions again
CONTRACT = torch.ops.gossamer.contract.default


library.define("contract_all(Tensor[] operands, str equation) -> Tensor")
library.impl("contract_all", lambda operands, equation: torch.einsum(equation, *operands),
             "CompositeExplicitAutograd")  # fmt: skip
library.impl(
    "contract_all", lambda operands, equation: operands[0].new_empty(_result_shape(operands, equation)), "Meta"
)
# likewise of `contract_all`
CONTRACT_ALL = torch.ops.gossamer.contract_all.default


def _save_operands(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor, str], output: torch.Tensor) -> None:
    a, b, ctx.equation = inputs
    ctx.save_for_backward(a, b)


def _gradients(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    a, b = ctx.saved_tensors
    a_labels, b_labels, out = parse(ctx.equation)
    return (
        _gradient(gradient, out, b, b_labels, a, a_labels) if ctx.needs_input_grad[0] else None,
        _gradient(gradient, out, a, a_labels, b, b_labels) if ctx.needs_input_grad[1] else None,
        None,
    )


def _gradient(
    gradient: torch.Tensor, out: str, other: torch.Tensor, other_labels: str, own: torch.Tensor, own_labels: str
) -> torch.Tensor:
    """The gradient of one operand: the product of that of the result with the other operand."""
    sizes = [*zip(out, gradient.shape, strict=True), *zip(other_labels, other.shape, strict=True)]
    long = {label for label, size in sizes if not g.is_one(size)}
    # a dim of size 1 that was broadcast is summed; one that only this operand has is the same all along
    kept = [
        label
        for label, size in zip(own_labels, own.shape, strict=True)
        if (label in out or label in other_labels) and not (g.is_one(size) and label in long)
    ]
    result = CONTRACT(gradient, other, f"{out},{other_labels}->{''.join(kept)}")
    for dim, label in enumerate(own_labels):
        if label not in kept:
            result = result.unsqueeze(dim)
    return result.expand(own.shape) if len(kept) < len(own_labels) or result.shape != own.shape else result


torch.library.register_autograd("gossamer::contract", _gradients, setup_context=_save_operands, lib=library)


def _save_all(ctx: Any, inputs: tuple[Sequence[torch.Tensor], str], output: torch.Tensor) -> None:
    operands, ctx.equation = inputs
    ctx.save_for_backward(*operands)


def _all_gradients(ctx: Any, gradient: torch.Tensor) -> tuple[list[torch.Tensor | None], None]:
    names, out = parse_all(ctx.equation)
    operands = ctx.saved_tensors
    gradients: list[torch.Tensor | None] = []
    for number, labels in enumerate(names):
        if not ctx.needs_input_grad[0][number]:
            gradients.append(None)
            continue
        others = [(n, other) for n, other in enumerate(names) if n != number]
        equation = f"{','.join([out, *(other for _, other in others)])}->{labels}"
        gradients.append(CONTRACT_ALL([gradient, *(operands[n] for n, _ in others)], equation))
    return gradients, None


torch.library.register_autograd("gossamer::contract_all", _all_gradients, setup_context=_save_all, lib=library)


def fold_views(graph: fx.Graph) -> None:
    """Put the transposes, permutes and unsqueezes that feed a ``contract`` into its equation."""
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in PRODUCTS_OF:
            while any(_fold_one(node, operand) for operand in range(len(node.args) - 1)):
                pass
    g.prune(graph)


def _fold_one(node: fx.Node, operand: int) -> bool:
    view = node.args[operand]
    if not isinstance(view, fx.Node) or view.op != "call_function":
        return False
    *_, equation = node.args
    names, out = parse_all(equation)
    kept = _labels_before(view, names[operand])
    if kept is None:
        return False
    dropped = set(names[operand]) - set(kept)
    # the result's dim of a dropped label must still be there in another operand
    others = "".join(names[:operand] + names[operand + 1 :])
    if any(label in out and label not in others for label in dropped):
        return False
    names[operand] = kept
    args = list(node.args)
    args[operand], args[-1] = view.args[0], f"{','.join(names)}->{out}"
    node.args = tuple(args)
    return True


def _labels_before(view: fx.Node, labels: str) -> str | None:
    """The labels that the view's own operand must carry for its result to carry ``labels``; None if it is no view."""
    rank = len(labels)
    if view.target is aten.transpose.int:
        order = list(range(rank))
        i, j = view.args[1] % rank, view.args[2] % rank
        order[i], order[j] = order[j], order[i]
    elif view.target is aten.permute.default:
        order = [dim % rank for dim in view.args[1]]
    elif view.target is aten.unsqueeze.default:
        dim = view.args[1] % rank
        return labels[:dim] + labels[dim + 1 :]
    else:
        return None
    before = [""] * rank
    for new, old in enumerate(order):
        before[old] = labels[new]
    return "".join(before)
