"""What explain and dump say."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import gossamer as gs
from frontend_cases import additive, allowed, masked_softmax, qkv, real, weight
from gossamer.conversion.kept import why_not_stored


def test_explain_tells_regions_inputs_and_costs():
    f = gs.sparse_jit(masked_softmax, mask=gs.CSR, backend="reference")
    args = (*qkv(), allowed(1, 1, 9, 11))
    first = gs.explain(f, *args)
    assert first.traced
    assert len(first.regions) == 1
    assert "softmax.int" in first.regions[0].operations
    (conversion,) = first.conversions
    assert conversion.name == "mask"
    assert "from a dense tensor" in conversion.what
    assert conversion.milliseconds > 0
    text = str(first)
    assert "1 region(s), traced and cut in" in text
    assert "mask: 1x1x9x11 bool, (i, j, k, l) -> " in text
    assert "% stored" in text
    second = gs.explain(f, *args[:3], gs.sparsify(args[3], gs.CSR))
    assert not second.traced
    assert second.conversions == ()
    assert "from an earlier call" in str(second)


def test_explain_says_which_format_was_converted():
    f = gs.sparse_jit(lambda w, x: w @ x, w=gs.CSR, backend="reference")
    report = gs.explain(f, gs.sparsify(weight(4, 3), gs.CSC), real(3, 2))
    assert "j : dense, i : compressed) to (i, j) -> (i : dense" in str(report)


def test_explain_says_which_conversions_are_operations_of_torch():
    f = gs.sparse_jit(lambda w, x: w @ x, w=gs.CSR, backend="reference")
    twice = gs.Format("(i, j) -> (i : compressed(nonunique), j : singleton(nonunique))")
    one = torch.tensor([0, 1], dtype=torch.int32)
    ends = torch.tensor([0, 2], dtype=torch.int32)
    t = gs.SparseTensor(gs.Pattern(twice, (4, 3), [ends, None], [one, one]), torch.randn(2))
    text = str(gs.explain(f, t, torch.randn(3, 2)))
    assert ", by PyTorch operations (the pattern may have entries twice, or out of order)" in text
    text = str(gs.explain(f, torch.zeros(0, 3), torch.randn(3, 2)))
    assert ("by PyTorch operations (it is empty)" in text) == torch.empty(0).is_cuda
    why = why_not_stored(torch.eye(4, 3, dtype=torch.complex128), gs.CSR)
    assert why == "a Tensor of torch.complex128 is no memory that kernels can move"
    assert "PyTorch operations" not in str(gs.explain(f, gs.sparsify(weight(4, 3), gs.CSC), real(3, 2)))
    assert "PyTorch operations" not in str(gs.explain(f, weight(4, 3), real(3, 2)))


def test_a_region_says_which_conversions_are_operations_of_torch():
    f = gs.sparse_jit(lambda w, x: w @ x)
    unordered = gs.Format("(i, j) -> (j : dense, i : compressed(nonordered))")
    positions, rows = torch.tensor([0, 2, 3], dtype=torch.int32), torch.tensor([2, 0, 1], dtype=torch.int32)
    t = gs.SparseTensor(gs.Pattern(unordered, (3, 2), [None, positions], [None, rows]), torch.randn(3))
    text = str(gs.explain(f, t, torch.randn(2, 4)))
    assert "once a pattern, by PyTorch operations: the pattern may have entries twice, or out of order" in text
    (region,) = gs.explain(f, gs.sparsify(t.to_dense(), gs.CSC), torch.randn(2, 4)).regions
    assert not any("PyTorch operations" in line for line in region.road)


def test_explain_tells_fallbacks():
    f = gs.sparse_jit(lambda w: torch.cumsum(w, 0), w=gs.CSR)
    with pytest.warns(gs.FallbackWarning):
        report = gs.explain(f, weight(4, 3))
    assert report.fallbacks == {"aten.cumsum.default": "there is no sparse form of it"}
    assert "in PyTorch on dense tensors:\n    aten.cumsum.default: there is no sparse form of it" in str(report)


def test_explain_takes_plain_functions_and_modules():
    t = gs.sparsify(weight(4, 3), gs.CSR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gs.FallbackWarning)
        assert "contract" in str(gs.explain(lambda x, w: x @ w, real(2, 4), t))
        assert "0 region(s)" in str(gs.explain(torch.nn.Linear(4, 3), torch.randn(2, 4)))


def test_dump_shows_the_stages():
    f = gs.sparse_jit(masked_softmax, mask=gs.CSR)
    args = (*qkv(), allowed(1, 1, 9, 11))
    imported = gs.dump(f, *args, stage="import")
    annotated = gs.dump(f, *args, stage="annotate")
    for text in (imported, annotated):
        assert "func.func @main" in text
        assert text.count("linalg.softmax") == 1
        assert text.count("cf.assert") == 0
    assert "sparse_tensor" not in imported
    assert "tensor<1x1x?x?xi1, #sparse> {gossamer.fill = false}" in annotated


def test_dump_works_on_meta_tensors():
    f = gs.sparse_jit(masked_softmax, mask=gs.BSR(64))
    args = [torch.empty(2, 4, 128, 64, device="meta")] * 3
    text = gs.dump(f, *args, torch.empty(128, 128, dtype=torch.bool, device="meta"))
    assert "d0 floordiv 64 : dense" in text
    assert "posWidth = 32" in text


def test_dump_numbers_several_regions():
    f = gs.sparse_jit(lambda x, w: torch.layer_norm(x @ w, (3,)) @ w.mT, w=gs.CSR)
    text = gs.dump(f, real(2, 4), weight(4, 3))
    assert "// region 0" in text
    assert "// region 1" in text


def test_dump_of_an_additive_mask_has_its_fill():
    f = gs.sparse_jit(lambda q, m: (q + m).softmax(-1), m=gs.CSR)
    assert "gossamer.fill = 0xFFF0000000000000 : f64" in gs.dump(f, real(4, 4), additive(allowed(4, 4)))


def test_dump_refuses():
    f = gs.sparse_jit(masked_softmax, mask=gs.CSR)
    with pytest.raises(gs.UnsupportedError, match="no stage 'anotate'; did you mean 'annotate'"):
        gs.dump(f, stage="anotate")
    f = gs.sparse_jit(lambda x, w: x @ w, w=gs.CSR)
    args = real(4, 4), real(4, 4)
    with pytest.raises(gs.UnsupportedError, match="the target is 'native'; one is 'sm_90a'"):
        gs.dump(f, *args, stage="ptx")
    with pytest.raises(gs.CompileError, match="unknown chip 'sm_12'"):
        gs.dump(f, *args, stage="ptx", target="sm_12")
    with pytest.raises(gs.CompileError, match="older than sm_80"):
        gs.dump(f, *args, stage="ptx", target="sm_75")


def test_explain_tells_hits_from_misses():
    args = (*qkv(), allowed(1, 1, 9, 11))
    first = gs.explain(gs.sparse_jit(masked_softmax, mask=gs.CSC), *args)
    again = gs.explain(gs.sparse_jit(masked_softmax, mask=gs.CSC), *args)
    assert first.regions[0].origin == "compiled"
    assert again.regions[0].origin == "memory"
    assert "cache miss" in str(first)
    assert "cache hit" in str(again)
    assert first.regions[0].road
    assert "mask: (i, j, k, l) -> (i : dense, j : dense, l : dense, k : compressed) is stored as" in str(first)


@pytest.mark.parametrize("stage", ["raise", "lower", "llvm", "asm"])
def test_dump_of_the_later_stages(stage):
    f = gs.sparse_jit(lambda a, x: torch.relu(a @ x), a=gs.CSR)
    text = gs.dump(f, weight(4, 3), real(3, 2), stage=stage)
    assert {"raise": "gossamer.matmul", "lower": "llvm.func", "llvm": "define", "asm": ".text"}[stage] in text


WARM = """
import sys, torch, gossamer as gs
f = gs.sparse_jit(lambda a, x: torch.relu(a @ x), a=gs.CSR)
f(torch.eye(4), torch.ones(4, 3))
print("torch_mlir" in sys.modules, gs.explain(f, torch.eye(4), torch.ones(4, 3)).regions[0].origin)
"""


def test_a_warm_process_never_loads_torch_mlir(tmp_path):
    environment = {**os.environ, "GOSSAMER_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(gs.__file__).parents[1])}
    said = [
        subprocess.run([sys.executable, "-c", WARM], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert said == ["True compiled\n", "False disk\n"]


def test_explain_puts_like_regions_together():
    f = gs.sparse_jit(lambda x, w: torch.tanh(torch.softmax(x @ w, 0) @ w), w=gs.CSR, backend="reference")
    report = gs.explain(f, real(2, 4), weight(4, 4))
    assert len(report.regions) == 2
    assert "region 0: contract\n" in str(report)
    same = gs.sparse_jit(lambda x, w: torch.softmax(x @ w, 0) @ w, w=gs.CSR, backend="reference")
    assert "regions 0, 1: contract\n" in str(gs.explain(same, real(2, 4), weight(4, 4)))


def test_the_backward_is_explained_once_it_has_run():
    w = gs.sparsify(torch.eye(8), gs.CSR)
    x = torch.randn(8, 3, requires_grad=True)
    f = gs.sparse_jit(lambda w, x: w @ x)
    assert gs.explain(f, w, x).backward == ()
    f(w, x).sum().backward()
    explanation = gs.explain(f, w, x)
    (region,) = explanation.backward
    assert region.operations == ("contract",)
    assert "backward region 0: contract" in str(explanation)
    assert any("gossamer.gather" in road for road in region.road)
