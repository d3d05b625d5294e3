"""The example of a pattern of one's own runs, and what it computes is right."""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_pattern.py"


@pytest.mark.parametrize("length", ["3", "257"])
def test_the_example_runs(length, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--length", length])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.count("full blocks") == 4
    assert "sparse pays below" in printed
    differences = re.findall(r"difference ([0-9.e+-]+)", printed)
    assert len(differences) == 4
    assert all(float(difference) < 1e-5 for difference in differences)


def test_a_length_without_room_for_two_conversations(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--length", "2"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "3 at least" in capsys.readouterr().err
