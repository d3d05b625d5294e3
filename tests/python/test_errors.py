"""Errors and warnings are one family, and carry what a caller needs."""

from pathlib import Path

import pytest

import gossamer as gs
from gossamer.errors import suggest


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (gs.FormatError, ValueError),
        (gs.TensorError, ValueError),
        (gs.AnnotationError, ValueError),
        (gs.TraceError, RuntimeError),
        (gs.UnsupportedError, NotImplementedError),
        (gs.CompileError, RuntimeError),
    ],
)
def test_every_error_is_a_gossamer_error_and_a_builtin_one(error, builtin):
    assert issubclass(error, gs.GossamerError)
    assert issubclass(error, builtin)


def test_warnings_can_be_filtered_by_class():
    assert issubclass(gs.FallbackWarning, UserWarning)
    assert issubclass(gs.CacheWarning, UserWarning)


def test_compile_error_names_its_reproducer():
    assert gs.CompileError("no").reproducer is None
    assert gs.CompileError("no", Path("a.mlir")).reproducer == Path("a.mlir")


def test_format_error_has_a_column_only_for_malformed_text():
    assert gs.FormatError("no").column is None
    with pytest.raises(gs.FormatError) as error:
        gs.Format("(i) -> (j : dense)")
    assert error.value.column == 9


def test_suggest_names_the_nearest_or_nothing():
    assert suggest("weigth", ["bias", "weight"]) == "; did you mean 'weight'?"
    assert suggest("x", ["bias", "weight"]) == ""
