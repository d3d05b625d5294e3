"""Tile programs on the processor: what runs on a GPU, run without one, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gossamer.errors import ProgramError

if TYPE_CHECKING:
    from gossamer.compiler.library import Kernel, Library


class HostPrograms:
    """A compiled region that launches tile programs.

    Args:
        library: The compiler's.
        entry: Takes packed words and launches.
    """

    def __init__(self, library: Library, entry: Kernel):
        self._library = library
        self._entry = entry

    def call(self, words: Any) -> None:
        """Runs the region on packed words (their address, or bytes), and waits for it.

        Raises:
            ProgramError: A program cannot go on.
        """
        message = self._library.run_programs(self._entry.address, words)
        if message:
            raise ProgramError(message)
