# REQUIRES: ptxas
# RUN: %python %s "%ptxas" %t

"""Every kind of attention assembles for sm_90a: no spill, and no remark that products are serialised (C75xx)."""

import re
import subprocess
import sys

ARGUMENTS = "^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32"
# Functions of scores: a soft cap, and a table by head and distance; and what is more with a derivative.
TANH = f"{ARGUMENTS}):\n%t = math.tanh %s : f32\n"
SLOPE = "%o = arith.constant 1.0 : f32\n%u = arith.mulf %t, %t : f32\n%d = arith.subf %o, %u : f32\n"
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
                score = f"{TANH}{SLOPE}tile.yield %t, %d : f32, f32\n"
                yield f"{backward} element(bf16) head({head}) {flags} score {{\n{score}}}"
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


def main(ptxas: str, folder: str) -> None:
    failures = []
    for kind in kinds():
        codegen = "--gossamer-codegen=chip=sm_90a print-ptx=true"
        command = ["gossamer-opt", "--gossamer-lower-tile", codegen, "-o", "/dev/null"]
        ptx = subprocess.run(command, input=f"{kind}\n", capture_output=True, text=True, check=True).stdout
        with open(f"{folder}.ptx", "w") as file:
            file.write(ptx)
        done = subprocess.run(
            [*ptxas.split(), f"{folder}.ptx", "-o", f"{folder}.cubin"], capture_output=True, text=True
        )
        log = done.stdout + done.stderr
        if done.returncode or re.search(r"C75\d\d|[1-9]\d* bytes spill", log):
            failures.append(f"{kind}: {log}")
        products = re.findall(r"wgmma\.commit_group", ptx)
        # The first scores, two of each loop, the next tile's two, the last output; of wide heads two are one.
        if len(products) < (8 if "partial" in kind or "window" in kind else 5 if is_wide(kind) else 6):
            failures.append(f"{kind}: {len(products)} products")
    if failures:
        sys.exit("\n".join(failures))


main(*sys.argv[1:])
