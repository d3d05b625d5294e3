"""Which operations are compiled for which formats: docs/operations.md shows it, test_support.py proves it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

import gossamer as gs

FORMATS = {
    "CSR": gs.CSR,
    "CSC": gs.CSC,
    "COO": gs.COO,
    "DCSR": gs.DCSR,
    "DCSC": gs.DCSC,
    "BSR": gs.BSR(4),
    "BSC": gs.BSC(4),
    "DBSR": gs.DBSR(4),
    "1xV": gs.BSR((1, 4)),
    "Vx1": gs.BSR((4, 1)),
    "BlockELL": gs.BlockELL(4),
    "N:M": gs.NM(2, 4),
}


@dataclass(frozen=True)
class Operation:
    """A row of the table.

    Attributes:
        text: What a user writes; `a` and `c` are sparse, other letters dense.
        run: That, as a function; sparse arguments first.
        dense: Shapes of the dense arguments.
        second: Whether a second sparse argument `c` is needed, and whether it shares the pattern of `a`.
        fill: Of the sparse arguments.
        gradients: Whether the backward is compiled too.
    """

    text: str
    run: Callable[..., Any]
    dense: tuple[tuple[int, ...], ...] = ()
    second: str = ""
    fill: float = 0.0
    gradients: bool = True


ROWS, COLUMNS = 16, 24

# name of the group -> its operations, on a sparse `a` of ROWS x COLUMNS
OPERATIONS: dict[str, list[Operation]] = {
    "products": [
        Operation("a @ x", lambda a, x: a @ x, ((COLUMNS, 7),)),
        Operation("a @ v", lambda a, v: a @ v, ((COLUMNS,),)),
        Operation("x @ a", lambda a, x: x @ a, ((5, ROWS),)),
        Operation("a.mT @ x", lambda a, x: a.mT @ x, ((ROWS, 7),)),
        Operation("relu(linear(x, a, b))", lambda a, x, b: F.relu(F.linear(x, a, b)), ((2, 3, COLUMNS), (ROWS,))),
        Operation("einsum('ij,bkj->bik', a, x)", lambda a, x: torch.einsum("ij,bkj->bik", a, x), ((2, 5, COLUMNS),)),
        Operation("a * (x @ y.mT)", lambda a, x, y: a * (x @ y.mT), ((ROWS, 5), (COLUMNS, 5))),
        Operation("a @ c.mT (both sparse)", lambda a, c: a @ c.mT, second="other"),
    ],
    "attention": [
        Operation(
            "softmax(q @ k.mT + a, -1) @ v",
            lambda a, q, k, v: torch.softmax(q @ k.mT / math.sqrt(8) + a, -1) @ v,
            ((2, 3, ROWS, 8), (2, 3, COLUMNS, 8), (2, 3, COLUMNS, 8)),
            fill=-math.inf,
        ),
        Operation("softmax(a, -1)", lambda a: torch.softmax(a, -1), fill=-math.inf),
        Operation("log_softmax(a, -1)", lambda a: torch.log_softmax(a, -1), fill=-math.inf),
    ],
    "elementwise": [
        Operation("relu(a) * 2", lambda a: F.relu(a) * 2),
        Operation("a * x", lambda a, x: a * x, ((ROWS, COLUMNS),)),
        Operation("x * a / v", lambda a, x, v: x * a / v, ((ROWS, 1), (COLUMNS,))),
        Operation("a + c (one pattern)", lambda a, c: a + c, second="same"),
        Operation("a * c", lambda a, c: a * c, second="other"),
        Operation("a + c", lambda a, c: a + c, second="other"),
    ],
    "reductions": [
        Operation("a.sum()", lambda a: a.sum()),
        Operation("a.sum(0)", lambda a: a.sum(0)),
        Operation("a.mean(1)", lambda a: a.mean(1)),
        Operation("a.amax(1)", lambda a: a.amax(1), gradients=False),
    ],
    "parts": [
        Operation("a[3:9]", lambda a: a[3:9]),
        Operation("cat([a, c])", lambda a, c: torch.cat([a, c]), second="other"),
        Operation("a.mT", lambda a: a.mT),
    ],
}

# (operation, format) -> why it runs densely in PyTorch, with a warning
DENSELY: dict[tuple[str, str], str] = {}


def table() -> str:
    """The support table as Markdown."""
    lines = []
    for group, operations in OPERATIONS.items():
        lines += [f"| {group} | {' | '.join(FORMATS)} |", f"| --- |{' :-: |' * len(FORMATS)}"]
        for operation in operations:
            mark = "✓" if operation.gradients else "fwd"
            cells = ["dense" if (operation.text, name) in DENSELY else mark for name in FORMATS]
            lines.append(f"| `{operation.text}` | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip()
