# REQUIRES: ptxas
# RUN: %python %s "%ptxas" %t

"""Every kind of attention assembles for sm_90a: no spill, and no remark that products are serialised (C75xx)."""

import re
import subprocess
import sys
from itertools import product

BLOCKS = [(128, 128), (128, 64), (128, 32), (128, 16), (64, 64), (64, 32), (64, 16)]


def kinds():
    for head, element in product((64, 128), ("bf16", "f16")):
        for flags in ("", "tail", "causal", "causal window"):
            yield f"tile.attention @attention element({element}) head({head}) blocks(128, 128) {flags}"
        for (rows, columns), tail in product(BLOCKS, ("", " tail")):
            blocks = f"element({element}) head({head}) blocks({rows}, {columns})"
            yield f"tile.attention @attention {blocks} listed{tail}"
            if min(rows, columns) >= 64:
                yield f"tile.attention_backward @attention {blocks}{tail}"
        for rows, columns in BLOCKS:
            if (rows, columns, head) != (128, 16, 128):  # refused
                blocks = f"element({element}) head({head}) blocks({rows}, {columns})"
                yield f"tile.attention @attention {blocks} listed partial"
            if min(rows, columns) >= 64:
                yield f"tile.attention_backward @attention {blocks} tail partial"


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
        # The first scores, two of each loop, the next tile's two, the last output.
        if len(products) < (8 if "partial" in kind or "window" in kind else 6):
            failures.append(f"{kind}: {len(products)} products")
    if failures:
        sys.exit("\n".join(failures))


main(*sys.argv[1:])
