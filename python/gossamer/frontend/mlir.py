"""torch-mlir, which is imported on first use only."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any


@cache
def torch_mlir() -> Any:
    """What is used of torch-mlir."""
    from torch_mlir import ir, passmanager
    from torch_mlir.dialects import arith, func, linalg, sparse_tensor, tensor  # noqa: F401 (registers)
    from torch_mlir.dialects import torch as torch_dialect
    from torch_mlir.extras import fx_importer

    return SimpleNamespace(
        ir=ir, PassManager=passmanager.PassManager, arith=arith, func=func, linalg=linalg, tensor=tensor,
        torch=torch_dialect, FxImporter=fx_importer.FxImporter,
    )  # fmt: skip
