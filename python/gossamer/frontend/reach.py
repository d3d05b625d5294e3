"""Which operations lead to which, with groups of them seen as one: keeps regions free of cycles."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Mapping

from torch import fx

Unit = Hashable  # a node, or the group that owns it


def ordered(graph: fx.Graph, owner: Mapping[fx.Node, Unit], segment: Mapping[fx.Node, int]) -> list[Unit]:
    """Nodes without an owner, and owners, in an order that respects uses, then segments, then the old order.

    Units on a cycle are left out.
    """
    place: dict[Unit, tuple[int, int]] = {}
    users: dict[Unit, set[Unit]] = {}
    waits: dict[Unit, set[Unit]] = {}
    for position, node in enumerate(graph.nodes):
        unit = owner.get(node, node)
        place[unit] = (segment.get(node, 0), position)
        needed = {owner.get(arg, arg) for arg in node.all_input_nodes} - {unit}
        waits.setdefault(unit, set()).update(needed)
        for other in needed:
            users.setdefault(other, set()).add(unit)
    ready = [(place[unit], unit) for unit, needed in waits.items() if not needed]
    heapq.heapify(ready)
    result = []
    while ready:
        unit = heapq.heappop(ready)[1]
        result.append(unit)
        for user in users.get(unit, ()):
            waits[user].discard(unit)
            if not waits[user]:
                heapq.heappush(ready, (place[user], user))
    return result


class Reach:
    """Reachability between units, as one bit set a node; joining nodes to a unit updates it.

    Args:
        graph: must not change while this is in use.
        owner: the groups that there are already; they make no cycle.
    """

    def __init__(self, graph: fx.Graph, owner: Mapping[fx.Node, Unit]):
        self.bit = {node: 1 << number for number, node in enumerate(graph.nodes)}
        self.reach: dict[fx.Node, int] = {}
        members: dict[Unit, list[fx.Node]] = {}
        for node in graph.nodes:
            members.setdefault(owner.get(node, node), []).append(node)
        for unit in reversed(ordered(graph, owner, {})):
            together = 0
            for node in members[unit]:
                together |= self.bit[node]
                for user in node.users:
                    together |= self.reach.get(user, 0)
            for node in members[unit]:
                self.reach[node] = together

    def is_convex(self, members: Iterable[fx.Node]) -> bool:
        """Whether no path leaves these nodes and comes back."""
        members = set(members)
        mask = self._mask(members)
        outside = {user for node in members for user in node.users} - members
        return not any(self.reach[user] & mask for user in outside)

    def join(self, members: Iterable[fx.Node]) -> None:
        """See these nodes, which are convex, as one from now on."""
        members = set(members)
        mask, together = self._mask(members), 0
        for node in members:
            together |= self.reach[node]
        for node, reached in self.reach.items():
            if reached & mask:
                self.reach[node] = reached | together

    def _mask(self, members: Iterable[fx.Node]) -> int:
        mask = 0
        for node in members:
            mask |= self.bit[node]
        return mask
