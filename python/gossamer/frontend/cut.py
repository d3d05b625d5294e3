"""Cut the graph: which operations form regions, and the graph that is left with a call in the place of each.

A region is what sparse values connect: it starts from the operations that have sparse operands and grows

* backwards over dense values of which a sparse one keeps only some entries (the scores under a mask), to the product
  that makes them, so that they are computed where the pattern has entries and nowhere else;
* forwards over pointwise operations on the dense result of a sparse product (bias, activation, residual).

Cheap operations on an input's own pattern (``~mask``) are copied into every region that uses them. No path may lead
out of a region and back into it: a step that would make one is not taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from . import graph as g
from .contract import PRODUCTS_OF, contract
from .decompose import PRODUCTS, Refused, decompose
from .fills import Analysis
from .graph import aten
from .marker import STORED
from .pointwise import is_pointwise
from .reach import Reach
from .reduced import REDUCED
from .reductions import REDUCTIONS

FEEDING_VIEWS = {aten.transpose.int, aten.permute.default, aten.unsqueeze.default}


@dataclass(eq=False)
class Group:
    """The operations of a region to be: ``owned`` by it alone, or ``copied`` into it."""

    owned: set[fx.Node] = field(default_factory=set)
    copied: set[fx.Node] = field(default_factory=set)

    @property
    def members(self) -> set[fx.Node]:
        """All its operations."""
        return self.owned | self.copied


def find_groups(graph: fx.Graph, found: Analysis) -> list[Group]:
    """Assign operations to regions. May decompose products that become part of one."""
    return _Grouping(graph, found).run()


class _Grouping:
    def __init__(self, graph: fx.Graph, found: Analysis):
        self.graph = graph
        self.found = found
        self.owner: dict[fx.Node, Group] = {}
        self._index()

    def _index(self) -> None:
        self.order = g.positions(self.graph.nodes)
        self.segment = g.segments(self.graph)
        self.reach = Reach(self.graph, self.owner)

    def run(self) -> list[Group]:
        self.prologue = self._prologue()
        anchors = [node for node in self.graph.nodes if node in self.found.touched and node not in self.prologue]
        anchors += [node for node in self.prologue if self._leaves(node)]
        for node in sorted(anchors, key=self.order.__getitem__):
            self._add_anchor(node)
        groups = list(dict.fromkeys(self.owner.values()))
        for group in groups:
            self._take_producers(group)
        for group in groups:
            self._take_epilogues(group)
        for group in groups:
            self._copy_prologue(group)
        return groups

    # --- what sparse values connect

    def _prologue(self) -> set[fx.Node]:
        """Pointwise operations and views on an input's own pattern, with nothing large beside it."""
        prologue: set[fx.Node] = set()
        for node in self.graph.nodes:
            sparse = self.found.sparse.get(node)
            if node not in self.found.touched or sparse is None:
                continue
            cheap = is_pointwise(node) or node.target in FEEDING_VIEWS
            if cheap and all(self._is_small(arg, node, prologue) for arg in g.tensor_args(node)):
                prologue.add(node)
        return prologue

    def _is_small(self, arg: fx.Node, node: fx.Node, prologue: set[fx.Node]) -> bool:
        if arg in self.found.sources or arg in prologue:
            return True
        return arg not in self.found.sparse and not self._is_full(arg, node)

    def _leaves(self, node: fx.Node) -> bool:
        """Whether something outside of all regions uses the node."""
        return any(user not in self.found.touched for user in node.users)

    def _is_full(self, dense: fx.Node, user: fx.Node) -> bool:
        """Whether a dense operand runs along two or more of the dims that the pattern of ``user`` stores sparsely."""
        sparse = self.found.sparse[user]
        fmt = self.found.sources[sparse.source].format
        matrix = range(min(fmt.leading, fmt.dim_rank - 2), fmt.dim_rank)
        shape = g.value(dense).shape
        offset = len(sparse.dims) - len(shape)
        along = [
            dim for position, dim in enumerate(sparse.dims)
            if dim in matrix and position >= offset and not g.is_one(shape[position - offset])
        ]  # fmt: skip
        return len(along) >= min(2, len([dim for dim in sparse.dims if dim in matrix]))

    def _add_anchor(self, node: fx.Node) -> None:
        group = Group({node})
        self.owner[node] = group
        for arg in g.tensor_args(node):
            if arg in self.owner and arg in self.found.sparse and self.owner[arg] is not group:
                group = self._merge(self.owner[arg], group)
        for reduced in self._reduced_behind(node):
            if self.owner[reduced] is not group:
                group = self._merge(self.owner[reduced], group)

    def _reduced_behind(self, node: fx.Node) -> list[fx.Node]:
        """What was reduced over stored entries, and comes back onto a pattern in a dense operand of ``node``."""
        found: list[fx.Node] = []
        pending = [arg for arg in g.tensor_args(node) if arg not in self.found.sparse] if is_pointwise(node) else []
        seen: set[fx.Node] = set()
        while pending:
            dense = pending.pop()
            if dense in seen:
                continue
            seen.add(dense)
            if dense in self.owner and dense.target in REDUCTIONS:
                found.append(dense)
            elif self._absorbable(dense) or _is_view(dense):
                pending += g.tensor_args(dense)
        return found

    def _merge(self, into: Group, group: Group) -> Group:
        """Join two groups, with the dense pointwise operations between them, if no path leaves and returns."""
        between = self._between(into.owned, group.owned)
        # reduced values are put along the rows again, by views
        if not all(self._absorbable(node) or _is_view(node) for node in between):
            return group
        added = group.owned | between
        if not self._fits(into, added):
            return group
        self._assign(into, added)
        return into

    def _between(self, above: set[fx.Node], below: set[fx.Node]) -> set[fx.Node]:
        """The nodes on paths from ``above`` to ``below``."""
        first = min(self.order[node] for node in above)
        reached: set[fx.Node] = set()
        pending = [arg for node in below for arg in node.all_input_nodes]
        candidates: set[fx.Node] = set()
        while pending:
            node = pending.pop()
            if node in candidates or node in above or node in below or self.order[node] < first:
                continue
            candidates.add(node)
            pending += node.all_input_nodes
        for node in sorted(candidates, key=self.order.__getitem__):
            if any(arg in above or arg in reached for arg in node.all_input_nodes):
                reached.add(node)
        return reached

    def _absorbable(self, node: fx.Node) -> bool:
        """Whether a dense operation can become part of a region."""
        if node.op != "call_function" or node in self.found.fallbacks or not g.is_tensor(node):
            return False
        if node in self.owner or g.value(node).is_complex():
            return False
        if not all(g.is_tensor(arg) for arg in node.all_input_nodes) or self._has_unknown_size(node):
            return False
        return is_pointwise(node)

    def _has_unknown_size(self, node: fx.Node) -> bool:
        return bool(free_unbacked_symbols(g.value(node)))

    def _assign(self, group: Group, nodes: Iterable[fx.Node]) -> None:
        for node in nodes:
            self.owner[node] = group
            group.owned.add(node)
        self.reach.join(group.owned)

    def _fits(self, group: Group, added: Iterable[fx.Node]) -> bool:
        """Whether the group may own these too: one side of every mutation, and no cycle through other nodes."""
        members = group.owned.union(added)
        return len({self.segment[node] for node in members}) == 1 and self.reach.is_convex(members)

    # --- backwards

    def _take_producers(self, group: Group) -> None:
        """Own, or copy, what makes the dense values that sparse ones keep only some entries of."""
        pending = []
        for node in group.owned:
            if node in self.found.sparse and (is_pointwise(node) or node.target is STORED):
                dense = [arg for arg in g.tensor_args(node) if arg not in self.found.sparse]
                pending += [arg for arg in dense if self._is_full(arg, node)]
        seen: set[fx.Node] = set()
        while pending:
            # users come before what they use, so that it is known which users are in
            node = max(pending, key=self.order.__getitem__)
            pending = [other for other in pending if other is not node]
            if node in seen or node in group.owned:
                continue
            seen.add(node)
            pending += self._take_producer(group, node)

    def _take_producer(self, group: Group, node: fx.Node) -> list[fx.Node]:
        """Take one dense value into the group; returns the operands to go on with."""
        alone = all(user in group.owned for user in node.users)
        if node.target is contract or node.target in PRODUCTS:
            if alone and node not in self.owner and node not in self.found.fallbacks and self._fits(group, [node]):
                self._take_product(group, node)
            return []
        if not self._absorbable(node):
            return []
        if alone and self._fits(group, [node]):
            self._assign(group, [node])
        elif any(self.segment[node] != self.segment[member] for member in group.owned):
            return []
        else:
            group.copied.add(node)
        full = g.value(node).shape
        return [arg for arg in g.tensor_args(node) if self._as_large(arg, full)]

    def _as_large(self, arg: fx.Node, shape: torch.Size) -> bool:
        """Whether an operand has both of the last two dims of the value that it goes into."""
        own = g.value(arg).shape
        pairs = zip(own[-2:], shape[-2:], strict=False)
        return len(own) >= 2 and all(g.is_one(full) or not g.is_one(size) for size, full in pairs)

    def _take_product(self, group: Group, node: fx.Node) -> None:
        if node.target is contract:
            self._assign(group, [node])
            return
        before = node.prev
        try:
            result = decompose(self.graph, node)
        except Refused:
            return
        new = []
        while result is not before:
            new.append(result)
            result = result.prev
        for made in new:
            if made.target is contract or self._absorbable(made):
                self.owner[made] = group
                group.owned.add(made)
        self._index()

    # --- forwards

    def _take_epilogues(self, group: Group) -> None:
        for node in sorted(group.owned, key=self.order.__getitem__):
            is_product = node.target in (*PRODUCTS_OF, REDUCED)
            if is_product and node in self.found.touched and node not in self.found.sparse:
                self._take_epilogue(group, node)

    def _take_epilogue(self, group: Group, node: fx.Node) -> None:
        while len(node.users) == 1:
            user = next(iter(node.users))
            if user in self.found.touched or not self._absorbable(user):
                return
            if not g.same_shape(g.value(user), g.value(node)):
                return
            if any(arg in self.found.sparse for arg in g.tensor_args(user)) or not self._fits(group, [user]):
                return
            self._assign(group, [user])
            node = user

    # --- copies

    def _copy_prologue(self, group: Group) -> None:
        """Copy in the cheap sparse operations, and the views that go into products."""
        pending = [arg for node in group.members for arg in node.all_input_nodes]
        while pending:
            node = pending.pop()
            if node in self.prologue and node not in group.members:
                group.copied.add(node)
                pending += node.all_input_nodes
        products = [node for node in group.owned if node.target in (*PRODUCTS_OF, REDUCED)]
        feeding = [arg for node in products for arg in node.args[:-1]]
        while feeding:
            node = feeding.pop()
            if node.target in FEEDING_VIEWS and node not in group.members and node not in self.found.sources:
                group.copied.add(node)
                feeding.append(node.args[0])


def _is_view(node: fx.Node) -> bool:
    return node.target in FEEDING_VIEWS and g.is_tensor(node)
