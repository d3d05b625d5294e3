# REQUIRES: ptxas
# RUN: %python %s "%ptxas" %t

"""Every kind of attention assembles for sm_90a: no spill, and no remark that products are serialised (C75xx)."""

import re
import subprocess
import sys

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
