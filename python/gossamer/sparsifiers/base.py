"""The two kinds of sparsifiers: those that say of every entry whether it is kept, and those that rank nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from gossamer.errors import FormatError
from gossamer.formats import Format


class Sparsifier:
    """What `gs.sparsify` keeps of a tensor."""

    def check(self, format: Format, shape: Sequence[int]) -> None:
        """Raises FormatError if a format cannot keep what this chooses of a tensor of a shape."""


class Choosing(Sparsifier, ABC):
    """Says of every entry whether it is kept; of a block format, a block is kept if any of its entries is."""

    @abstractmethod
    def mask(self, dense: Tensor) -> Tensor:
        """Returns what is kept of a tensor, which needs no gradient: bool of its shape."""

    def count(self, shape: Sequence[int]) -> int | None:
        """Returns how many entries are kept of a tensor of a shape; None where that depends on values."""
        return None


class Ranking(Sparsifier, ABC):
    """Ranks the nodes of a format: entries, or blocks."""

    @abstractmethod
    def keep(self, levels: Tensor, format: Format) -> Tensor:
        """Returns which nodes to keep: bool, of the sizes of the outer levels.

        Args:
            levels: The tensor, as `level_view` shows it.
            format: The format, of the rank of the tensor.
        """

    @abstractmethod
    def count(self, format: Format, sizes: Sequence[int]) -> int:
        """Returns how many nodes of these level sizes are kept, with those that a structured level stores besides."""


def fraction(density: float, who: str) -> float:
    """Returns a density.

    Raises:
        FormatError: It is none.
    """
    if isinstance(density, bool) or not isinstance(density, int | float) or not 0 <= density <= 1:
        raise FormatError(f"{who}({density!r}): the density is the fraction that is kept, between 0 and 1")
    return float(density)
