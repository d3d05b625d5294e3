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
ARGUMENTS = "^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32"
# Functions of scores: a soft cap, and a table by head and distance; and what is more with a derivative.
TANH = f"{ARGUMENTS}):\n%t = math.tanh %s : f32\n"
SLOPE = "%o = arith.constant 1.0 : f32\n%u = arith.mulf %t, %t : f32\n%d = arith.subf %o, %u : f32\n"
YIELD = "tile.yield %t, %d : f32, f32\n"
TABLE = f"""{ARGUMENTS}, %table: memref<?xf32>, %rows: i32, %stride: i32):
%apart = arith.subi %q, %k : i32
%row = arith.muli %h, %stride : i32
%place = arith.addi %row, %apart : i32
%inside = arith.minsi %place, %rows : i32
%x = tile.look_up %table[%inside] : memref<?xf32>
%z = arith.addf %s, %x : f32
tile.yield %z : f32
"""
BLOCKS = [(128, 128), (128, 64), (128, 32), (128, 16), (64, 128), (64, 64), (64, 32), (64, 16)]


def kinds():
    yield from scored_kinds()
    for head in (64, 128):
        yield from kinds_of("bf16", head, BLOCKS)
        # The same code but for the names of types.
        yield from kinds_of("f16", head, [(128, 128)])
    for head in (192, 256):
        yield from wide_kinds(f"tile.attention @attention element(bf16) head({head})")


def scored_kinds():
    forward, backward = "tile.attention @attention", "tile.attention_backward @attention"
    for head in (64, 128):
        for flags in ("blocks(128, 128) causal", "blocks(128, 64) listed tail", "blocks(64, 64) listed partial"):
            for score in (f"{TANH}tile.yield %t : f32\n", TABLE):
                yield f"{forward} element(bf16) head({head}) {flags} score {{\n{score}}}"
        for flags in ("blocks(128, 128)", "blocks(128, 128) tail partial", "blocks(64, 64) tail partial"):
            yield f"{backward} element(bf16) head({head}) {flags} score {{\n{TABLE}}}"
            # The keys of wide heads, with bits and an end to look for, spill some words.
            if head == 64 or "partial" not in flags:
                yield f"{backward} element(bf16) head({head}) {flags} score {{\n{TANH}{SLOPE}{YIELD}}}"
    for head, flags in (
        (64, "blocks(128, 32) listed partial split"),
        (64, "blocks(128, 128) tail split"),
        (128, "blocks(64, 64) tail split"),
        (128, "blocks(64, 64) listed partial split"),
        (192, "blocks(128, 16) listed tail"),
        (256, "blocks(128, 64) listed partial"),
        (256, "blocks(64, 16) listed partial"),
    ):
        yield f"{forward} element(bf16) head({head}) {flags} score {{\n{TABLE}}}"


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
        forward = f"tile.attention @attention element({element}) head({head})"
        backward = f"tile.attention_backward @attention element({element}) head({head}) blocks(64, 64) tail partial"
        made_for = f'chip("{chip}")'
        yield f"{forward} blocks(128, 64) causal window {made_for}"
        yield f"{forward} blocks(128, 16) listed partial packed {made_for}"
        yield f"{forward} blocks(64, 64) listed tail {made_for}"
        yield f"{backward} packed {made_for}"
        for score, with_slope in ((TABLE, TABLE), (f"{TANH}tile.yield %t : f32\n", f"{TANH}{SLOPE}{YIELD}")):
            yield f"{forward} blocks(128, 64) causal {made_for} score {{\n{score}}}"
            yield f"{forward} blocks(128, 16) listed partial {made_for} score {{\n{score}}}"
            yield f"{backward} {made_for} score {{\n{with_slope}}}"


def main(ptxas: str, folder: str) -> None:
    failures = []
    # Products of a program: the first scores, two of each loop, the next tile's two, the last output; two are
    # one where queries stay in shared memory.
    todo = [("sm_90a", kind, r"wgmma\.commit_group", 1) for kind in kinds()]
    # A product of 16 rows is one of 8 columns and 16 of the depth at a time, 32 at least.
    todo += [
        (chip, kind, r"mma\.sync\.aligned\.m16n8k16", 32) for chip in list(SPILLS)[1:] for kind in kinds_of_others(chip)
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
