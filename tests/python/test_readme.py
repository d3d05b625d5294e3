"""The examples of the front page run as they stand, and are compiled."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.filterwarnings("error::gossamer.FallbackWarning")
def test_examples(capsys):
    torch.manual_seed(0)
    scope = {}
    for block in re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S):
        exec(compile(block, str(README), "exec"), scope)
    assert "gossamer.attention" in capsys.readouterr().out
    dense = torch.nn.functional.scaled_dot_product_attention
    q, k, v, window = (scope[name] for name in ("q", "k", "v", "window"))
    torch.testing.assert_close(scope["attention"](q, k, v, window), dense(q, k, v, attn_mask=window.to_dense()))
    with torch.no_grad():
        for layer in (scope["mlp"][0], scope["mlp"][2]):
            assert round(layer.weight.density, 2) == 0.2
