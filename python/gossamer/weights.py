"""Sparse parameters of a module: chosen by glob, stored at decoration time."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from gossamer.errors import AnnotationError, suggest
from gossamer.formats import Format
from gossamer.parameters import SparseParametrization, attach
from gossamer.sparsifiers import magnitude
from gossamer.sparsify import sparsify
from gossamer.tensor import SparseTensor


def sparsify_parameters(module: nn.Module, globs: Mapping[str, Any]) -> None:
    """Store parameters sparsely, in place; the first glob that matches a name counts.

    Raises:
        AnnotationError: A glob matches no parameter, or what it maps to stores nothing.
    """
    for name, glob, how in matching_parameters(module, globs):
        _attach(module, name, glob, how)


def matching_parameters(module: nn.Module, globs: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """The parameters that globs match: full name, the first glob that matches it, what that maps to.

    Raises:
        AnnotationError: A glob matches no parameter.
    """
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    found: dict[str, tuple[str, str, Any]] = {}
    for glob, how in globs.items():
        matches = [name for name in names if fnmatch.fnmatchcase(name, glob)]
        if not matches:
            raise AnnotationError(
                f"no parameter matches {glob!r}{suggest(glob.replace('*.', ''), _endings(names))}; "
                f"the parameters are {', '.join(names[:6]) or 'none'}{', ...' if len(names) > 6 else ''}"
            )
        for name in matches:
            found.setdefault(name, (name, glob, how))
    return list(found.values())


def _endings(names: list[str]) -> list[str]:
    """Every name, and what is left of it without its first parts."""
    parts = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join(part[start:]) for part in parts for start in range(len(part))))


def _attach(module: nn.Module, name: str, glob: str, how: Any) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    weight = getattr(owner, leaf).detach()
    if isinstance(how, Format):
        # To ask for n:m of a weight is to ask for the n largest of every m.
        group = next((level for level in how.levels if level.kind == "structured"), None)
        stored = sparsify(weight, how, by=magnitude(group.n / group.m) if group else None)
    elif isinstance(how, tuple) and len(how) == 2 and isinstance(how[0], Format):
        stored = sparsify(weight, how[0], by=how[1])
    elif callable(how):
        stored = how(weight)
    else:
        stored = None
    if not isinstance(stored, SparseTensor):
        raise AnnotationError(
            f"{glob!r}: {how!r} does not say how {name} is stored; give a format, a pair such as "
            "(gs.BSR(32), gs.magnitude(0.1)), or a function from the weight to a SparseTensor"
        )
    attach(owner, leaf, stored)


def sparse_parameters(module: nn.Module) -> dict[str, Any]:
    """The sparse parameters: full name -> torch's ParametrizationList of one SparseParametrization."""
    found = {}
    for path, owner in module.named_modules():
        chains: Any = getattr(owner, "parametrizations", {}) if parametrize.is_parametrized(owner) else {}
        for leaf, chain in chains.items():
            if len(chain) == 1 and isinstance(chain[0], SparseParametrization):
                found[f"{path}.{leaf}" if path else leaf] = chain
    return found
