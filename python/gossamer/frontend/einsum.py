"""``einsum`` in products of two tensors, and of more where a sparse one keeps that small.

Diagonals are taken first, letters that one operand alone has are summed in it, and what then only multiplies entry by
entry is a product of broadcast tensors, whose result stays sparse. Of three or more operands a search finds the order
of the least work, for which a sparse operand counts with a part of its entries: A (B c) and not (A B) c, but all of an
MTTKRP at once, whose products of two are large.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from . import graph as g
from .contract import contract, contract_all
from .graph import aten

Build = Callable[..., fx.Node]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DENSITY = 0.05  # of a sparse operand, for the choice of an order
_SEARCHED = 5  # operands, of which all orders are tried


@dataclass(frozen=True)
class _Factor:
    """An operand with its letters."""

    node: fx.Node | None
    labels: str
    is_sparse: bool


def expand_einsum(b: Build, equation: str, operands: Sequence[fx.Node], sparse: Sequence[bool]) -> fx.Node:
    """Emit an einsum.

    Args:
        b: emits an operation.
        equation: as ``torch.einsum`` takes it.
        operands: its operands.
        sparse: which of them are sparse.
    """
    names, out = explicit(equation, [g.value(operand).dim() for operand in operands])
    factors = [
        _alone(b, _Factor(*factor), out, [other for n, other in enumerate(names) if n != number])
        for number, factor in enumerate(zip(operands, names, sparse, strict=True))
    ]
    if len(factors) == 1:
        return _permuted(b, factors[0], out)
    if len(factors) == 2 and set(out) in (set(factors[0].labels), set(factors[1].labels)):
        return b(aten.mul.Tensor, *(_along(b, factor, out) for factor in factors))
    if len(factors) == 2:
        return b(contract, factors[0].node, factors[1].node, f"{factors[0].labels},{factors[1].labels}->{out}")
    return _in_order(b, factors, out)


def explicit(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of the operands and of the result, with letters for the ellipsis and the implied result."""
    equation = equation.replace(" ", "")
    inputs, arrow, out = equation.partition("->")
    operands = inputs.split(",")
    letters = [c for c in LETTERS if c not in equation]
    extra = [rank - len(labels.replace("...", "")) for labels, rank in zip(operands, ranks, strict=True)]
    counts = [n for n, labels in zip(extra, operands, strict=True) if "..." in labels]
    shared = "".join(letters[: max(counts, default=0)])
    operands = [labels.replace("...", shared[len(shared) - n :]) for labels, n in zip(operands, extra, strict=True)]
    if arrow:
        return operands, out.replace("...", shared)
    together = "".join(operands)
    return operands, shared + "".join(sorted(c for c in set(together) if together.count(c) == 1 and c not in shared))


def _alone(b: Build, factor: _Factor, out: str, others: Sequence[str]) -> _Factor:
    """The operand without repeated letters, and summed over those that only it has."""
    node, labels = factor.node, factor.labels
    for letter in dict.fromkeys(labels):
        while labels.count(letter) > 1:
            first = labels.index(letter)
            second = labels.index(letter, first + 1)
            node = b(aten.diagonal.default, node, 0, first, second)
            labels = labels[:first] + labels[first + 1 : second] + labels[second + 1 :] + letter
    summed = [dim for dim, letter in enumerate(labels) if letter not in out and not any(letter in o for o in others)]
    is_sparse = factor.is_sparse
    if summed:
        node = b(aten.sum.dim_IntList, node, summed)
        labels = "".join(letter for dim, letter in enumerate(labels) if dim not in summed)
        is_sparse = False
    return _Factor(node, labels, is_sparse)


def _permuted(b: Build, factor: _Factor, out: str) -> fx.Node:
    assert factor.node is not None
    if factor.labels == out:
        return factor.node
    return b(aten.permute.default, factor.node, [factor.labels.index(letter) for letter in out])


