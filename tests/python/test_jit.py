"""sparse_jit on functions: numbers, regions, what is compiled once, what is refused."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_leaves

import gossamer as gs
from frontend_cases import CASES, B, Case, D, H, S, T, additive, allowed, masked_softmax, qkv, real, weight
from gossamer.jit import engine_of


def reference(function, **options):
    return gs.sparse_jit(function, backend="reference", **options)


def programs(f):
    return [program for fitting in engine_of(f).programs.values() for program in fitting]


def regions(f):
    (program,) = programs(f)
    return [" ".join(name.removeprefix("aten.") for name in k.region.operations()) for k in program.kernels]


def dense_leaves(result):
    leaves = tree_leaves(result, is_leaf=lambda x: isinstance(x, gs.SparseTensor))
    return [leaf.to_dense() if isinstance(leaf, gs.SparseTensor) else leaf for leaf in leaves]


def assert_close(actual, expected):
    actual, expected = dense_leaves(actual), dense_leaves(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("backend", ["reference", "compiled"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_numbers_and_regions(case: Case, backend: str):
    args = case.args()
    f = gs.sparse_jit(case.function, backend=backend, **case.formats)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if not case.fallbacks else "ignore")
        actual = f(*args)
    assert_close(actual, case.function(*args))
    assert set(programs(f)[0].fallbacks) == case.fallbacks
    if case.operations is not None:
        assert regions(f) == case.operations


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_region_can_be_imported(case: Case):
    f = reference(case.function, **case.formats)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gs.FallbackWarning)
        f(*case.args())
    for kernel in programs(f)[0].kernels:
        text = kernel.region.text()
        assert "cf.assert" not in text
        assert text.count('"gossamer.convert"') == sum(i.stored is not None for i in kernel.region.inputs)


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_one_program_for_all_sizes(backend):
    f = gs.sparse_jit(masked_softmax, mask=gs.CSR, backend=backend)
    for b, h, s, t in [(2, 4, 9, 11), (3, 2, 5, 5), (7, 3, 2, 30), (2, 2, 64, 3)]:
        args = real(b, h, s, D), real(b, h, t, D), real(b, h, t, D), allowed(1, 1, s, t)
        torch.testing.assert_close(f(*args), masked_softmax(*args))
    assert len(programs(f)) == 1
    one = real(1, 1, 5, D), real(1, 1, 6, D), real(1, 1, 6, D), allowed(1, 1, 5, 6)
    torch.testing.assert_close(f(*one), masked_softmax(*one))
    assert len(programs(f)) == 2  # a size of 1 broadcasts, and is code of its own


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_numbers_made_of_sizes_are_part_of_the_region(backend):
    def scaled(q, k, v, mask):
        scores = q @ k.mT / q.shape[-1] ** 0.5 + k.shape[-2]
        return torch.softmax(scores.masked_fill(~mask, -math.inf), -1) @ v

    f = gs.sparse_jit(scaled, mask=gs.CSR, backend=backend)
    for d in (4, 9):
        args = real(2, 3, 8, d), real(2, 3, 5, d), real(2, 3, 5, d), allowed(1, 1, 8, 5)
        torch.testing.assert_close(f(*args), scaled(*args))
    assert regions(f) == ["contract div.Tensor add.Tensor bitwise_not.default masked_fill.Scalar softmax.int contract"]


def test_guards_choose_the_program():
    def f(x, w):
        return x @ w if x.shape[0] > 5 else (x @ w) * 2

    jitted = reference(f, w=gs.CSR)
    w = weight(4, 3)
    for rows in (3, 9, 4, 12):
        x = real(rows, 4)
        torch.testing.assert_close(jitted(x, w), f(x, w))
    assert len(programs(jitted)) == 2


@pytest.mark.parametrize("backend", ["reference", "compiled"])
@pytest.mark.parametrize("shape", [(0, H, S, T), (B, H, 0, T), (B, H, S, 0), (B, 0, 0, 0)])
def test_empty_tensors_need_no_program_of_their_own(shape, backend):
    b, h, s, t = shape
    f = gs.sparse_jit(masked_softmax, mask=gs.CSR, backend=backend)
    f(*qkv(), allowed(1, 1, S, T))
    args = real(b, h, s, D), real(b, h, t, D), real(b, h, t, D), torch.ones(1, 1, s, t, dtype=torch.bool)
    torch.testing.assert_close(f(*args), masked_softmax(*args))
    assert len(programs(f)) == 1
    g = gs.sparse_jit(masked_softmax, mask=gs.CSR, backend=backend)  # the other way round
    torch.testing.assert_close(g(*args), masked_softmax(*args))
    full = *qkv(), allowed(1, 1, S, T)
    torch.testing.assert_close(g(*full), masked_softmax(*full))


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_rows_with_nothing_allowed_are_zero(backend):
    q, k, v = qkv()
    mask = allowed(1, 1, S, T)
    mask[..., 3, :] = False
    for f, m in [(masked_softmax, mask), (lambda q, k, v, mask: (q @ k.mT + mask).softmax(-1) @ v, additive(mask))]:
        out = gs.sparse_jit(f, mask=gs.CSR, backend=backend)(q, k, v, m)
        assert not out.isnan().any()
        assert (out[..., 3, :] == 0).all()


@pytest.mark.parametrize("how", ["SparseTensor", "torch", "dense"])
def test_an_annotated_argument_takes(how):
    a, x = weight(6, 4), real(4, 3)
    given = {"SparseTensor": lambda: gs.sparsify(a, gs.CSC), "torch": a.to_sparse_csr, "dense": lambda: a}[how]()
    torch.testing.assert_close(reference(lambda a, x: a @ x, a=gs.CSR)(given, x), a @ x)


def test_an_argument_that_is_sparse_needs_no_annotation():
    a, x = weight(6, 4), real(4, 3)
    for given in (gs.sparsify(a, gs.CSR), a.to_sparse_csc()):
        f = reference(lambda a, x: a @ x)
        torch.testing.assert_close(f(given, x), a @ x)
        assert regions(f) == ["contract"]


def test_a_dense_mask_that_forbids_with_a_large_number_is_additive():
    mask = allowed(S, T)
    for low in (-math.inf, -1e9, torch.finfo(torch.float64).min):
        f = reference(lambda q, k, v, mask: (q @ k.mT + mask).softmax(-1) @ v, mask=gs.CSR)
        q, k, v = qkv()
        expected = (q @ k.mT).masked_fill(~mask, -math.inf).softmax(-1) @ v
        torch.testing.assert_close(f(q, k, v, additive(mask, low)), expected)
        assert not programs(f)[0].fallbacks


def test_built_in_functions():
    w = gs.sparsify(weight(4, 3), gs.CSR)
    f = reference(torch.relu)
    torch.testing.assert_close(f(w).to_dense(), torch.relu(w.to_dense()))
    with pytest.raises(gs.AnnotationError, match="no argument 'input'"):
        gs.sparse_jit(torch.relu, input=gs.CSR)


def test_sparse_arguments_on_one_pattern():
    a = gs.sparsify(weight(6, 5), gs.CSR)
    b = a.with_values(torch.randn_like(a.values))
    f = reference(lambda a, b: torch.relu(a + b))
    result = f(a, b)
    torch.testing.assert_close(result.to_dense(), torch.relu(a.to_dense() + b.to_dense()))
    assert result.pattern is a.pattern
    other = gs.sparsify(weight(6, 5), gs.CSR)
    assert torch.equal(f(a, other).to_dense(), torch.relu(a.to_dense() + other.to_dense()))


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_autocast(backend):
    x, w, b = torch.randn(4, 5), weight(6, 5).float(), torch.randn(6)
    f = gs.sparse_jit(lambda x, w, b: F.gelu(F.linear(x, w, b)), w=gs.CSR, backend=backend)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        result = f(x, w, b)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), F.gelu(F.linear(x, w, b)), atol=0.05, rtol=0.05)


def test_the_same_tensor_twice_is_two_arguments():
    f = reference(lambda x, y, m: (x @ y.mT).masked_fill(~m, -math.inf).softmax(-1) @ x, m=gs.CSR)
    x, y, m = real(S, D), real(S, D), allowed(S, S)
    torch.testing.assert_close(f(x, x, m), (x @ x.mT).masked_fill(~m, -math.inf).softmax(-1) @ x)
    torch.testing.assert_close(f(x, y, m), (x @ y.mT).masked_fill(~m, -math.inf).softmax(-1) @ x)
    assert len(programs(f)) == 1


def test_constants_containers_and_defaults():
    def f(pair, *, scale=1.0, flags=None, w):
        return {"y": pair[0] @ w * scale, "rows": pair[0].shape[0], "flags": flags, "other": [pair[1]]}

    jitted = reference(f, w=gs.CSR)
    w, pair = weight(4, 3), (real(5, 4), real(2))
    for kwargs in ({}, {"scale": 2.0}, {"flags": "ab"}):
        expected = f(pair, w=w, **kwargs)
        actual = jitted(pair, w=w, **kwargs)
        torch.testing.assert_close(actual["y"], expected["y"])
        assert (actual["rows"], actual["flags"]) == (5, kwargs.get("flags"))
        assert actual["other"][0] is pair[1]
    assert len(programs(jitted)) == 3
    assert jitted((real(9, 4), pair[1]), w=w)["rows"] == 9
    assert len(programs(jitted)) == 3


def test_decorator_forms():
    w, x = weight(4, 3), real(5, 4)

    @gs.sparse_jit
    def bare(x, w):
        """Doc."""
        return x @ w

    @gs.sparse_jit(w=gs.CSR, backend="reference")
    def with_arguments(x, w):
        return x @ w

    assert (bare.__name__, bare.__doc__) == ("bare", "Doc.")
    torch.testing.assert_close(bare(x, w), x @ w)
    torch.testing.assert_close(with_arguments(x, w), x @ w)
    assert regions(bare) == []
    assert regions(with_arguments) == ["contract"]


def test_methods_bind():
    class Thing:
        scale = 3.0

        @gs.sparse_jit(w=gs.CSR, backend="reference")
        def apply(self, x, w):
            return x @ w * self.scale

    w, x = weight(4, 3), real(5, 4)
    torch.testing.assert_close(Thing().apply(x, w), x @ w * 3)


def test_tensors_of_the_enclosing_scope():
    w, x = weight(4, 3), real(5, 4)
    f = reference(lambda w: x @ w, w=gs.CSR)
    torch.testing.assert_close(f(w), x @ w)


def test_sparse_tensors_of_the_enclosing_scope():
    dense = allowed(S, S)
    mask = gs.sparsify(dense, gs.CSR)
    uses = [
        lambda x: (x @ x.mT).masked_fill(~mask, -math.inf).softmax(-1) @ x,
        lambda x: (x @ x.mT).masked_fill(~gs.annotate(mask, gs.CSC), -math.inf).softmax(-1) @ x,
        lambda x: (x @ x.mT).masked_fill(~mask.to_dense(), -math.inf).softmax(-1) @ x,
        lambda x: (x @ x.mT).masked_fill(mask.clone().to(torch.float64) == 0, -math.inf).softmax(-1) @ x,
        lambda x: F.scaled_dot_product_attention(x, x, x, mask, scale=1.0),
    ]
    for use in uses:
        f = reference(use)
        for x in (real(S, D), real(S, 3)):
            expected = (x @ x.mT).masked_fill(~dense, -math.inf).softmax(-1) @ x
            torch.testing.assert_close(f(x), expected)
        assert len(programs(f)[0].kernels) == 1
    torch.testing.assert_close(mask.to(gs.CSC).to_dense(), dense)  # tracing has left it alone


@pytest.mark.parametrize("density", [0.25, 0.5])
def test_a_pattern_made_from_the_content(density):
    def f(x, w):
        return x @ gs.sparsify(w, gs.CSR, by=gs.magnitude(density))

    jitted = reference(f)
    for _ in range(2):
        x, w = real(3, 8), real(8, 4)
        torch.testing.assert_close(jitted(x, w), x @ gs.sparsify(w, gs.CSR, by=gs.magnitude(density)).to_dense())
    assert regions(jitted) == ["contract"]


def test_strided_arguments():
    args = [t.mT.contiguous().mT for t in qkv()] + [allowed(1, 1, S, T)]
    torch.testing.assert_close(reference(masked_softmax, mask=gs.CSR)(*args), masked_softmax(*args))


def test_a_sparse_result_is_a_sparse_tensor_on_the_same_pattern():
    m = gs.sparsify(weight(6, 5), gs.CSR)
    scaled, probabilities = reference(lambda m: (m * 2, (m + 0.0).masked_fill(m == 0, -math.inf)))(m)
    assert isinstance(scaled, gs.SparseTensor)
    assert scaled.pattern is m.pattern
    assert isinstance(probabilities, gs.SparseTensor)
    assert probabilities.fill == -math.inf


def test_a_view_of_a_sparse_input_is_left_to_it():
    m = gs.sparsify(weight(6, 5), gs.CSR)
    same, viewed = reference(lambda m: (m, m[None]))(m)
    assert same is m
    assert isinstance(viewed, gs.SparseTensor)
    assert viewed.shape == (1, 6, 5)


def test_annotate_inside():
    def f(x, w):
        w = gs.annotate(w * (w.abs() > 0.5), gs.CSR)
        return torch.relu(x @ w)

    jitted = reference(f)
    x, w = real(4, 6), real(6, 5)
    torch.testing.assert_close(jitted(x, w), torch.relu(x @ (w * (w.abs() > 0.5))))
    assert regions(jitted) == ["contract relu.default"]


def test_annotate_outside():
    w = real(6, 5)
    assert gs.annotate(w, gs.CSR).format == gs.CSR
    parameter = gs.annotate(torch.nn.Parameter(w), gs.BSR(1))
    assert isinstance(parameter.values, torch.nn.Parameter)
    assert gs.annotate(parameter, gs.CSC).format == gs.CSC
    assert gs.annotate(w.to_sparse_csr(), gs.CSC).format == gs.CSC
    with pytest.raises(gs.AnnotationError, match="takes a Format"):
        gs.annotate(w, "csr")


def test_a_decorated_function_inside_another():
    @gs.sparse_jit(w=gs.CSR)
    def inner(x, w):
        return x @ w

    outer = reference(lambda x, w: inner(x * 2, w) + 1)
    x, w = real(4, 6), weight(6, 5)
    torch.testing.assert_close(outer(x, w), x * 2 @ w + 1)
    assert regions(outer) == ["contract add.Tensor"]


def test_untouched_attention_stays_whole():
    f = reference(lambda q, k, v, w: F.scaled_dot_product_attention(q, k, v) @ w, w=gs.CSR)
    q, k, v = qkv()
    w = weight(D, D)
    torch.testing.assert_close(f(q, k, v, w), F.scaled_dot_product_attention(q, k, v) @ w)
    assert regions(f) == ["contract"]
    assert "scaled_dot_product_attention" in programs(f)[0].module.code


def test_one_warning_names_operation_and_reason():
    f = reference(lambda m: torch.cumsum(m, 0), m=gs.CSR)
    with pytest.warns(gs.FallbackWarning, match="aten.cumsum.default runs in PyTorch.*no sparse form"):
        f(weight(4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(weight(4, 3))


def test_fullgraph_refuses_a_fallback():
    f = gs.sparse_jit(lambda m: torch.cumsum(m, 0), m=gs.CSR, fullgraph=True)
    with pytest.raises(gs.UnsupportedError, match="cumsum"):
        f(weight(4, 3))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, dropout_p=0.5), "dropout"),
        (lambda q, k, v, m: torch.softmax(m.double(), -1) @ v, "would take part"),
        (lambda q, k, v, m: (m.double() + 0.5) @ v, "aten.matmul.default .* needs entries that are not stored to be 0"),
    ],
)
def test_reasons(function, reason):
    f = reference(function, m=gs.CSR)
    with pytest.warns(gs.FallbackWarning, match=reason):
        f(*(t[0, 0] for t in qkv()), allowed(S, T))


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(gs.AnnotationError, match="no argument 'msk'; did you mean 'mask'"):
        gs.sparse_jit(masked_softmax, msk=gs.CSR)
    with pytest.raises(gs.AnnotationError, match="annotated with a Format"):
        gs.sparse_jit(masked_softmax, mask="csr")
    with pytest.raises(gs.AnnotationError, match="belong to modules"):
        gs.sparse_jit(masked_softmax, {"*": gs.CSR})
    with pytest.raises(gs.AnnotationError, match="must be a tensor, not a int"):
        gs.sparse_jit(masked_softmax, mask=gs.CSR)(*qkv(), 3)
    with pytest.raises(gs.AnnotationError, match="not a int"):
        gs.sparse_jit(3)


def branch(x):
    if x.sum() > 0:
        return x
    return -x


def to_number(x):
    return x * float(x.max())


def to_numpy(x):
    return torch.from_numpy(x.numpy())


def own_error(x):
    raise KeyError("mine")


@pytest.mark.parametrize(
    ("function", "line"), [(branch, "if x.sum"), (to_number, r"x \* float"), (to_numpy, "torch.from_numpy")]
)
def test_what_cannot_be_traced_names_the_line(function, line):
    with pytest.raises(gs.TraceError, match=rf"test_jit.py:\d+, in {function.__name__}: `.*{line}"):
        gs.sparse_jit(function)(real(3))


def test_a_number_that_stays_a_number_can_be_traced():
    f = reference(lambda x, w: (x @ w) * x.max().item(), w=gs.CSR)
    x, w = real(4, 6), weight(6, 5)
    torch.testing.assert_close(f(x, w), (x @ w) * x.max().item())
    torch.testing.assert_close(f(2 * x, w), (2 * x @ w) * 2 * x.max().item())


def test_errors_of_the_function_itself_pass():
    with pytest.raises(KeyError, match="mine"):
        gs.sparse_jit(own_error)(real(3))


def test_an_unhashable_constant():
    with pytest.raises(gs.TraceError, match="neither a tensor"):
        gs.sparse_jit(lambda x, n: x)(real(3), bytearray(b"x"))


def test_gradient_mode_and_autocast_are_part_of_the_key():
    f = reference(lambda x, w: x @ w, w=gs.CSR)
    x, w = torch.randn(4, 6), weight(6, 5).float()
    f(x, w)
    with torch.no_grad():
        f(x, w)
    assert len(programs(f)) == 2
    with torch.autocast("cpu", torch.bfloat16):
        f(x, w)
    assert len(programs(f)) == 3


def test_operands_that_do_not_fit_each_other():
    """Said with the call's own numbers, before anything is compiled."""
    product = gs.sparse_jit(lambda a, x: a @ x, a=gs.CSR)
    with pytest.raises(gs.TraceError, match=r"\[4, 4\] X \[5, 2\]"):
        product(torch.eye(4), torch.randn(5, 2))
    with pytest.raises(gs.TensorError, match=r"torch.float32 with torch.float64: cast"):
        product(torch.eye(4), torch.randn(4, 2, dtype=torch.float64))
    with pytest.raises(gs.TensorError, match="on cpu with one on meta: move"):
        product(torch.eye(4), torch.randn(4, 2, device="meta"))


def test_no_kernel_for_a_dtype():
    a, x = torch.eye(4, dtype=torch.complex64) * 1j, torch.randn(4, 2, dtype=torch.complex64)
    with pytest.raises(gs.UnsupportedError, match=r"complex64.*real numbers"):
        gs.sparse_jit(lambda a, x: a @ x, a=gs.CSR)(a, x)


def test_sizes_that_an_empty_input_has_not():
    """x[1:] has a row less than x, or none: a program for inputs with rows is not one for inputs without."""
    compiled = gs.sparse_jit(lambda a, x: torch.cat([a[1:], a]) @ x)
    for rows in (5, 0, 3, 0):
        a, x = torch.randn(rows, 7), torch.randn(7, 5)
        torch.testing.assert_close(compiled(gs.sparsify(a, gs.CSR), x), torch.cat([a[1:], a]) @ x)
