"""Writes what the docs show of the code: IR of every stage, tables of formats. The tests say when it is stale.

python docs/generate.py           rewrite the blocks between `<!-- generated: NAME -->` and `<!-- end -->`
python docs/generate.py --check   exit with 1 if that would change anything
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

import gossamer as gs

sys.path.insert(0, str(Path(__file__).resolve().parent))
import support

DOCS = Path(__file__).resolve().parent
TARGET = "x86-64-v3"  # the same code whatever machine this runs on
_BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)
_TO_LOOPS = (
    "func.func(gossamer-choose-formats,gossamer-bind-results,"
    "gossamer-lower-matmul{vector-bytes=32},gossamer-sparsify-generics)"
)


@gs.sparse_jit(w=gs.CSR)
def layer(x, w, b):
    return F.relu(F.linear(x, w, b))


@cache
def stage(name: str) -> str:
    """The code of `layer` at a stage; sizes are dynamic, so those of the example do not matter."""
    x, w, b = torch.zeros(16, 32), torch.eye(24, 32), torch.zeros(24)
    return gs.dump(layer, x, w, b, stage=name, target=TARGET).strip()


def loops() -> str:
    """The loop over the stored entries of a row, its sums in registers."""
    command = [
        sys.executable,
        "-m",
        "gossamer.compiler.opt",
        f"--pass-pipeline=builtin.module({_TO_LOOPS},canonicalize)",
    ]
    text = subprocess.run(command, input=stage("raise"), capture_output=True, text=True, check=True).stdout
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines) if "step %c1 iter_args" in line)
    last = next(n for n in range(first, len(lines)) if "scf.yield" in lines[n])
    return _dedented(lines[first : last + 2])


def signature() -> str:
    """What the lowered module says of its arguments, results and roads."""
    match = re.search(r'gossamer\.signature = "(.*?)"}', stage("lower"))
    assert match, "the lowered module has no signature"
    fields = json.loads(match[1].replace("\\22", '"'))
    lists = {key: value for key, value in fields.items() if isinstance(value, list)}
    text = json.dumps({key: value if key not in lists else key for key, value in fields.items()}, indent=2)
    for key, entries in lists.items():
        rows = ",\n".join(f"    {json.dumps(entry)}" for entry in entries)
        text = text.replace(f'"{key}": "{key}"', f'"{key}": [\n{rows}\n  ]')
    return text


def functions() -> str:
    """The functions of the lowered module."""
    names = re.findall(r"^  llvm\.func (?:internal )?@(\w+)\(", stage("lower"), re.M)
    return "\n".join(names)


def inner_loop() -> str:
    """The machine code of that loop."""
    lines = stage("asm").splitlines()
    value = next(n for n, line in enumerate(lines) if "vbroadcastss\t(" in line and "vfmadd" in lines[n + 1])
    first = max(n for n in range(value) if lines[n].startswith(".L"))
    last = next(n for n in range(value + 1, len(lines)) if "vfmadd" not in lines[n])
    return "\n".join(line.expandtabs(8) for line in lines[first + 1 : last])


def formats() -> str:
    """The ready-made formats, with the map of each."""
    ready = {
        "gs.CSR": (gs.CSR, "rows of entries"),
        "gs.CSC": (gs.CSC, "columns of entries"),
        "gs.COO": (gs.COO, "sorted coordinates, an array a dimension"),
        "gs.DCSR": (gs.DCSR, "rows of entries, empty rows left out"),
        "gs.DCSC": (gs.DCSC, "columns of entries, empty columns left out"),
        "gs.BSR(16)": (gs.BSR(16), "rows of dense 16 x 16 blocks"),
        "gs.BSR((1, 8))": (gs.BSR((1, 8)), "rows of dense 1 x 8 blocks"),
        "gs.BSC(16)": (gs.BSC(16), "columns of dense blocks"),
        "gs.DBSR(16)": (gs.DBSR(16), "rows of dense blocks, empty block rows left out"),
        "gs.BlockELL(16)": (gs.BlockELL(16), "the same room for blocks in every block row"),
        "gs.NM(2, 4)": (gs.NM(2, 4), "2 of every 4 entries of a row"),
    }
    rows = [f"| `{name}` | {what} | `{format}` |" for name, (format, what) in ready.items()]
    return "\n".join(["| format | stores | map |", "| --- | --- | --- |", *rows])


def _dedented(lines: list[str]) -> str:
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    return "\n".join(line[indent:] for line in lines)


def _code(language: str, make: Callable[[], str]) -> Callable[[], str]:
    return lambda: f"```{language}\n{make()}\n```"


BLOCKS: dict[str, Callable[[], str]] = {
    "import": _code("mlir", lambda: stage("import")),
    "annotate": _code("mlir", lambda: "\n".join(stage("annotate").splitlines()[:9])),
    "raise": _code("mlir", lambda: stage("raise")),
    "loops": _code("mlir", loops),
    "signature": _code("json", signature),
    "functions": _code("text", functions),
    "inner-loop": _code("asm", inner_loop),
    "formats": formats,
    "operations": support.table,
}


def generated(text: str) -> str:
    """The text of a document with its blocks made anew."""
    return _BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]]()}\n{match[3]}", text)


def main() -> int:
    """Rewrites or checks all documents; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, exit with 1 if something is stale")
    check = parser.parse_args().check
    stale = []
    for path in sorted(DOCS.glob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = generated(old)
        if new != old:
            stale.append(path.name)
            if not check:
                path.write_text(new, encoding="utf-8")
    if stale:
        print(f"{'stale' if check else 'rewritten'}: {', '.join(stale)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