def _along(b: Build, factor: _Factor, out: str) -> fx.Node:
    """The operand with a dim for each letter of the result: one of size 1 for those that it lacks."""
    node = _permuted(b, factor, "".join(letter for letter in out if letter in factor.labels))
    missing = [letter not in factor.labels for letter in out]
    started = False
    for dim, is_missing in enumerate(missing):
        started |= not is_missing
        if is_missing and started:  # leading ones are broadcast anyway
            node = b(aten.unsqueeze.default, node, dim - sum(missing[: missing.index(False)]))
    return node


# --- three or more


def _in_order(b: Build, factors: Sequence[_Factor], out: str) -> fx.Node:
    sizes: dict[str, int] = {}
    for factor in factors:
        for letter, size in zip(factor.labels, g.value(factor.node).shape, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), _hint(size))
    search = _best if len(factors) <= _SEARCHED else _greedy
    made = list(factors)
    for chosen in search(list(factors), out, sizes)[1]:
        group = [made[n] for n in chosen]
        rest = [factor for n, factor in enumerate(made) if n not in chosen]
        labels = _kept(group, rest, out)
        equation = f"{','.join(factor.labels for factor in group)}->{labels}"
        target: Any = contract if len(group) == 2 else contract_all
        node = b(target, *(factor.node for factor in group), equation)
        made = [*rest, _Factor(node, labels, False)]
    return _permuted(b, made[0], out)


def _hint(size: Any) -> int:
    return size if isinstance(size, int) else int(size.node.hint)


def _kept(group: Sequence[_Factor], rest: Sequence[_Factor], out: str) -> str:
    """The letters of the product of a group: those that the result or another operand has."""
    needed = out + "".join(factor.labels for factor in rest)
    letters = dict.fromkeys("".join(factor.labels for factor in group))
    ordered = [letter for letter in out if letter in letters]
    return "".join([*ordered, *(letter for letter in letters if letter in needed and letter not in out)])


Plan = tuple[float, list[tuple[int, ...]]]


def _best(factors: Sequence[_Factor], out: str, sizes: dict[str, int]) -> Plan:
    """The order of least cost: for each step the numbers of what it multiplies; its result is the last one then."""
    if len(factors) == 1:
        return 0.0, []
    best: Plan = (math.inf, [])
    for count in range(2, len(factors) + 1):
        for chosen in itertools.combinations(range(len(factors)), count):
            group = [factors[n] for n in chosen]
            if count > 2 and not any(factor.is_sparse for factor in group):
                continue
            rest = [factor for n, factor in enumerate(factors) if n not in chosen]
            cost, labels = _cost(group, rest, out, sizes)
            if cost >= best[0]:
                continue
            further, steps = _best([*rest, _Factor(None, labels, False)], out, sizes)
            if cost + further < best[0]:
                best = cost + further, [chosen, *steps]
    return best


def _greedy(factors: Sequence[_Factor], out: str, sizes: dict[str, int]) -> Plan:
    """The cheapest pair, again and again."""
    made, steps, total = list(factors), [], 0.0
    while len(made) > 1:
        pairs = itertools.combinations(range(len(made)), 2)

        def cost_of(pair: tuple[int, ...], made: list[_Factor] = made) -> float:
            rest = [factor for n, factor in enumerate(made) if n not in pair]
            return _cost([made[n] for n in pair], rest, out, sizes)[0]

        chosen = min(pairs, key=cost_of)
        rest = [factor for n, factor in enumerate(made) if n not in chosen]
        cost, labels = _cost([made[n] for n in chosen], rest, out, sizes)
        made = [*rest, _Factor(None, labels, False)]
        steps.append(chosen)
        total += cost
    return total, steps


def _cost(group: Sequence[_Factor], rest: Sequence[_Factor], out: str, sizes: dict[str, int]) -> tuple[float, str]:
    """What a product costs, multiplications and the memory of its result; and the result's letters."""
    labels = _kept(group, rest, out)
    multiplied = math.prod(sizes[letter] for letter in set("".join(factor.labels for factor in group)))
    density = math.prod(_DENSITY if factor.is_sparse else 1.0 for factor in group)
    return multiplied * density + 4.0 * math.prod(sizes[letter] for letter in labels), labels
