"""Attention in a region: softmax(scale q k^T, where a mask allows it) v, in any spelling, as a tile program takes it.

What stands between the two products may be casts, numbers above 0 that scale, and one sparse mask, put in by
``where``, ``masked_fill`` or as numbers that are added. Whether an expression of the mask says "allowed" or "forbidden"
is found by evaluating it on an entry of either kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import fx

from . import graph as g
from .contract import contract, parse
from .decompose import Refused
from .fills import SOFTMAX, counts_as_masked
from .graph import aten
from .pointwise import is_pointwise
from .region import Region

_CASTS = {aten.to.dtype, aten._to_copy.default, aten.contiguous.default, aten.clone.default, aten.alias.default}
_MULTIPLIES = {aten.mul.Tensor, aten.mul.Scalar, aten.multiply.Tensor, aten.multiply.Scalar}
_DIVIDES = {aten.div.Tensor, aten.div.Scalar, aten.divide.Tensor, aten.true_divide.Tensor}
_ADDS = {aten.add.Tensor: 1, aten.add.Scalar: 1, aten.sub.Tensor: -1, aten.sub.Scalar: -1}
_FILLS = {aten.masked_fill.Scalar, aten.masked_fill.Tensor}
_WHERES = {aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf}
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True)
class Operand:
    """How q, k or v lies among the inputs of a region.

    Attributes:
        number: of the input.
        lead: its dim for each batch dim of the scores; None where it lacks one.
        last: its dims of rows and columns.
    """

    number: int
    lead: tuple[int | None, ...]
    last: tuple[int, int]


@dataclass(frozen=True)
class AttentionForm:
    """What of a region is attention.

    Attributes:
        product: the node of the result.
        result: the order of its dims: where each is in (batch dims, rows, columns).
        mask: number of the mask's input.
        leading: how many leading dims the scores, and so the mask at most, have.
        scale: what scores are multiplied by, as far as it is known.
        numbers: inputs that they are multiplied by (1) or divided by (-1), too.
    """

    product: fx.Node
    result: tuple[int, ...]
    q: Operand
    k: Operand
    v: Operand
    mask: int
    leading: int
    scale: float
    numbers: tuple[tuple[int, int], ...]


def find_attention(region: Region) -> AttentionForm | None:
    """The attention of a region; None if there is no softmax whose result goes into a product.

    Raises:
        Refused: there is one, and it is more than a tile program computes; says what.
    """
    found = [node for node in region.graph.nodes if node.target in SOFTMAX]
    if not found:
        return None
    if len(found) > 1 or found[0].target is not aten.softmax.int:
        raise Refused("the region has more than one softmax, or a log-softmax")
    return _Finder(region).run(found[0])


class _Finder:
    def __init__(self, region: Region):
        self.region = region
        self.inputs = [node for node in region.graph.nodes if node.op == "placeholder"]
        self.used: set[fx.Node] = set()
        self.scale = 1.0
        self.numbers: list[tuple[int, int]] = []
        self.masks: set[fx.Node] = set()

    def run(self, softmax: fx.Node) -> AttentionForm | None:
        self.used.add(softmax)
        product = self._product_behind(softmax)
        if product is None:
            return None
        if softmax.args[1] % g.value(softmax).dim() != g.value(softmax).dim() - 1:
            raise Refused("the softmax is not over the last dimension")
        scores = self._scores(softmax.args[0], g.value(softmax))
        self.used.add(scores)
        if any(user not in self.used and user is not product for node in self.used for user in node.users):
            raise Refused("scores or their softmax are used elsewhere, too")
        if len(self.masks) != 1:
            raise Refused(f"there are {len(self.masks)} sparse masks, not one")
        mask = self.inputs.index(self.masks.pop())
        return self._form(product, scores, mask)

    def _product_behind(self, node: fx.Node) -> fx.Node | None:
        """The product that takes a softmax, maybe in another dtype."""
        for user in node.users:
            if user.target is contract:
                return user
            if user.target in _CASTS or self._is_masked_again(user, node):
                self.used.add(user)
                return self._product_behind(user)
        return None

    def _is_masked_again(self, user: fx.Node, weights: fx.Node) -> bool:
        """Whether it puts 0 where the softmax of what is not allowed has it already."""
        if user.target not in _FILLS or user.args[0] is not weights or user.args[2] != 0:
            return False
        return self._is_of_mask(user.args[1]) and self._evaluated(user.args[1]) == (False, True)

    # --- from the softmax back to the product of q and k

    def _scores(self, node: fx.Node, like: torch.Tensor) -> fx.Node:
        while node.target is not contract:
            if node.op != "call_function" or not g.same_shape(g.value(node), like):
                raise Refused("what the softmax is of is no product of q and k in its own shape")
            if g.value(node).dtype not in _DTYPES:
                raise Refused(f"scores are {g.value(node).dtype}")
            self.used.add(node)
            node = self._before(node)
        return node

    def _before(self, node: fx.Node) -> fx.Node:
        """What a step between the products is made of; takes note of what it does."""
        target, args = node.target, node.args
        if target in _CASTS:
            return args[0]
        if target in _MULTIPLIES or target in _DIVIDES:
            return self._scaled(node)
        if target in _FILLS:
            if self._is_repeated_mask(node):
                return args[0]
            self._check_mask(args[1], forbids=True, value=args[2])
            return args[0]
        if target in _WHERES:
            if self._number(args[2]) is not None:
                self._check_mask(args[0], forbids=False, value=args[2])
                return args[1]
            self._check_mask(args[0], forbids=True, value=args[1])
            return args[2]
        if target in _ADDS and node.kwargs.get("alpha", 1) == 1:
            return self._added(node, _ADDS[target])
        raise Refused(f"scores are changed by {str(target).removesuffix('.default')}")

    def _scaled(self, node: fx.Node) -> fx.Node:
        scores, by = node.args
        power = -1 if node.target in _DIVIDES else 1
        if power == 1 and self._number(scores) is not None:
            scores, by = by, scores
        number = self._number(by)
        if number is None or node.kwargs:
            raise Refused("scores are multiplied by a tensor")
        if not number.is_number:
            self.numbers.append((self.inputs.index(by), power))
            return scores
        if not 0 < number < math.inf:
            raise Refused(f"scores are multiplied by {number}, which is not above 0")
        self.scale *= float(number) ** power
        return scores

    def _added(self, node: fx.Node, sign: int) -> fx.Node:
        scores, added = node.args
        if sign == 1 and self._is_of_mask(scores):
            scores, added = added, scores
        if not self._is_of_mask(added):
            raise Refused(f"scores are changed by {node.target}")
        allowed, forbidden = (sign * value for value in self._evaluated(added))
        if allowed != 0 or not _counts_as_masked(forbidden):
            raise Refused(f"the mask adds {allowed} to scores that it allows, and {forbidden} to others")
        return scores

    def _is_repeated_mask(self, node: fx.Node) -> bool:
        """Whether it puts -inf where scores are so low already."""
        scores, low, value = node.args
        if not isinstance(low, fx.Node) or low.target is not aten.le.Scalar or low.args[0] is not scores:
            return False
        self.used.add(low)
        return value == -math.inf and counts_as_masked(low.args[1], g.value(scores).dtype)

    # --- masks and numbers

    def _check_mask(self, mask: Any, forbids: bool, value: Any) -> None:
        number = self._number(value)
        if number is None or not number.is_number or not _counts_as_masked(float(number)):
            raise Refused(f"scores that are not allowed become {number or 'a tensor'}, not -inf")
        if not self._is_of_mask(mask):
            raise Refused("the mask is combined with a dense tensor")
        if self._evaluated(mask) != (not forbids, forbids):
            raise Refused("the mask forbids what is stored")

    def _number(self, value: Any) -> sympy.Expr | None:
        """A number, or an input that is one."""
        if isinstance(value, int | float):
            return sympy.sympify(float(value))
        return self.region.inputs[self.inputs.index(value)].number if value in self.inputs else None

    def _is_of_mask(self, node: Any) -> bool:
        """Whether it is an expression of a sparse input and of numbers."""
        if not isinstance(node, fx.Node):
            return False
        if node.op == "placeholder":
            return self.region.inputs[self.inputs.index(node)].stored is not None
        return node.target is not contract and bool(node.all_input_nodes) and all(
            self._is_of_mask(arg) for arg in node.all_input_nodes
        )  # fmt: skip

    def _evaluated(self, node: fx.Node) -> tuple[float, float]:
        """What an expression of the mask is where something is stored that allows, and where nothing is."""
        return self._value(node, True), self._value(node, False)

    def _value(self, node: fx.Node, allows: bool) -> float:
        def value(node: fx.Node) -> torch.Tensor:
            if node.op == "placeholder":
                stored, dtype = self.region.inputs[self.inputs.index(node)].stored, g.value(node).dtype
                assert stored is not None
                self._check_fill(stored.fill, dtype)
                self.masks.add(node)
                return torch.tensor((dtype == torch.bool) if allows else stored.fill, dtype=dtype)
            if not is_pointwise(node):
                raise Refused(f"the mask is changed by {node.target}")
            args, kwargs = fx.map_arg((node.args, node.kwargs), value)
            return node.target(*args, **kwargs)

        return value(node).item()

    def _check_fill(self, fill: Any, dtype: torch.dtype) -> None:
        if dtype == torch.bool and not fill:
            return
        if dtype.is_floating_point and _counts_as_masked(fill):
            return
        raise Refused(f"where the mask stores nothing it is {fill}")

    # --- dims

    def _form(self, product: fx.Node, scores: fx.Node, mask: int) -> AttentionForm:
        a_labels, b_labels, labels = parse(scores.args[2])
        rank = len(labels)
        *batch, rows, keys = labels if rank >= 2 else (None, None)
        operands = [(scores.args[0], a_labels), (scores.args[1], b_labels)]
        if rank < 2 or rank > 5 or (keys in a_labels) == (keys in b_labels):
            raise Refused("scores are no product of queries with keys under up to three leading dimensions")
        operands.sort(key=lambda operand: keys in operand[1])
        (q, q_labels), (k, k_labels) = operands
        columns = [label for label in q_labels if label in k_labels and label not in labels]
        if len(columns) != 1 or rows not in q_labels or rows in k_labels:
            raise Refused("scores are no product of queries with keys over their columns")
        weights = 0 if product.args[0] in self.used else 1
        p_labels, v_labels = (parse(product.args[2])[number] for number in (weights, 1 - weights))
        same = dict(zip(p_labels, labels, strict=True))
        v, v_labels = product.args[1 - weights], [same.get(label, label + "'") for label in v_labels]
        result = [same.get(label, label + "'") for label in parse(product.args[2])[2]]
        rest = [label for label in v_labels if label not in labels]
        wanted = [*batch, rows, *rest]
        if len(rest) != 1 or keys not in v_labels or rows in v_labels or sorted(result) != sorted(wanted):
            raise Refused("the softmax is not multiplied by values over their keys")
        shape = g.value(scores).shape[:-2]
        q_operand = self._operand("q", q, q_labels, batch, (rows, columns[0]))
        shared = self._shared(q_operand, q, shape)
        if any(shared):
            raise Refused("q is the same for several heads")
        pair = (
            self._operand("k", k, k_labels, batch, (keys, columns[0])),
            self._operand("v", v, v_labels, batch, (keys, rest[0])),
        )
        shared, other = (self._shared(operand, node, shape) for operand, node in zip(pair, (k, v), strict=True))
        own = [n for n, is_shared in enumerate(shared) if not is_shared and not g.is_one(shape[n])]
        if shared != other or any(shared[: max(own, default=-1) + 1]) or (len(batch) > 1 and shared[0]):
            raise Refused("k and v are shared by texts, or by heads that are not side by side")
        self._check_mask_shape(mask, g.value(scores).shape)
        order = tuple(wanted.index(label) for label in result)
        return AttentionForm(
            product, order, q_operand, *pair, mask, len(batch), self.scale, tuple(self.numbers)
        )  # fmt: skip

    def _operand(self, name: str, node: fx.Node, labels: Any, batch: list[str], last: tuple[str, str]) -> Operand:
        if node not in self.inputs or self.region.inputs[self.inputs.index(node)].stored is not None:
            raise Refused(f"{name} is sparse, or computed in the region")
        if set(labels) - {*batch, *last}:
            raise Refused(f"{name} has a dimension that scores do not have")
        places = {label: place for place, label in enumerate(labels)}
        lead = tuple(places.get(label) for label in batch)
        return Operand(self.inputs.index(node), lead, (places[last[0]], places[last[1]]))

    @staticmethod
    def _shared(operand: Operand, node: fx.Node, shape: Any) -> list[bool]:
        """For each leading dim whether the operand is the same all along it."""
        own = g.value(node).shape
        sizes = [1 if place is None else own[place] for place in operand.lead]
        return [g.is_one(size) and not g.is_one(full) for size, full in zip(sizes, shape, strict=True)]

    def _check_mask_shape(self, mask: int, shape: Any) -> None:
        own = g.value(self.inputs[mask]).shape
        offset = len(shape) - len(own)
        same = [dim >= offset and g.is_one(own[dim - offset]) == g.is_one(full) for dim, full in enumerate(shape)]
        if not (same[-1] and same[-2]):
            raise Refused("the mask is the same for all queries, or for all keys")
        heads = [same[dim] for dim in range(1, len(shape) - 2) if not g.is_one(shape[dim])]
        if len(shape) == 5 and len(set(heads)) > 1:
            raise Refused("the mask is the same for some heads, and not for others")


def _counts_as_masked(value: float) -> bool:
    return value == -math.inf or counts_as_masked(value, torch.float32)
