"""Pictures of masks: the classes of their blocks, how dense they are, and how even the work of their rows is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import UnsupportedError
from gossamer.patterns.classes import BlockClasses

# As long a side, and shorter, every entry is drawn; else every block, or, of more blocks than this, every few.
_ENTRIES_DRAWN = 512
_HEADS_DRAWN = 8


def show(classes: BlockClasses, path: str | Path | None = None, *, title: str = "") -> Any:
    """Draws the blocks of a mask, for each text and head that has its own (the first 8), and the work of each row.

    Args:
        classes: The blocks.
        path: Where to write a picture, in the format that its ending says (.png); None: to no file.
        title: Above it.

    Returns:
        matplotlib's figure.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    try:
        from matplotlib.colors import ListedColormap  # type: ignore[import-not-found]
        from matplotlib.figure import Figure  # type: ignore[import-not-found]
    except ImportError:
        raise UnsupportedError("show() draws with matplotlib: pip install matplotlib, or gossamer[plot]") from None
    pictures = picture(classes)
    drawn = pictures.flatten(0, 1)[:_HEADS_DRAWN]
    heads = drawn.shape[0]
    figure = Figure(figsize=(4.5 * (heads + 1), 5), layout="constrained")
    axes = figure.subplots(1, heads + 1, squeeze=False)[0]
    colours = ListedColormap(["#ffffff", "#f2a154", "#2f5d8a"])
    extent = (-0.5, classes.shape[1] - 0.5, classes.shape[0] - 0.5, -0.5)
    for n in range(heads):
        axes[n].imshow(drawn[n].numpy(), cmap=colours, vmin=0, vmax=2, extent=extent, interpolation="nearest")
        b, h = divmod(n, classes.leading[1])
        axes[n].set(xlabel="key", ylabel="query", title=f"text {b}, head {h}" if heads > 1 else "")
    work = classes.to("cpu").row_entries().flatten(0, 1)[:_HEADS_DRAWN]
    for n in range(heads):
        axes[heads].plot(work[n].numpy(), label=f"{n}")
    axes[heads].set(xlabel="block of queries", ylabel="allowed positions", ylim=(0, None), title="work of a row")
    full, partial = classes.counts
    summary = f"density {classes.density:.3g}; blocks: {full} full (blue), {partial} in part (orange)"
    figure.suptitle(f"{title[:120]}\n{summary}" if title else summary)
    if path is not None:
        figure.savefig(path)
    return figure


def picture(classes: BlockClasses) -> Tensor:
    """Returns int8 [B or 1, H or 1, rows, columns]: 0 where nothing is allowed, 2 what is in full blocks, 1 what is in
    others: of every entry in a short mask; of a longer one of every block, which is 1 if it is allowed in part."""
    classes = classes.to("cpu")
    kinds = classes.kinds()
    if max(classes.shape) > _ENTRIES_DRAWN:
        step = max(1, -(-max(kinds.shape[2:]) // (2 * _ENTRIES_DRAWN)))
        return kinds[:, :, ::step, ::step]
    rows, columns = classes.block
    full = (kinds == 2).repeat_interleave(rows, 2).repeat_interleave(columns, 3)
    full = full[:, :, : classes.shape[0], : classes.shape[1]]
    return classes.to_dense().to(torch.int8) * (1 + full.to(torch.int8))
