"""The example of static patterns runs, and finds what it computes right."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "static_pattern.py"


def test_the_example_runs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--length", "192"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.count("BlockClasses(192 x 192") == printed.count("difference") == 9
    assert "BigBird: block_window(64, 1, 1)" in printed


def test_a_length_that_the_pictures_do_not_fit(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--length", "100"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "a multiple of 64" in capsys.readouterr().err
