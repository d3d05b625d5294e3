"""The kernels that say in which order tiles are best done: the longest first, within groups.

A tile's place is how many of its group go before it: each is compared with all, which costs less than sorting as long
as groups are small.
"""

from functools import cache

from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.writer import Array, Value

NUMBERS = ["batch", "heads", "rows", "shared", "batch_step", "head_step", "group"]


@cache
def orderer(partial: bool) -> GpuKernel:
    """The kernels: arrays `count`, `partial_count` if there are partial blocks, `steps` (scratch) and `order`.

    Numbers: tiles are [batch, heads, rows]; counts are of as many rows, with `shared` heads for each of a tile's, and
    steps from one text and one head to the next; `group` tiles are a group.
    """
    counts = ["count", *(["partial_count"] if partial else [])]
    w = GpuWriter(NUMBERS, [Array(name, "i32") for name in [*counts, "steps", "order"]])
    batch, heads, rows = (w.number(name) for name in ("batch", "heads", "rows"))
    with w.parallel(batch, heads, rows) as (text, head, row):
        first = w.add(w.mul(text, w.number("batch_step")), row)
        head_of_first = w.mul(head, w.number("shared"))

        def of_head(n: Value, carried: list[Value]) -> list[Value]:
            at = w.add(first, w.mul(w.add(head_of_first, n), w.number("head_step")))
            (steps,) = carried
            for name in counts:
                steps = w.add(steps, w.load(name, at))
            return [steps]

        zero = w.constant(0)
        (steps,) = w.fold_all(zero, w.number("shared"), 1, "index", [zero], of_head)
        w.store("steps", w.add(w.mul(w.add(w.mul(text, heads), head), rows), row), steps)
    tiles = w.mul(w.mul(batch, heads), rows)
    with w.parallel(tiles) as (tile,):
        group = w.number("group")
        begin = w.mul(w.div(tile, group), group)
        own = w.load_bits("steps", tile)

        def goes_before(n: Value) -> Value:
            other = w.add(begin, n)
            # Of equal ones those that are first go before it: they count as longer by one.
            is_first = w.counted(w.compare("ult", other, tile))
            return w.counted(
                w.compare("ugt", w.binary("addi", w.load_bits("steps", other), is_first, "i32"), own, "i32")
            )

        size = w.min(group, w.sub(tiles, begin))
        place = w.as_index(w.reduce_lanes(WARP, size, "addi", "i32", goes_before), "i32")
        w.store("order", w.add(begin, place), tile)
    return GpuKernel(w.module())
