# REQUIRES: ptxas
# RUN: %python %s "%ptxas" %t

"""Every kind of attention assembles for sm_90a, without a spill, or a remark that products are serialised (C75xx); some
for others, which may spill a few numbers: all of their threads have equally many registers.
"""

import re
import subprocess
import sys

# Bytes that a thread may spill.
SPILLS = {"sm_90a": 0, "sm_80": 56, "sm_89": 56}
BLOCKS = [(128, 128), (128, 64), (128, 32), (128, 16), (64, 128), (64, 64), (64, 32), (64, 16)]


def kinds():
    for head in (64, 128):
        yield from kinds_of("bf16", head, BLOCKS)
        # The same code but for the names of types.
        yield from kinds_of("f16", head, [(128, 128)])
    for head in (192, 256):
        yield from wide_kinds(f"tile.attention @attention element(bf16) head({head})")


def kinds_of(element, head, blocks):
    for flags in ("", "tail", "causal", "causal window", "split", "tail split"):
        yield f"tile.attention @attention element({element}) head({head}) blocks(128, 128) {flags}"
    for rows, columns in blocks:
        kind = f"@attention element({element}) head({head}) blocks({rows}, {columns})"
        # Of packed keys those that need most registers.
        for flags in ("", "tail", "partial", "partial packed"):
            is_refused = (rows, columns) == (128, 16) and "partial" in flags and (head == 128 or "packed" in flags)
            if not is_refused:
                yield f"tile.attention {kind} listed {flags}"
            if not is_refused and (flags == "partial" or (rows == columns == 64 and "packed" not in flags)):
                yield f"tile.attention {kind} listed {flags} split"
        if min(rows, columns) >= 64:
            for flags in ("", "tail", "partial", "tail partial", "tail partial packed"):
                yield f"tile.attention_backward {kind} {flags}"


def is_wide(kind):
    return "head(192)" in kind or "head(256)" in kind


def wide_kinds(kind):
    for flags in ("", "tail"):
        yield f"{kind} blocks(128, 64) {flags}"
    for rows, columns in BLOCKS:
        for flags in ("", "tail", "partial", "partial packed"):
            is_refused = columns > 64 or ((rows, columns) == (128, 16) and "partial" in flags)
            is_refused |= "head(256)" in kind and (rows, columns, flags) == (64, 16, "partial packed")
            if not is_refused:
                yield f"{kind} blocks({rows}, {columns}) listed {flags}"


def kinds_of_others(chip):
    """What takes most registers."""
    for element, head in [("bf16", 128)] if chip == "sm_89" else [("bf16", 128), ("f16", 64)]:
        kind = f"@attention element({element}) head({head})"
        yield f"tile.attention {kind} blocks(128, 64) causal window"
        yield f"tile.attention {kind} blocks(128, 16) listed partial packed"
        yield f"tile.attention {kind} blocks(64, 64) listed tail"
        yield f"tile.attention_backward {kind} blocks(64, 64) tail partial packed"


def main(ptxas: str, folder: str) -> None:
    failures = []
    # Products of a program: the first scores, two of each loop, the next tile's two, the last output; two are
    # one where queries stay in shared memory.
    todo = [("sm_90a", kind, r"wgmma\.commit_group", 1) for kind in kinds()]
    # A product of 16 rows is one of 8 columns and 16 of the depth at a time, 32 at least.
    todo += [
        (chip, f'{kind} chip("{chip}")', r"mma\.sync\.aligned\.m16n8k16", 32)
        for chip in list(SPILLS)[1:]
        for kind in kinds_of_others(chip)
    ]
    for chip, kind, product, parts in todo:
        codegen = f"--gossamer-codegen=chip={chip} print-ptx=true"
        command = ["gossamer-opt", "--gossamer-lower-tile", codegen, "-o", "/dev/null"]
        ptx = subprocess.run(command, input=f"{kind}\n", capture_output=True, text=True, check=True).stdout
        with open(f"{folder}.ptx", "w") as file:
            file.write(ptx)
        assembler = ptxas.replace("sm_90a", chip).split()
        done = subprocess.run([*assembler, f"{folder}.ptx", "-o", f"{folder}.cubin"], capture_output=True, text=True)
        log = done.stdout + done.stderr
        spilled = max(map(int, re.findall(r"(\d+) bytes spill stores", log)), default=0)
        if done.returncode or "C75" in log or spilled > SPILLS[chip]:
            failures.append(f"{kind}: {log}")
        products = len(re.findall(product, ptx))
        least = 8 if "partial" in kind or "window" in kind else 5 if is_wide(kind) else 6
        if products < parts * (least if chip == "sm_90a" else least - 1):
            failures.append(f"{kind}: {products} products")
    if failures:
        sys.exit("\n".join(failures))


main(*sys.argv[1:])
