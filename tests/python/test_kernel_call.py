"""Calling a kernel: what is packed, what is checked, what is converted."""

import threading

import pytest
import torch

import gossamer as gs
from gossamer.compiler.compile import compile_region, forget_regions
from gossamer.errors import TensorError
from gossamer.runtime.kernel import CompiledRegion
from handwritten import copy_values, dense_values, echo, elementwise


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GOSSAMER_CACHE_DIR", str(tmp_path))
    forget_regions()


def region(text: str) -> CompiledRegion:
    return compile_region(text, lambda: text)


def dense(rank: int, dtype: str = "f32") -> dict:
    return {"kind": "dense", "rank": rank, "dtype": dtype}


def sparse(t: gs.SparseTensor, format: gs.Format | None = None, dtype: str = "f32") -> dict:
    """The signature's entry for an argument like `t`, or like it in another format."""
    pattern = t.pattern if format is None else t.pattern.converted(format)[0]
    levels = [{"positions": p is not None, "coordinates": c is not None} for p, c in pattern.storage()]
    encoding = pattern.kernel_format.encoding(pattern.pos_width, pattern.crd_width)
    return {"kind": "sparse", "encoding": encoding, "dtype": dtype, "levels": levels}


def words_of(t: gs.SparseTensor) -> list[int]:
    """What the contract says that a sparse argument is packed into."""
    words = []
    for arrays in t.pattern.storage():
        for indices in arrays:
            if indices is not None:
                words += [indices.data_ptr(), indices.numel()]
    return [*words, t.values.data_ptr(), t.values.numel(), *t.pattern.level_sizes]


