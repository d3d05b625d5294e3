"""Attention that is written out in PyTorch, run as `gs.attention` runs it: by a tile program on tensor cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from gossamer.attention import call_for, is_as_kept, kept_call, where_not, why_no_gradients, why_not
from gossamer.frontend import graph as g
from gossamer.frontend.attention_form import AttentionForm, Operand, find_attention
from gossamer.frontend.decompose import Refused
from gossamer.runtime import tiles
from gossamer.tensor import SparseTensor

if TYPE_CHECKING:
    from gossamer.frontend.region import Region

Shapes = Sequence[Sequence[int]]


class TileRegion:
    """A region that holds attention, as a tile program and what PyTorch does with its result.

    Attributes:
        reason: Why the last call had no tile program; nothing if it had.
        kind: The kernel of the last call that had one.
    """

    def __init__(self, region: Region, form: AttentionForm | None, numbers: Callable[[Shapes], tuple[Any, ...]]):
        """
        Args:
            region: The region.
            form: The attention in it; None where there is a reason against it, which is then to be set.
            numbers: Gives its inputs that are numbers.
        """
        self._region, self._form, self._numbers = region, form, numbers
        self._places = [n for n, i in enumerate(region.inputs) if i.number is not None]
        self.reason = "it has not run yet"
        self.kind: tiles.Kind | None = None

    def __call__(self, leaves: Shapes, inputs: Sequence[Any]) -> tuple[Any, ...] | None:
        """Runs the region, differentiably.

        Args:
            leaves: The shapes of the leaves of the call.
            inputs: Of the region.

        Returns:
            Its results; None if there is no tile program for them.
        """
        form = self._form
        if form is None:
            return None
        q, k, v = (_heads_first(inputs[operand.number], operand) for operand in (form.q, form.k, form.v))
        scale = self._scale(form, leaves)
        mask, self.reason = _allowed(inputs[form.mask], form)
        self.reason = self.reason or _why_not_pair(k, v) or why_no_gradients(q, k, v)
        self.reason = self.reason or why_not(q, k, scale, tiles.chip_for(q.device))
        if self.reason:
            return None
        call = kept_call(q, k, v, mask, scale, False, None) if is_as_kept(q, k, v) else None
        if call is None:
            call = call_for(q, k, v, mask, scale, False, None)
        self.kind = call.kind
        out, _ = call(q, k, v)
        lead = _sizes(inputs[form.q.number], form.q)
        return self._rest(out.reshape(*lead, *out.shape[2:]).permute(form.result), *inputs)

    def _scale(self, form: AttentionForm, leaves: Shapes) -> float:
        if not form.numbers:
            return form.scale
        known = dict(zip(self._places, self._numbers(leaves), strict=True))
        scale = form.scale
        for number, power in form.numbers:
            if not 0 < known[number] < math.inf:
                return math.nan
            scale *= known[number] ** power
        return scale

    @cached_property
    def _rest(self) -> Callable[..., tuple[Any, ...]]:
        """What comes behind the attention, as a function of its result and the region's inputs."""
        form, graph, copies = self._form, fx.Graph(), {}
        assert form is not None
        out = graph.placeholder("attention")
        for node in self._region.graph.nodes:
            copies[node] = out if node is form.product else graph.node_copy(node, copies.__getitem__)
        g.prune(graph)
        return fx.GraphModule(torch.nn.Module(), graph).forward


def tile_region(region: Region, numbers: Callable[[Shapes], tuple[Any, ...]]) -> TileRegion | None:
    """The attention of a region whose tensors are on a GPU; None if there is none."""
    device = next((g.value(node).device for node in region.graph.nodes if node.op == "placeholder"), None)
    if device is None or device.type != "cuda":
        return None
    found = as_tiles(region, numbers)
    if found is not None and (reason := where_not(device)):
        found = TileRegion(region, None, numbers)
        found.reason = reason
    return found


def as_tiles(region: Region, numbers: Callable[[Shapes], tuple[Any, ...]]) -> TileRegion | None:
    """Likewise on a GPU, wherever its tensors are."""
    try:
        form = find_attention(region)
        if form is None:
            return None
        if any(output.pattern_of is not None for output in region.outputs):
            raise Refused("the region has a sparse result, too")
    except Refused as refusal:
        refused = TileRegion(region, None, numbers)
        refused.reason = str(refusal)
        return refused
    return TileRegion(region, form, numbers)


def _heads_first(tensor: Tensor, operand: Operand) -> Tensor:
    """q, k or v as [batch, heads, rows, columns]."""
    order = [place for place in operand.lead if place is not None]
    sizes = _sizes(tensor, operand)
    batch, heads = (sizes[0], math.prod(sizes[1:])) if len(sizes) > 1 else (1, math.prod(sizes))
    moved = tensor.permute(*order, *operand.last)
    return moved.reshape(batch, heads, *moved.shape[-2:])


def _sizes(tensor: Tensor, operand: Operand) -> list[int]:
    """Of its leading dims, in the order of the scores'; 1 where it lacks one."""
    return [1 if place is None else tensor.shape[place] for place in operand.lead]


def _why_not_pair(k: Tensor, v: Tensor) -> str:
    return (
        "" if k.shape == v.shape else f"it takes values of as many columns as keys have, {k.shape[3]}, not {v.shape[3]}"
    )


def _allowed(mask: SparseTensor, form: AttentionForm) -> tuple[SparseTensor, str]:
    """The mask as bool [batch or 1, heads or 1, queries, keys], or with less in front; or why there is none."""
    if mask.dtype != torch.bool:
        if mask.requires_grad:
            return mask, "the mask has a gradient"
        values, fill = mask.values, mask.fill
        allowed = mask.pattern.derived_of_values(values, ("allowed", fill), lambda: _bool_of(values, fill))
        if allowed is None:
            return mask, "the mask adds other numbers than 0 to scores"
        mask = SparseTensor._make(mask.pattern, allowed, False)
    if form.leading < 3 or mask.dim() < 4:
        return mask, ""
    lead = mask.shape[:-2]
    batch = lead[0] if len(lead) == 3 else 1
    pattern = mask.pattern.view((batch, math.prod(lead[-2:]), *mask.shape[-2:]))
    return SparseTensor._make(pattern, mask.values.reshape(pattern.values_shape), False), ""


def _bool_of(values: Tensor, fill: float) -> Tensor | None:
    """Which numbers that are added to scores allow them; None if some do more. Waits for the device."""
    values = values.detach()
    allowed = values == 0
    return allowed if bool((allowed | (values == fill)).all()) else None
