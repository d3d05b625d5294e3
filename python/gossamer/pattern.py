"""Patterns: which entries of a tensor are stored, without their values."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from gossamer.formats import Format

Arrays = tuple[Tensor | None, ...]
Storage = tuple[tuple[Tensor | None, Tensor | None], ...]
_T = TypeVar("_T")
# A pattern, where each run of its values comes from, and the length of a run.
Converted = tuple["Pattern", Tensor | None, int]


class Pattern:
    """An immutable sparsity pattern: a format, a shape and index arrays, and what was derived from them.

    Args:
        format: How the entries are stored; leading dimensions of the shape are added to it as dense levels.
        shape: Shape of the tensor.
        positions: For each level its positions, int32 or int64, or None where the level has none. A compressed level
            with N parents has N + 1, a loose_compressed one 2 N (begin and end of each parent). Under `batch` levels
            of sizes B... the shape is [B..., N + 1].
        coordinates: For each level its coordinates, int32 or int64, one for each stored node (under `batch` levels
            [B..., nodes]), or None where the level is dense or batch.
        device: Where the tensor is, if its format has no index arrays; otherwise it is where they are.
        check: Whether to check that the arrays are consistent; False only for arrays that are known to be.

    Raises:
        FormatError: The format does not fit the shape.
        TensorError: The arrays do not make a tensor of this format and shape.
    """

    format: Format
    shape: torch.Size
    level_sizes: tuple[int, ...]
    device: torch.device
    _positions: Arrays
    _coordinates: Arrays
    _derived: dict[Any, Any]

    def __init__(
        self,
        format: Format,
        shape: Sequence[int],
        positions: Sequence[Tensor | None],
        coordinates: Sequence[Tensor | None],
        *,
        device: torch.device | str | None = None,
        check: bool = True,
    ):
        fitted = format.for_rank(len(shape))
        extra = (None,) * (fitted.lvl_rank - format.lvl_rank)
        fields: dict[str, Any] = {
            "format": fitted,
            "shape": torch.Size(shape),
            "level_sizes": fitted.level_sizes(shape),
            "_positions": extra + tuple(positions),
            "_coordinates": extra + tuple(coordinates),
            "_derived": {},
        }
        arrays = (array for array in fields["_positions"] + fields["_coordinates"] if isinstance(array, Tensor))
        fields["device"] = next((array.device for array in arrays), None) or torch.empty(0, device=device).device
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if check:
            self.validate()

    @classmethod
    def trusted(
        cls,
        format: Format,
        shape: torch.Size,
        level_sizes: tuple[int, ...],
        positions: Sequence[Tensor | None],
        coordinates: Sequence[Tensor | None],
        device: torch.device,
        values_shape: torch.Size,
    ) -> "Pattern":
        """Returns the pattern of arrays that were made for it a moment ago: nothing is checked or worked out."""
        self = object.__new__(cls)
        self.__dict__.update(
            format=format, shape=shape, level_sizes=level_sizes, device=device, values_shape=values_shape,
            _positions=tuple(positions), _coordinates=tuple(coordinates), _derived={},
        )  # fmt: skip
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Pattern is immutable: cannot set {name!r}")

    def __repr__(self) -> str:
        device = f", device={str(self.device)!r}" if self.device.type != "cpu" else ""
        return f'Pattern("{self.format}", shape={tuple(self.shape)}, nnz={self.nnz}{device})'

    def __eq__(self, other: object) -> bool:
        """Whether both store the same entries in the same way, with indices of the same width on the same device."""
        if self is other:
            return True
        if not isinstance(other, Pattern):
            return False
        if (self.format, self.shape, self.device) != (other.format, other.shape, other.device):
            return False
        return all(_same(mine, theirs) for mine, theirs in zip(self._arrays, other._arrays, strict=True))

    def __hash__(self) -> int:
        return hash((self.format, self.shape))

    def __reduce__(self) -> tuple:
        return _unpickle, (self.format, tuple(self.shape), self._positions, self._coordinates, self.device)

    @property
    def _arrays(self) -> Arrays:
        return self._positions + self._coordinates

    def positions(self, level: int) -> Tensor | None:
        """Returns the positions of a level, or None where it has none."""
        return self._positions[level]

    def coordinates(self, level: int) -> Tensor | None:
        """Returns the coordinates of a level, or None where it has none."""
        return self._coordinates[level]

    @property
    def pos_width(self) -> int:
        """Bits of a position: 32 or 64; 0 if the format has no positions."""
        return _width(self._positions)

    @property
    def crd_width(self) -> int:
        """Bits of a coordinate: 32 or 64; 0 if the format has no coordinates."""
        return _width(self._coordinates)

    @property
    def encoding(self) -> str:
        """The format with the widths of the index arrays, as MLIR's attribute."""
        return self.format.encoding(self.pos_width, self.crd_width)

    @property
    def kernel_format(self) -> Format:
        """The format in force in `storage()`."""
        return self.format.kernel_format

    @cached_property
    def kind(self) -> object:
        """What code may depend on, but for the shape: one object for all patterns of this format and these widths."""
        key = self.format, self.pos_width, self.crd_width
        return _KINDS.setdefault(key, key)

    @cached_property
    def values_shape(self) -> torch.Size:
        """Shape of the values: [batch..., nodes of the last sparse level, sizes of the dense levels after it...]."""
        outer, batch = self.format.outer, self.format.batch_rank
        if not outer:
            return torch.Size(self.level_sizes)
        last = self._coordinates[outer - 1]
        assert last is not None
        nodes = last.shape[-1]
        return torch.Size((*self.level_sizes[:batch], nodes, *self.level_sizes[outer:]))

    @cached_property
    def storage_size(self) -> int:
        """Number of values that are stored, with the unused slots of a loose_compressed level."""
        return math.prod(self.values_shape)

    @property
    def inner_size(self) -> int:
        """Number of values for each node of the last sparse level: the entries of a block."""
        return math.prod(self.level_sizes[self.format.outer :])

    @cached_property
    def nnz(self) -> int:
        """Number of stored entries of the tensor, those of blocks included."""
        from gossamer.coordinates import used_nodes

        return used_nodes(self) * self.inner_size

    @property
    def density(self) -> float:
        """Stored entries over all entries; 0 for an empty tensor."""
        return self.nnz / max(1, math.prod(self.shape))

    def derived(self, key: Any, compute: Callable[[], _T]) -> _T:
        """Returns what `compute` returned when it was first asked for `key`; the pattern keeps it."""
        if key not in self._derived:
            self._derived[key] = compute()
        return self._derived[key]

    def derived_of_values(self, values: Tensor, key: Any, compute: Callable[[], _T]) -> _T:
        """Likewise for values on the pattern, until they change; the last ones that were asked for are kept."""
        kept = self.derived("of values", dict)
        place = key, values.data_ptr(), values._version
        if place not in kept:
            if len(kept) == _KEPT_VALUES:
                kept.pop(next(iter(kept)))
            # With the values, so that no others come to lie where they are.
            kept[place] = compute(), values
        return kept[place][0]

    def kept_of_values(self, values: Tensor, key: Any) -> Any:
        """What `derived_of_values` has kept; None if it has not."""
        found = self.derived("of values", dict).get((key, values.data_ptr(), values._version))
        return None if found is None else found[0]

    def validate(self) -> None:
        """Checks the index arrays against the format and the shape.

        Raises:
            TensorError: Names the level, the place and the value that is wrong.
        """
        from gossamer.validate import validate

        validate(self)

    def storage(self) -> Storage:
        """Returns (positions, coordinates) of every level as kernels take them, in `kernel_format`.

        All arrays are one-dimensional and contiguous. `batch` levels have become dense ones.

        Raises:
            TensorError: The joined positions of all batches do not fit their dtype.
        """
        from gossamer.batches import kernel_storage

        return self.derived("storage", lambda: kernel_storage(self))

    def coo(self) -> Tensor:
        """Returns the coordinates of every stored value, in storage order: int64 [dim_rank, storage_size].

        The column of a slot that a loose_compressed level does not use is -1.
        """
        from gossamer.coordinates import coordinates_of

        return coordinates_of(self)

    def converted(self, format: Format) -> tuple["Pattern", Tensor | None]:
        """Returns the same entries stored in another format, and where each of its values comes from.

        Returns:
            The pattern, and int64 [storage_size]: for each value of the new storage its index in the flat old values,
            or -1 where the new format stores an entry that was not stored before (it then holds the fill). None means
            that the values are the same, in the same order. Kept: a second call costs nothing.

        Raises:
            FormatError: The format does not fit the shape.
            TensorError: The format cannot hold these entries.
        """
        fitted = format.for_rank(len(self.shape))
        return self.derived(("converted", fitted), lambda: _one_by_one(*self.converted_runs(fitted)))

    def converted_runs(self, format: Format) -> Converted:
        """Returns what `converted` does, for runs of values that stay together, such as blocks.

        Returns:
            The pattern; int64 [storage_size / size]: for each run of the new values the number of the old run that it
            is, or -1, or None; and the number of values in a run.

        Raises:
            FormatError, TensorError: As `converted`.
        """
        from gossamer.convert import convert

        fitted = format.for_rank(len(self.shape))
        if fitted == self.format:
            return self, None, 1
        return self.derived(("converted runs", fitted), lambda: convert(self, fitted))

    def why_sorted(self, format: Format) -> str | None:
        """Returns why operations of torch have converted this to a format; None if kernels have, or nothing yet."""
        return self._derived.get(("sorted", format.for_rank(len(self.shape))))

    def to(self, device: torch.device | str | int) -> "Pattern":
        """Returns the pattern on a device (itself, if it is there); the copy is kept while this pattern lives."""
        if device == self.device:
            return self
        device = torch.empty(0, device=device).device  # "cuda" is "cuda:0"
        if device == self.device:
            return self
        return self.derived(("to", device), lambda: self._moved(device))

    def _moved(self, device: torch.device) -> "Pattern":
        positions, coordinates = (
            [None if array is None else array.to(device) for array in arrays]
            for arrays in (self._positions, self._coordinates)
        )
        return Pattern(self.format, self.shape, positions, coordinates, device=device, check=False)

    def view(self, shape: Sequence[int]) -> "Pattern":
        """Returns the same storage under a shape whose leading dimensions are split, merged, added or removed.

        Only leading dimensions that are dense or batch levels of their own can change. The pattern keeps the view:
        views of the same shape are one pattern.

        Raises:
            TensorError: The shape has another number of entries, or changes a dimension that is stored sparsely.
        """
        from gossamer.views import view

        shape = tuple(shape)
        return self if shape == tuple(self.shape) else self.derived(("view", shape), lambda: view(self, shape))

    def view_leading(self, leading: Sequence[int]) -> "Pattern":
        """Returns the same storage with the dimensions before the last two reshaped to `leading`."""
        return self.view((*leading, *self.shape[-2:]))

    def unsqueeze(self, dim: int = 0) -> "Pattern":
        """Returns the same storage with a dimension of size 1 inserted among the leading ones."""
        dim = dim + len(self.shape) + 1 if dim < 0 else dim
        return self.view((*self.shape[:dim], 1, *self.shape[dim:]))

    def permute(self, dims: Sequence[int]) -> "Pattern":
        """Returns the same storage as the pattern of the permuted tensor (a CSR pattern transposed is a CSC one).

        The pattern keeps it: asking again gives the same one.
        """
        from gossamer.views import permute

        dims = tuple(dims)
        return self.derived(("permute", dims), lambda: permute(self, dims))


def _one_by_one(pattern: Pattern, gather: Tensor | None, size: int) -> tuple[Pattern, Tensor | None]:
    """Where each value comes from, not each run."""
    if gather is None or size == 1:
        return pattern, gather
    values = gather[:, None] * size + torch.arange(size, device=gather.device)
    return pattern, torch.where(gather[:, None] < 0, -1, values).reshape(-1)


_KINDS: dict[Any, Any] = {}
# How much of what depends on values a pattern keeps.
_KEPT_VALUES = 8


def _unpickle(
    format: Format, shape: tuple[int, ...], positions: Arrays, coordinates: Arrays, device: torch.device
) -> Pattern:
    return Pattern(format, shape, positions, coordinates, device=device, check=False)


def _width(arrays: Arrays) -> int:
    return next((array.element_size() * 8 for array in arrays if array is not None), 0)


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or ((a.dtype, a.device, a.shape) == (b.dtype, b.device, b.shape) and torch.equal(a, b))
