"""The example of custom sparsifiers trains, and computes what PyTorch does."""

import re
import runpy
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_sparsifier.py"


def test_the_example_trains(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--length", "16", "--steps", "12"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"loss (\d\.\d+)", printed)]
    assert losses[-1] < losses[0] - 0.1
    assert "differ from PyTorch's by" in printed
