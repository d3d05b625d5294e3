"""Tables that patterns look into: immutable, compared by content, with the bounds of any run of entries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.patterns.interval import Interval, as_tensor

_T = TypeVar("_T")


class Table:
    """Integers, [entries] or [rows, entries], that are copied when it is made; equal if the contents are.

    The contents are read on the host: making one of a tensor on a GPU waits for it.
    """

    def __init__(self, values: Tensor):
        kept = values.detach().to("cpu", torch.int64, copy=True).contiguous()
        self.shape = tuple(kept.shape)
        self._digest = hashlib.sha256(kept.numpy().tobytes()).digest()
        self._rises = bool((kept[..., 1:] >= kept[..., :-1]).all())
        self._host = kept
        self._derived: dict[Any, Any] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and (self.shape, self._digest) == (other.shape, other._digest)

    def __hash__(self) -> int:
        return hash((self.shape, self._digest))

    def __repr__(self) -> str:
        return f"<{' x '.join(map(str, self.shape))} integers, {self._digest.hex()[:8]}>"

    def derived(self, key: Any, compute: Callable[[], _T]) -> _T:
        """Returns what `compute` returned when it was first asked for `key`; the table keeps it."""
        if key not in self._derived:
            self._derived[key] = compute()
        return self._derived[key]

    def on(self, device: torch.device) -> Tensor:
        """Returns the entries on a device; the copy is kept."""
        return self.derived(("on", device), lambda: self._host.to(device))

    def by_rows(self) -> Table:
        """Returns the table of [rows, entries] with all leading dimensions as one; itself, if it has no more."""
        if len(self.shape) <= 2:
            return self
        return self.derived("by rows", lambda: Table(self._host.reshape(-1, self.shape[-1])))

    def at(self, index: Any, row: Any = 0) -> Any:
        """Returns the entries at an index of tensors, or bounds of those in an interval; ends stand for what is beyond.

        Args:
            index: Within a row: a tensor or an interval.
            row: Tensor or interval; each interval is one row.
        """
        last = self.shape[-1] - 1
        rows = len(self.shape) > 1
        if not isinstance(index, Interval):
            flat = index.clamp(0, last) + (row * self.shape[-1] if rows else 0)
            return self.on(index.device).reshape(-1)[flat]
        base = Interval.of(row).lo * self.shape[-1] if rows else 0
        lo, hi = as_tensor(index.lo).clamp(0, last) + base, as_tensor(index.hi).clamp(0, last) + base
        if self._rises:
            flat = self.on(lo.device).reshape(-1)
            return Interval(flat[lo], flat[hi])
        return self._of_runs(lo, hi)

    def _of_runs(self, lo: Tensor, hi: Tensor) -> Interval:
        """Least and greatest entries of runs, each of which two runs of a power of two cover."""
        least, greatest = self._powers(lo.device)
        level = _log2(hi - lo + 1)
        second = hi + 1 - (torch.ones_like(level) << level)
        return Interval(
            torch.minimum(least[level, lo], least[level, second]),
            torch.maximum(greatest[level, lo], greatest[level, second]),
        )

    def _powers(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Least and greatest of the 2^n entries from each on, for every n that a row has room for."""

        def compute() -> tuple[Tensor, Tensor]:
            flat = self.on(device).reshape(-1)
            least, greatest = [flat], [flat]
            step = 1
            while 2 * step <= self.shape[-1]:
                least.append(_joined(torch.minimum, least[-1], step))
                greatest.append(_joined(torch.maximum, greatest[-1], step))
                step *= 2
            return torch.stack(least), torch.stack(greatest)

        return self.derived(("powers", device), compute)


def _joined(f: Callable[[Tensor, Tensor], Tensor], runs: Tensor, step: int) -> Tensor:
    """Of runs of `step` entries those of twice as many; runs that reach beyond the end are never asked for."""
    rest = runs.numel() - step
    return torch.cat([f(runs[:rest], runs[step:]), runs[rest:]])


def _log2(x: Tensor) -> Tensor:
    """floor(log2(x)) of integers of 1 to 2^52, which a float64 holds exactly."""
    return torch.frexp(x.double()).exponent.long() - 1


def integers(values: Any, who: str, what: str, rank: int | tuple[int, ...] = 1, least: int | None = None) -> Tensor:
    """Returns integers that a user gave, as int64.

    Args:
        values: A tensor or nested sequences.
        who, what: The function and the argument, for the error.
        rank: The number of dimensions, or those that are allowed.
        least: The least that is allowed.

    Raises:
        TensorError: They are something else.
    """
    ranks = (rank,) if isinstance(rank, int) else rank
    try:
        tensor = values if isinstance(values, Tensor) else torch.tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise TensorError(f"{who}: {what} are integers in a tensor or a list, not {_shown(values)}") from None
    if tensor.numel() == 0:
        tensor = tensor.to(torch.int64)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool or tensor.dim() not in ranks:
        dims = " or ".join(map(str, ranks))
        raise TensorError(
            f"{who}: {what} are integers of {dims} dimension{'s' if ranks != (1,) else ''}, not {tensor.dtype} of "
            f"shape {list(tensor.shape)}"
        )
    if least is not None and tensor.numel() and int(tensor.min()) < least:
        at = (tensor < least).nonzero()[0].tolist()
        raise TensorError(f"{who}: {what} are {least} or more, and the one at {at} is {int(tensor[tuple(at)])}")
    return tensor.to(torch.int64)


def _shown(values: Any) -> str:
    return f"{str(values)[:60]}" if isinstance(values, Sequence) else f"a {type(values).__name__}"
