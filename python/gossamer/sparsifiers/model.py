"""One choice for all weights of a model: global pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gossamer.errors import AnnotationError, FormatError
from gossamer.formats import Format
from gossamer.parameters import attach
from gossamer.sparsifiers.base import Ranking
from gossamer.sparsifiers.ranking import Largest
from gossamer.sparsify import sparsify
from gossamer.tensor import level_view
from gossamer.weights import matching_parameters


def sparsify_model(module: nn.Module, formats: Mapping[str, Format], by: Largest) -> nn.Module:
    """Stores weights of a module sparsely, in place, with the largest entries of all of them together.

    So layers that matter more keep more. Of the n entries of all weights, `round(density * n)` are kept; a block counts
    as many as it has, is ranked by its mean (of squares, for "l2"; by its largest, for "max"), and is kept as a whole
    or not. Equal ones: the first, in the order of the parameters. Optimizers and `state_dict` see what they see of
    `gs.sparse_jit(module, formats)`.

    Args:
        module: The module.
        formats: Parameters by glob, to formats, as for `gs.sparse_jit`; the first glob that matches a name counts.
        by: `gs.by.magnitude`, `gs.by.block_norm` or `gs.by.random`, of the density of all weights together.

    Returns:
        The module.

    Raises:
        AnnotationError: A glob matches no parameter, or is not mapped to a format.
        FormatError: A format does not fit its weight or is n:m, or `by` is none that ranks a whole tensor.
    """
    if not isinstance(by, Largest) or by.per != "tensor":
        raise FormatError(f"sparsify_model: weights are ranked by gs.by.magnitude(density) or the like, not by {by!r}")
    found: list[tuple[nn.Module, str, Format]] = []
    for name, glob, format in matching_parameters(module, formats):
        if not isinstance(format, Format):
            raise AnnotationError(f"sparsify_model: {glob!r} is mapped to {format!r}, which is no format")
        if not format.outer or format.levels[-1].kind == "structured":
            raise FormatError(f"sparsify_model: {format} stores as much of every weight, whatever is in it")
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        found.append((owner, leaf, format.for_rank(getattr(owner, leaf).dim())))
    weights = [getattr(owner, leaf).detach() for owner, leaf, _ in found]
    levels = [level_view(weight, format) for weight, (_, _, format) in zip(weights, found, strict=True)]
    kept = _largest_of_all(levels, [format for _, _, format in found], by)
    for (owner, leaf, format), weight, nodes in zip(found, weights, kept, strict=True):
        attach(owner, leaf, sparsify(weight, format, _Ranked(nodes)))
    return module


def _largest_of_all(levels: Sequence[Tensor], formats: Sequence[Format], by: Largest) -> list[Tensor]:
    """Which nodes of every weight are kept."""
    scores, sizes = [], []
    for weight, format in zip(levels, formats, strict=True):
        inner = weight.shape[format.outer :].numel()
        score = by.scores(weight, format)
        score = score if score.dtype == torch.int64 else score.to(torch.float64).nan_to_num(nan=torch.inf)
        scores.append((score if getattr(by, "norm", "max") == "max" else score / max(inner, 1)).reshape(-1))
        sizes.append(torch.full_like(scores[-1], inner, dtype=torch.int64))
    all_sizes = torch.cat(sizes)
    order = torch.sort(torch.cat(scores), descending=True, stable=True).indices
    budget = round(by.density * int(all_sizes.sum()))
    kept = torch.zeros_like(all_sizes, dtype=torch.bool)
    kept[order] = all_sizes[order].cumsum(0) <= budget
    parts = kept.split([len(score) for score in scores])
    return [
        part.view(weight.shape[: format.outer]) for part, weight, format in zip(parts, levels, formats, strict=True)
    ]


class _Ranked(Ranking):
    """Nodes that were chosen before."""

    def __init__(self, nodes: Tensor):
        self._nodes = nodes

    def keep(self, levels: Tensor, format: Format) -> Tensor:
        return self._nodes

    def count(self, format: Format, sizes: Sequence[int]) -> int:
        return int(self._nodes.sum())
