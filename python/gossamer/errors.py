"""Every error and warning that Gossamer raises on purpose.

The text of an error says what was wrong, where, and what would be right.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path


class GossamerError(Exception):
    """Base of all errors that the project raises on purpose."""


class FormatError(GossamerError, ValueError):
    """A format that is malformed, or does not fit a tensor (its rank, or a block that does not divide).

    Attributes:
        column: For malformed text, the 1-based column where it went wrong; otherwise None.
    """

    def __init__(self, message: str, column: int | None = None):
        super().__init__(message)
        self.column = column


class TensorError(GossamerError, ValueError):
    """Index arrays, values, shapes, dtypes or devices of a sparse tensor that do not belong together."""


class AnnotationError(GossamerError, ValueError):
    """An annotation that names no argument or parameter."""


class TraceError(GossamerError, RuntimeError):
    """A function or module whose graph cannot be captured."""


class UnsupportedError(GossamerError, NotImplementedError):
    """Something that cannot be compiled, where falling back to PyTorch was not allowed."""


class CudaError(GossamerError, RuntimeError):
    """The NVIDIA driver: there is none, it does not take a kernel, or a launch failed; says which call, and why."""


class ProgramError(GossamerError, RuntimeError):
    """A tile program on the processor that cannot go on: a warpgroup waits for ever, or uses a ring as it must not be
    used; says which, and for what it waits."""


class CompileError(GossamerError, RuntimeError):
    """The compiler failed or crashed.

    Attributes:
        reproducer: File with the input of the failed compilation, or None if there is none.
    """

    def __init__(self, message: str, reproducer: Path | None = None):
        super().__init__(message)
        self.reproducer = reproducer


class CacheWarning(UserWarning):
    """The on-disk cache cannot be used; compilation goes on without it."""


class FallbackWarning(UserWarning):
    """An operation runs in PyTorch, on dense tensors, and not in a compiled sparse kernel."""


def suggest(name: str, candidates: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the candidate nearest to `name`, or "" if none is near."""
    nearest = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
