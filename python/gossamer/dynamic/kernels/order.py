"""The kernels that say in which order tiles are best done: the longest first, within groups; but the very long ones
before all groups.

A tile's place is how many go before it: each is compared with those of its group, and a very long one with all, which
costs less than sorting as long as groups are small.
"""

from collections.abc import Callable
from functools import cache

from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.writer import Array, Value

NUMBERS = ["batch", "heads", "rows", "shared", "batch_step", "head_step", "group", "groups", "long"]


@cache
def orderer(partial: bool) -> GpuKernel:
    """The kernels: arrays `count`, `partial_count` if there are partial blocks, scratch (`steps` of tiles, `sums` and
    `longs` of groups) and `order`.

    Numbers: tiles are [batch, heads, rows]; counts are of as many rows, with `shared` heads for each of a tile's, and
    steps from one text and one head to the next; `group` tiles are one of `groups`; a tile is very long if `long` times
    its steps are more than those of all.
    """
    counts = ["count", *(["partial_count"] if partial else [])]
    arrays = [*(Array(name, "i32") for name in [*counts, "steps"]), Array("sums", "i64")]
    w = GpuWriter(NUMBERS, [*arrays, Array("longs", "i32"), Array("order", "i32")])
    batch, heads, rows = (w.number(name) for name in ("batch", "heads", "rows"))
    with w.parallel(batch, heads, rows) as (text, head, row):
        steps = _steps_of(w, counts, text, head, row)
        w.store("steps", w.add(w.mul(w.add(w.mul(text, heads), head), rows), row), steps)
    tiles = w.mul(w.mul(batch, heads), rows)
    groups = _Groups(w, tiles)
    with w.parallel(w.number("groups")) as (group,):
        w.store_bits("sums", group, groups.over(group, "i64", lambda at: w.value(
            f"arith.extui {w.load_bits('steps', at)} : i32 to i64"
        )))  # fmt: skip
    with w.parallel(w.number("groups")) as (group,):
        all = groups.all_steps()
        w.store_bits("longs", group, groups.over(group, "i32", lambda at: w.counted(groups.is_long(at, all))))
    with w.parallel(tiles) as (tile,):
        w.store("order", groups.place(tile), tile)
    return GpuKernel(w.module())


def _steps_of(w: GpuWriter, counts: list[str], text: Value, head: Value, row: Value) -> Value:
    """Of all heads that share a tile."""
    first = w.add(w.mul(text, w.number("batch_step")), row)
    head_of_first = w.mul(head, w.number("shared"))

    def of_head(n: Value, carried: list[Value]) -> list[Value]:
        at = w.add(first, w.mul(w.add(head_of_first, n), w.number("head_step")))
        (steps,) = carried
        for name in counts:
            steps = w.add(steps, w.load(name, at))
        return [steps]

    zero = w.constant(0)
    return w.fold_all(zero, w.number("shared"), 1, "index", [zero], of_head)[0]


class _Groups:
    """Statements about the tiles of groups."""

    def __init__(self, w: GpuWriter, tiles: Value):
        self.w, self.tiles = w, tiles

    def over(self, group: Value, element: str, of: Callable[[Value], Value]) -> Value:
        """The sum of what `of` gives for the tiles of a group."""
        w, size = self.w, self.w.number("group")
        begin = w.mul(group, size)
        size = w.min(size, w.sub(self.tiles, begin))
        return w.reduce_lanes(WARP, size, "addi", element, lambda n: of(w.add(begin, n)))

    def all_steps(self) -> Value:
        """The steps of all tiles (index)."""
        w = self.w
        all = w.reduce_lanes(WARP, w.number("groups"), "addi", "i64", lambda n: w.load_bits("sums", n))
        return w.as_index(all, "i64")

    def is_long(self, tile: Value, all: Value) -> Value:
        """Whether a tile is very long (i1), given the steps of all."""
        w = self.w
        return w.compare("ugt", w.mul(w.load("steps", tile), w.number("long")), all)

    def place(self, tile: Value) -> Value:
        """How many tiles go before one (index)."""
        w = self.w
        all, own = self.all_steps(), w.load("steps", tile)
        group = w.div(tile, w.number("group"))
        is_long = self.is_long(tile, all)

        def goes_before(other: Value) -> Value:
            # Of equal ones those that are first go before it: they count as longer by one.
            steps = w.add(w.load("steps", other), w.counted(w.compare("ult", other, tile), "index"))
            alike = w.compare("eq", w.counted(self.is_long(other, all)), w.counted(is_long), "i32")
            return w.counted(w.both(alike, w.compare("ugt", steps, own)))

        # Of a very long one all tiles are looked at, of others those of the group.
        begin = w.mul(group, w.number("group"))
        size = w.min(w.number("group"), w.sub(self.tiles, begin))
        first, count = w.select(is_long, w.constant(0), begin), w.select(is_long, self.tiles, size)
        before = w.reduce_lanes(WARP, count, "addi", "i32", lambda n: goes_before(w.add(first, n)))

        # Before the others of a group come those of the groups before, and all that are very long.
        def long_later(n: Value) -> Value:
            later = w.compare("uge", n, group)
            return w.select(later, w.load_bits("longs", n), w.constant(0, "i32"), "i32")

        later = w.reduce_lanes(WARP, w.number("groups"), "addi", "i32", long_later)
        others = w.add(begin, w.as_index(later, "i32"))
        return w.add(w.as_index(before, "i32"), w.select(is_long, w.constant(0), others))