def example(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.where(torch.rand(shape, generator=generator) < 0.3, torch.rand(shape, generator=generator), 0.0)


def test_dense_results_are_torchs():
    x = torch.linspace(-2, 2, 100)
    [y] = region(elementwise())([x], [(100,)])
    torch.testing.assert_close(y, torch.erf(x))
    assert not y.requires_grad


def test_any_strides_are_taken():
    x = torch.linspace(-2, 2, 200)[::2]
    kernel = region(elementwise())
    torch.testing.assert_close(kernel([x], [(100,)])[0], torch.erf(x))
    assert kernel.costs.copies == 1
    negated = torch.complex(x, x).conj().imag  # a view that negates when it is read
    torch.testing.assert_close(kernel([negated], [(100,)])[0], torch.erf(-x))


def test_empty_tensors():
    assert region(elementwise())([torch.empty(0)], [(0,)])[0].shape == (0,)


def test_dense_words():
    a, b = torch.rand(2, 3, 4), torch.tensor(1.0)
    [words] = region(echo([dense(3), dense(0)], 5))([a, b], [(5,)])
    assert words.tolist() == [a.data_ptr(), 2, 3, 4, b.data_ptr()]


@pytest.mark.parametrize(
    ("format", "shape"),
    [
        (gs.CSR, (5, 7)),
        (gs.CSR, (2, 3, 5, 7)),
        (gs.CSC, (5, 7)),
        (gs.COO, (5, 7)),
        (gs.DCSR, (5, 7)),
        (gs.BSR(2), (4, 6)),
        (gs.BSR((2, 3)), (3, 4, 6)),
        (gs.CSR, (0, 7)),
    ],
    ids=str,
)
def test_sparse_words(format, shape):
    t = gs.sparsify(example(*shape), format)
    expected = words_of(t)
    [words] = region(echo([sparse(t)], len(expected)))([t], [(len(expected),)])
    assert words.tolist() == expected


def test_batched_torch_tensors_are_passed_as_they_are():
    full = torch.zeros(3, 4, 4)
    full[:, torch.arange(4), torch.arange(4)] = 2.0
    t = gs.from_torch(full.to_sparse_csr())
    expected = words_of(t)
    kernel = region(echo([sparse(t)], len(expected)))
    assert kernel([t], [(len(expected),)])[0].tolist() == expected
    assert not kernel.costs.conversions


def test_another_format_is_converted_once():
    t = gs.sparsify(example(6, 8), gs.CSC)
    expected = t.to(gs.CSR)
    kernel = region(dense_values(sparse(t, gs.CSR), slot=4, result_slot=8))
    for _ in range(2):
        [values] = kernel([t], [expected.values.shape])
        assert torch.equal(values, expected.values)
    assert kernel.costs.conversions == [(0, t.format, gs.CSR, None)]
    assert kernel.costs.gathers == 2


def test_an_input_can_be_wanted_in_two_formats_or_not_at_all():
    t, unused = gs.sparsify(example(6, 8), gs.CSC), torch.zeros(3)
    arguments = [{**sparse(t), "input": 1}, {**sparse(t, gs.CSR), "input": 1}, {**dense(1), "input": 2}]
    words = [*words_of(t), *words_of(t.to(gs.CSR)), 0, 3]
    x = torch.zeros(3)
    [given] = region(echo(arguments, len(words)))([unused, t, x], [(len(words),)])
    converted, _ = t.pattern.converted(gs.CSR)
    [(_, _), (positions, coordinates)] = converted.storage()
    assert given.tolist()[:8] == words_of(t)
    assert given[[8, 10]].tolist() == [positions.data_ptr(), coordinates.data_ptr()]
    assert given.tolist()[-4:] == [6, 8, x.data_ptr(), 3]


def test_the_fill_goes_where_the_kernels_format_pads():
    t = gs.sparsify(example(6, 8), gs.CSR)
    t = gs.SparseTensor(t.pattern, t.values, fill=-5.0)
    expected = t.to(gs.BSR(2))
    assert (expected.values == -5.0).any()
    [values] = region(dense_values(sparse(t, gs.BSR(2)), slot=4, result_slot=10))([t], [(expected.values.numel(),)])
    assert torch.equal(values, expected.values.reshape(-1))


@pytest.mark.parametrize("format", [gs.CSR, gs.BSR(2)], ids=str)
def test_a_sparse_result_is_on_the_pattern_of_its_input(format):
    t = gs.sparsify(example(6, 8), format)
    kernel = region(copy_values(sparse(t), slot=4, result_slot=6 + t.format.lvl_rank, fill=-1.0))
    [result] = kernel([t], [None])
    assert isinstance(result, gs.SparseTensor)
    assert result.pattern is t.pattern
    assert result.fill == -1.0
    assert torch.equal(result.values, t.values)


def test_a_pattern_without_entries_is_converted():
    t = gs.sparsify(torch.zeros(4, 4), gs.CSC)
    [values] = region(dense_values(sparse(t, gs.CSR), slot=4, result_slot=8))([t], [(0,)])
    assert values.numel() == 0


def test_threads_call_at_once():
    kernel = region(elementwise())
    wrong = []

    def work(seed: int):
        x = torch.full((1000,), seed / 10)
        wrong.extend(seed for _ in range(50) if not torch.allclose(kernel([x], [(1000,)])[0], torch.erf(x)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


CSR_EXAMPLE = gs.sparsify(example(5, 7), gs.CSR)


@pytest.mark.parametrize(
    ("spec", "arg", "message"),
    [
        (
            dense(1),
            torch.zeros(3, dtype=torch.float64),
            "must be a dense float32 tensor of rank 1 .* not a torch.float64",
        ),
        (dense(1), torch.zeros(3, 3), "rank 1 on the CPU, not a torch.float32 tensor of rank 2"),
        (dense(1), torch.zeros(3, device="meta"), "on meta"),
        (dense(2), torch.eye(3).to_sparse_csr(), "sparse_csr"),
        (dense(2), CSR_EXAMPLE, "not a torch.float32 SparseTensor"),
        (dense(2), [1.0], "not a list"),
        (sparse(CSR_EXAMPLE), torch.zeros(5, 7), "must be a float32 SparseTensor that can be stored as"),
        (sparse(CSR_EXAMPLE), CSR_EXAMPLE.to(torch.float64), "torch.float64"),
        (sparse(CSR_EXAMPLE), gs.sparsify(example(2, 5, 7), gs.CSR), "stored as"),
    ],
)
def test_wrong_arguments(spec, arg, message):
    with pytest.raises(TensorError, match=f"(?s)input 0.*{message}"):
        region(echo([spec], 1))([arg], [(1,)])


def test_indices_of_another_width():
    narrow, wide = (
        gs.from_torch(
            torch.sparse_csr_tensor(
                torch.tensor([0, 1], dtype=width),
                torch.tensor([0], dtype=width),
                torch.ones(1),
                (1, 1),
                check_invariants=True,
            )
        )
        for width in (torch.int32, torch.int64)
    )
    with pytest.raises(TensorError, match=r"level 1: .* int64 positions, the pattern has torch\.int32"):
        region(echo([sparse(wide)], 1))([narrow], [(1,)])


def test_another_number_of_inputs():
    with pytest.raises(TensorError, match="takes 1 inputs and gives 1 results, not 0 and 1"):
        region(elementwise())([], [(1,)])
