"""Union and intersection of two patterns, and one pattern looked up in another.

What is derived from a pair is kept by its first pattern while both live.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor

from gossamer.build import build
from gossamer.coordinates import node_index, ravel
from gossamer.derive.formats import common
from gossamer.derive.gather import Gather, forget, index_dtype, remembered
from gossamer.derive.rebuild import entries_of
from gossamer.errors import TensorError
from gossamer.formats import Format
from gossamer.pattern import Pattern

_T = TypeVar("_T")
_PAIRS = 16  # partners that a pattern remembers


def union(patterns: Sequence[Pattern]) -> Pattern:
    """Returns the pattern that stores what any of these stores, in their common format.

    One of the patterns themselves, if that is the union already.

    Raises:
        TensorError: The shapes differ.
        FormatError: The formats have none in common.
    """
    return reduce(lambda a, b: _merged(a, b, "union"), patterns)


def intersection(patterns: Sequence[Pattern]) -> Pattern:
    """Likewise what all of these store; of blocks those that all have."""
    return reduce(lambda a, b: _merged(a, b, "intersection"), patterns)


def lookup(source: Pattern, target: Pattern) -> Gather | None:
    """Returns where the values of `source` are that `target` stores; None if the two are the same.

    Raises:
        TensorError: The shapes differ, or `source` stores an entry more than once.
    """
    if source is target:
        return None
    _require_same_shape(source, target)
    return _of_pair(target, source, "lookup", lambda: _lookup(source, target))


def _merged(a: Pattern, b: Pattern, how: str) -> Pattern:
    _require_same_shape(a, b)
    format = common(a.format, b.format)
    if a is b and a.format == format:
        return a
    # the second one itself is not kept by the first: it would live as long
    merged = _of_pair(a, b, how, lambda: _merge(a, b, format, how))
    return b if merged is None else merged


def _merge(a: Pattern, b: Pattern, format: Format, how: str) -> Pattern | None:
    mine, theirs = (_nodes(pattern.converted(format)[0]) for pattern in (a, b))
    shared = _find(mine, theirs) >= 0  # of theirs
    nodes = torch.cat([mine, theirs[~shared]]).sort().values if how == "union" else theirs[shared]
    if nodes.numel() == mine.numel() and a.format == format:
        return a
    if nodes.numel() == theirs.numel() and b.format == format:
        return None
    return build(format, a.shape, nodes, index_dtype=index_dtype(a, b))[0]


def _nodes(pattern: Pattern) -> Tensor:
    """The places of the nodes, each once, in order."""
    nodes = node_index(pattern)
    nodes = nodes[nodes >= 0]
    if bool((nodes[1:] > nodes[:-1]).all()):
        return nodes
    nodes = nodes.sort().values
    _require_once(nodes, pattern)
    return nodes


def _require_once(places: Tensor, pattern: Pattern) -> None:
    if bool((places[1:] == places[:-1]).any()):
        raise TensorError(
            f"the pattern ({pattern.format}) stores an entry more than once; sum the duplicates first (coalesce() of a "
            "torch COO tensor)"
        )


def _lookup(source: Pattern, target: Pattern) -> Gather:
    if source.format == target.format:
        # whole blocks
        found = _find_any_order(node_index(source), node_index(target), source)
        if (inner := target.inner_size) != 1:
            offsets = torch.arange(inner, device=found.device)
            found = torch.where(found[:, None] < 0, -1, found[:, None] * inner + offsets).reshape(-1)
        return Gather.of(found)
    coordinates, sources = entries_of(source)
    wanted = target.coo()
    keys = ravel(coordinates, source.shape, sources)
    places = torch.where(wanted[0] < 0, -1, ravel(list(wanted), target.shape, wanted[0]))
    found = _find_any_order(keys, places, source)
    return Gather.of(torch.where(found < 0, -1, sources[found.clamp(min=0)]) if sources.numel() else found)


def _find_any_order(keys: Tensor, wanted: Tensor, source: Pattern) -> Tensor:
    """As `_find`, for keys that need not be sorted, some of which are not in use (-1)."""
    if bool((keys[1:] > keys[:-1]).all()):
        return _find(keys, wanted)
    ordered, order = keys.sort()
    _require_once(ordered[ordered >= 0], source)
    found = _find(ordered, wanted)
    return torch.where(found < 0, -1, order[found.clamp(min=0)])


def _find(keys: Tensor, wanted: Tensor) -> Tensor:
    """For each wanted number its place among the sorted keys; -1 if it is not there, or negative."""
    if not keys.numel():
        return torch.full_like(wanted, -1)
    place = torch.searchsorted(keys, wanted).clamp(max=keys.numel() - 1)
    return torch.where((keys[place] == wanted) & (wanted >= 0), place, -1)


def _require_same_shape(a: Pattern, b: Pattern) -> None:
    if a.shape != b.shape:
        raise TensorError(f"patterns of the shapes {tuple(a.shape)} and {tuple(b.shape)} have no places in common")


def _of_pair(holder: Pattern, other: Pattern, key: str, compute: Callable[[], _T]) -> _T:
    """What was computed for this pair before; the holder keeps it while the other lives."""
    pairs: OrderedDict[int, tuple[weakref.ref, dict[str, Any]]] = holder.derived("pairs", OrderedDict)
    kept = pairs.get(id(other))
    if kept is None or kept[0]() is not other:
        key_of_other = id(other)
        kept = pairs[key_of_other] = weakref.ref(other, lambda _: pairs.pop(key_of_other, None)), {}
        if len(pairs) > _PAIRS:
            pairs.popitem(last=False)
    if key not in kept[1]:
        kept[1][key] = compute()
    return kept[1][key]


def of_group(patterns: Sequence[Pattern], key: Any, compute: Callable[[], _T]) -> _T:
    """As `_of_pair` for any number of patterns; kept by the first one while all live."""
    others = tuple(patterns[1:])
    kept = remembered(patterns[0], (key, *map(id, others)), lambda: ([weakref.ref(o) for o in others], compute()))
    if any(reference() is not other for reference, other in zip(kept[0], others, strict=True)):
        # another pattern lives now where one of them was
        forget(patterns[0], (key, *map(id, others)))
        return of_group(patterns, key, compute)
    return kept[1]
