"""Block lists of patterns by content: what PyTorch makes of them, and the GPU's kernels, run on the CPU."""

import gc
import itertools
import math
import weakref
from array import array
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import gossamer as gs
from assembling import assemble
from gossamer.attention import call_for, kept_call
from gossamer.compiler.compile import compile_region, emit
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.dynamic import kernels, positions
from gossamer.dynamic.kernels.choose import Choice, chooser
from gossamer.dynamic.kernels.entries import Rule, lister, marker, of_bits, of_buckets, of_lines
from gossamer.dynamic.kernels.order import orderer
from gossamer.dynamic.kernels.turn import turner
from gossamer.patterns.base import Lengths
from gossamer.runtime import tile_backward, tiles
from gossamer.tile_order import longest_first
from gossamer.turned import transposed
from lanes_on_cpu import without_prefixes
from tests.block_scores import scores_of

SIZES = [(200, 300, (64, 32)), (256, 384, 128), (130, 65, (128, 16)), (1, 7, 64), (65, 129, 64)]


class Kernels:
    """Runs a function by PyTorch, and by the GPU's kernels on the CPU."""

    def __init__(self, patch):
        self.patch = patch
        self.count = 0

    def launch(self, kernel, device, words):
        self.count += 1
        text = without_prefixes(kernel.text)
        compile_region(text, lambda: text).run_words(array("q", words))

    def both(self, make):
        wanted = make()
        before = self.count
        with self.patch.context() as patch:
            patch.setattr(GpuKernel, "launch", lambda *given: self.launch(*given))
            patch.setattr(kernels, "take", lambda tensor: tensor.numel() > 0)
            made = make()
        assert self.count > before
        return made, wanted


@pytest.fixture
def by_kernels(monkeypatch):
    return Kernels(monkeypatch)


def used(count, index):
    return torch.where(torch.arange(index.shape[-1]) < count[..., None], index, -1)


def assert_same(one, other):
    """Two lists have the same in all places that are used."""
    assert (one.block, one.shape) == (other.block, other.shape)
    assert torch.equal(one.count, other.count)
    assert torch.equal(used(one.count, one.index), used(other.count, other.index))
    assert (one.needed is None) == (other.needed is None)
    assert one.needed is None or torch.equal(one.needed, other.needed)
    assert one.has_partial == other.has_partial
    if one.has_partial:
        assert torch.equal(one.partial_count, other.partial_count)
        assert torch.equal(used(one.partial_count, one.partial_index), used(other.partial_count, other.partial_index))
        numbers = [used(of.partial_count, of.partial_bits) for of in (one, other)]
        assert torch.equal(*numbers)
        in_use = numbers[0][numbers[0] >= 0].long()
        assert torch.equal(one.bits[in_use], other.bits[in_use])


def checked(blocks):
    """The mask of a list, [B, H, queries, keys], whose arrays are right."""
    arrays = {name: getattr(blocks, name) for name in ("partial_count", "partial_index", "partial_bits", "bits")}
    gs.BlockList(blocks.count, blocks.index, blocks.block, blocks.shape, **arrays)
    return dense(blocks)


def dense(blocks):
    """The mask of a list, [B, H, queries, keys]."""
    return blocks.to_mask().to_dense().expand(*blocks.count.shape[:2], *blocks.shape)


def spread(allowed, block, shape):
    """A bool of blocks as one of entries."""
    rows, columns = (block, block) if isinstance(block, int) else block
    return allowed.repeat_interleave(rows, -2).repeat_interleave(columns, -1)[..., : shape[0], : shape[1]]


# What a list has.


@pytest.mark.parametrize(("queries", "keys", "block"), SIZES)
def test_topk_is_torchs(queries, keys, block):
    scores = scores_of("any", queries, keys, block)
    k = max(1, scores.shape[-1] // 3)
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, scores.topk(k).indices, True)
    wanted = spread(chosen, block, (queries, keys))
    assert torch.equal(checked(gs.topk_blocks(scores, k, block=block, shape=(queries, keys))), wanted)
    at = torch.arange(keys) <= torch.arange(queries)[:, None]
    rows, columns = (block, block) if isinstance(block, int) else block
    last = (torch.arange(scores.shape[-2]) + 1).mul(rows).clamp(max=queries) - 1
    seen = torch.arange(scores.shape[-1]) * columns <= last[:, None]
    causal = scores.masked_fill(~seen, -math.inf)
    chosen = torch.zeros_like(chosen).scatter_(-1, causal.topk(k).indices, True) & seen
    made = gs.topk_blocks(scores, k, block=block, shape=(queries, keys), causal=True)
    assert torch.equal(checked(made), spread(chosen, block, (queries, keys)) & at)


def test_equal_scores_nan_and_infinities():
    def chosen(scores, k, **options):
        scores = torch.tensor([scores])
        made = gs.topk_blocks(scores, k, block=16, shape=(16, 16 * scores.shape[1]), **options)
        return made.index[0, 0, 0, : made.count[0, 0, 0]].tolist()

    inf, nan = math.inf, math.nan
    assert chosen([1.0, 2.0, 2.0, 2.0], 2) == [1, 2]
    assert chosen([0.0, -0.0, 0.0, -1.0], 2) == [0, 1]
    assert chosen([nan, -inf, 0.5, inf], 3) == [2, 3]
    assert chosen([nan, nan], 2) == []
    assert chosen([0.0, 2.0, 1.0, 3.0], 2, sinks=1, local=1) == [0, 3]
    assert chosen([nan, 2.0, 1.0, 0.0], 2, sinks=1) == [0, 1]


def test_thresholds_and_mass():
    scores = torch.tensor([[0.5, 0.25, 0.125, 0.125], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])

    def counts(*given, **options):
        return gs.threshold_blocks(scores, *given, block=16, shape=(48, 64), **options).count.flatten().tolist()

    assert counts(0.25) == [2, 1, 0]
    assert counts(mass=0.5) == [1, 1, 0]
    assert counts(mass=0.75) == [2, 1, 0]
    assert counts(mass=0.8) == [4, 1, 0]  # equal ones together
    assert counts(mass=1.0) == [4, 1, 0]
    assert counts(mass=0.5, sinks=1, local=1) == [1, 2, 2]


def test_capacity():
    scores = torch.zeros(2, 3, 4, 5)
    scores[1, 2, 3, :4] = 1
    blocks = gs.threshold_blocks(scores, 0.5, block=64, shape=(256, 320), capacity=3)
    with pytest.raises(
        gs.TensorError, match=r"block 3 of the queries of head 2 of text 1 has 4 blocks .* capacity of 3"
    ):
        blocks.check()
    assert blocks.index[1, 2, 3].tolist() == [0, 1, 2]
    fits = gs.threshold_blocks(scores, 0.5, block=64, shape=(256, 320), capacity=4)
    assert fits.check() is fits
    mask = torch.zeros(64, 320, dtype=torch.bool)
    mask[3, ::64] = True
    with pytest.raises(gs.TensorError, match=r"has 5 blocks of keys, .* capacity of 2"):
        gs.mask_blocks(mask, block=64, capacity=2).check()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: gs.topk_blocks(s, 6, block=64, shape=(256, 320)), r"takes 1 to 5 .* as k, not 6"),
        (lambda s: gs.topk_blocks(s, 0, block=64, shape=(256, 320)), "not 0"),
        (lambda s: gs.topk_blocks(s, 2, block=64, shape=(256, 321)), "have 4 x 6 scores, not 4 x 5"),
        (lambda s: gs.topk_blocks(s, 2, block=64, shape=(256, 320), sinks=2, local=1), "are more than k = 2"),
        (lambda s: gs.topk_blocks(s, 2, block=64, shape=(256, 320), sinks=-1), "not below 0"),
        (lambda s: gs.topk_blocks(s, 2, block=0, shape=(256, 320)), "1 or more queries"),
        (lambda s: gs.topk_blocks(s.double(), 2, block=64, shape=(256, 320)), "not torch.float64"),
        (lambda s: gs.threshold_blocks(s, block=64, shape=(256, 320)), "a threshold or a mass"),
        (lambda s: gs.threshold_blocks(s, math.nan, block=64, shape=(256, 320)), "finite number, not nan"),
        (lambda s: gs.threshold_blocks(s, mass=1.5, block=64, shape=(256, 320)), "up to 1, not 1.5"),
        (lambda s: gs.threshold_blocks(s, 0.5, block=64, shape=(256, 320), capacity=0), "1 or more blocks a row"),
        (lambda s: gs.mask_blocks(s, block=64), "a mask is bool"),
        (lambda s: gs.mask_blocks(s > 0, block=64, capacity=0), "1 or more blocks a row"),
        (
            lambda s: gs.mask_blocks((s[0, :1, :1, :1] > 0).expand(1 << 14, 4, 1 << 20), block=(128, 16)),
            r"less than 2\^31",
        ),
        (lambda s: gs.token_blocks(s, 64, block=64), "are int64 or int32"),
        (lambda s: gs.bucket_blocks(s, s, block=64), "buckets are int32 or int64"),
        (lambda s: gs.bucket_blocks(torch.zeros(2, 5).int(), torch.zeros(3, 5).int(), block=64), "do not go together"),
        (lambda s: gs.pooled_scores(s, s[..., :2], 64), "of each other"),
        (lambda s: gs.pooled_scores(s, s, 64, by="sum"), "not 'sum'"),
        (lambda s: gs.pooled_scores(s, s, 64, by="antidiagonal", stride=3), "3 does not divide 64"),
        (lambda s: gs.vertical_slash_blocks(s, s, vertical=0, slash=1, block=64), "vertical is 1 or more"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(gs.TensorError, match=said):
        make(torch.zeros(2, 3, 4, 5))


def masks_of(queries, keys):
    torch.manual_seed(0)
    allowed = torch.rand(2, 2, queries, keys) < 0.1
    allowed[0, 0, : queries // 2] = True
    allowed[1, 1] = False
    return allowed


@pytest.mark.parametrize(("queries", "keys", "block"), [SIZES[0], *SIZES[2:4]])
def test_masks_of_entries(queries, keys, block):
    allowed = masks_of(queries, keys)
    assert torch.equal(checked(gs.mask_blocks(allowed, block=block).check()), allowed)
    assert torch.equal(checked(gs.mask_blocks(allowed.to_sparse(), block=block)), allowed)
    csr = allowed[0, 0].to_sparse_csr()
    assert torch.equal(checked(gs.mask_blocks(csr, block=block))[0, 0], allowed[0, 0])
    chosen = torch.randint(-2, keys + 2, (2, 2, queries, 5))
    wanted = (chosen[..., None] == torch.arange(keys)).any(-2)
    assert torch.equal(checked(gs.token_blocks(chosen, keys, block=block)), wanted)
    behind = torch.arange(keys) > torch.arange(queries)[:, None]
    assert torch.equal(checked(gs.token_blocks(chosen, keys, block=block, causal=True)), wanted & ~behind)
    ids = torch.randint(-1, 4, (2, queries)), torch.randint(-1, 4, (2, keys))
    wanted = (ids[0][:, :, None] == ids[1][:, None]) & (ids[0] >= 0)[..., None]
    assert torch.equal(checked(gs.bucket_blocks(*ids, block=block))[0], wanted)


def test_vertical_and_slash_lines():
    torch.manual_seed(0)
    length, last = 150, 20
    q, k = torch.randn(1, 4, length, 16), torch.randn(1, 2, length, 16)
    made = checked(gs.vertical_slash_blocks(q, k, vertical=5, slash=4, block=(64, 32), last=last))
    at = torch.arange(length)
    causal = at <= at[:, None]
    keys = k.repeat_interleave(2, 1)
    weights = (q @ keys.mT / 4).masked_fill(~causal, -math.inf).softmax(-1)[:, :, -last:]
    distance = at[-last:, None] - at
    for head in range(4):
        columns = weights[0, head].sum(0)
        diagonals = torch.stack([weights[0, head][distance == n].sum() for n in range(length)])
        columns[0] = diagonals[0] = math.inf
        chosen = torch.isin(at, columns.topk(5).indices)
        near = torch.isin(at[:, None] - at, diagonals.topk(4).indices)
        assert torch.equal(made[0, head], (chosen | near) & causal)


@pytest.mark.parametrize(("queries", "keys", "block"), SIZES)
def test_pooled_scores(queries, keys, block):
    torch.manual_seed(0)
    q, k = torch.randn(2, 4, queries, 8), torch.randn(2, 2, keys, 8)
    rows, columns = (block, block) if isinstance(block, int) else block
    heads = k.repeat_interleave(2, 1)
    for by in ("mean", "max"):
        pool = torch.mean if by == "mean" else torch.amax
        pooled = [
            torch.stack([pool(part, 2) for part in tensor.split(size, 2)], 2)
            for tensor, size in ((q, rows), (heads, columns))
        ]
        torch.testing.assert_close(gs.pooled_scores(q, k, block, by=by), pooled[0] @ pooled[1].mT / math.sqrt(8))
    full = q @ heads.mT
    full = F.pad(full, (0, -keys % columns, 0, -queries % rows))
    at = torch.arange(full.shape[-2])[:, None] % 4 + torch.arange(full.shape[-1]) % 4 == 3
    wanted = (full * at).unflatten(-1, (-1, columns)).sum(-1).unflatten(-2, (-1, rows)).sum(-2)
    made = gs.pooled_scores(q, k, block, by="antidiagonal", stride=4, scale=1)
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-3)


def test_torch_compile_leaves_the_choice_alone():
    def attention(q, k, v):
        blocks = gs.topk_blocks(gs.pooled_scores(q, k, 64), 2, block=64, shape=(q.shape[2], k.shape[2]))
        return gs.attention(q * 2, k, v, blocks)

    compiled = torch.compile(attention, backend="eager")
    for _ in range(3):
        tensors = [torch.randn(1, 2, 192, 64) for _ in range(3)]
        torch.testing.assert_close(compiled(*tensors), attention(*tensors))


@pytest.mark.parametrize(("queries", "keys", "block"), [(200, 200, 64), (300, 200, (128, 64))])
def test_attention_to_the_best_blocks(queries, keys, block):
    """The tile programs, on the processor, and their gradients, beside float64."""
    torch.manual_seed(0)
    shapes = (1, 2, queries, 64), (1, 1, keys, 64), (1, 1, keys, 64)
    q, k, v = (torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for shape in shapes)
    scores = gs.pooled_scores(q, k, block).detach()
    blocks = gs.topk_blocks(scores, 2, block=block, shape=(queries, keys), causal=True, local=1)
    out, _ = call_for(q.detach(), k.detach(), v.detach(), blocks, None, False, None)(q, k, v)
    grad = torch.randn_like(out)
    exact = [tensor.detach().double().requires_grad_() for tensor in (q, k, v)]
    wanted = (exact[0] @ exact[1].mT / 8).masked_fill(~dense(blocks), -math.inf).softmax(-1).nan_to_num(0.0) @ exact[2]
    results = out, *torch.autograd.grad(out, (q, k, v), grad)
    for one, other in zip(results, (wanted, *torch.autograd.grad(wanted, exact, grad.double())), strict=True):
        assert (one.double() - other).norm() < 0.01 * other.norm()


def test_a_list_dies_with_its_last_reference(monkeypatch):
    class Kernel:
        def on(self, device):
            return lambda words: None

    monkeypatch.setattr(tiles, "kernel_of", lambda kind, chip: Kernel())
    monkeypatch.setattr(tile_backward, "kernels_of", lambda kind, chip: Kernel())
    q, k, v = (torch.randn(1, 2, 256, 64, dtype=torch.bfloat16) for _ in range(3))
    blocks = gs.topk_blocks(torch.randn(2, 2, 2), 1, block=128, shape=(256, 256), causal=True)
    call = call_for(q, k, v, blocks, None, False, None)
    assert kept_call(q, k, v, blocks, None, False, None) is call
    call.gradients(q, k, v, *call(q, k, v), torch.ones_like(q), None)
    # A backward that is still to come needs no list but what its call holds.
    arrays = weakref.ref(blocks.count), weakref.ref(blocks.transposed().count)
    gc.disable()
    try:
        del blocks
        assert arrays[0]() is not None
        del call
        assert [array() for array in arrays] == [None, None]
    finally:
        gc.enable()


# The kernels.


@pytest.mark.parametrize("kind", ["any", "ties", "odd"])
def test_topk_kernel(kind, by_kernels):
    for (queries, keys, block), dtype in zip(SIZES, [torch.float32, torch.bfloat16, torch.float16] * 2, strict=False):
        scores = scores_of(kind, queries, keys, block, dtype)
        columns = scores.shape[-1]
        for k, causal, (sinks, local) in itertools.product(
            {1, max(1, columns // 3), columns}, (False, True), ((0, 0), (1, 1))
        ):
            if sinks + local > k:
                continue
            options = {"block": block, "shape": (queries, keys), "causal": causal, "sinks": sinks, "local": local}
            assert_same(*by_kernels.both(partial(gs.topk_blocks, scores, k, **options)))


def test_threshold_kernels(by_kernels):
    for (queries, keys, block), causal in itertools.product(SIZES, (False, True)):
        scores = scores_of("weights", queries, keys, block)
        for rule, sinks in itertools.product(({"threshold": 0.25}, {"mass": 0.5}, {"mass": 1.0}), (0, 1)):
            options = {"block": block, "shape": (queries, keys), "causal": causal, "sinks": sinks, "capacity": 3}
            assert_same(*by_kernels.both(partial(gs.threshold_blocks, scores, **rule, **options)))


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_scores(data):
    columns = data.draw(st.integers(1, 70))
    numbers = st.floats(width=16) | st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf, math.nan])
    scores = torch.tensor(data.draw(st.lists(numbers, min_size=columns, max_size=columns)))[None]
    k = data.draw(st.integers(1, columns))
    with pytest.MonkeyPatch.context() as patch:
        made, wanted = Kernels(patch).both(lambda: gs.topk_blocks(scores, k, block=16, shape=(16, 16 * columns)))
    assert_same(made, wanted)
    allowed = scores[0].nan_to_num(-math.inf, math.inf, -math.inf)
    chosen = made.index[0, 0, 0, : made.count[0, 0, 0]].tolist()
    assert len(chosen) == min(k, int((allowed > -math.inf).sum()))
    left = [allowed[n].item() for n in range(columns) if n not in chosen]
    assert not chosen or not left or allowed[chosen].min() >= max(left)


def test_lists_the_other_way_round(by_kernels):
    for (queries, keys, block), causal in itertools.product(SIZES[2:], (False, True)):
        scores = scores_of("odd", queries, keys, block)
        blocks = gs.topk_blocks(
            scores, max(1, scores.shape[-1] // 2), block=block, shape=(queries, keys), causal=causal
        )
        made, wanted = by_kernels.both(partial(transposed, blocks))
        assert_same(made, wanted)
        assert torch.equal(dense(made), dense(blocks).mT)
    many = gs.topk_blocks(scores_of("any", 64 * 70, 64 * 40, 64), 9, block=64, shape=(64 * 70, 64 * 40))
    assert_same(*by_kernels.both(lambda: transposed(many)))


def test_order_of_tiles(by_kernels):
    shape = 64 * 9, 64 * 20
    for lead, causal in itertools.product(((2, 4), (1, 4), (1, 1)), (False, True)):
        scores = torch.randn(*lead, 9, 20).round()
        blocks = gs.topk_blocks(scores, 7, block=64, shape=shape, causal=causal).transposed()
        if lead == (2, 4):
            blocks.count[1, 2, 3] = 2000  # one that is very long, and one that is equally so
            blocks.count[0, 1, 7] = 2000
        for batch, heads, shared, group in ((2, 4, 1, 3), (2, 2, 2, 1), (2, 1, 4, 100)):
            made, wanted = by_kernels.both(partial(longest_first, blocks, batch, heads, shared, group))
            assert torch.equal(made, wanted)


def test_kernels_of_entries(by_kernels):
    for queries, keys, block in SIZES:
        allowed = masks_of(queries, keys)
        assert_same(*by_kernels.both(partial(gs.mask_blocks, allowed, block=block, capacity=2)))
        chosen = torch.randint(-2, keys + 2, (2, queries, 5))
        assert_same(*by_kernels.both(partial(gs.token_blocks, chosen, keys, block=block, causal=True)))
        ids = torch.randint(-1, 3, (queries,)), torch.randint(-1, 3, (keys,))
        assert_same(*by_kernels.both(partial(gs.bucket_blocks, *ids, block=block)))
    sparse = masks_of(65, 129).to_sparse()
    assert_same(*by_kernels.both(lambda: gs.mask_blocks(sparse, block=(64, 32))))


def test_kernel_of_lines(by_kernels):
    for length, block in ((150, (64, 32)), (64, 64), (1, 16)):
        q, k = torch.randn(1, 2, length, 8), torch.randn(1, 2, length, 8)
        options = {"vertical": 3, "slash": 2, "block": block, "last": 7}
        assert_same(*by_kernels.both(partial(gs.vertical_slash_blocks, q, k, **options)))


P = gs.patterns
FORMULAS = {
    "causal": P.causal(),
    "bottom-right": P.causal("bottom-right") & P.sliding_window(30, align="bottom-right"),
    "window": P.sliding_window((37, 200)),
    "one side": P.sliding_window((None, 3)) | ~P.causal(),
    "dilated": P.dilated(20, 7),
    "strided": P.causal() & (P.sliding_window(64) | P.strided(64)),
    "fixed": P.causal() & P.fixed(32, 4),
    "blocks": P.block_window(24, 2, 1) & ~P.block_diagonal(24),
    "butterfly": P.butterfly(32, 4),
    "global tokens": P.causal() & (P.sliding_window(9) | P.global_tokens(12)),
    "everything": P.everything(),
    "nothing": ~P.everything(),
}


@pytest.mark.parametrize("name", list(FORMULAS))
def test_kernels_of_patterns(name, by_kernels):
    for shape, block in (((150, 130), (64, 32)), ((65, 129), 64)):
        made, wanted = by_kernels.both(partial(gs.pattern_blocks, FORMULAS[name], shape, block=block, device="cpu"))
        assert_same(made, wanted)
        at = [torch.arange(length) for length in shape]
        allowed = FORMULAS[name](0, 0, at[0][:, None], at[1], lengths=shape)
        assert torch.equal(checked(made)[0, 0], allowed)


def test_other_numbers_are_the_same_formula(monkeypatch, by_kernels):
    texts = set()
    launch = by_kernels.launch
    monkeypatch.setattr(by_kernels, "launch", lambda kernel, *given: texts.add(kernel.text) or launch(kernel, *given))
    for size, length in ((9, 65), (31, 130), (32, 64)):
        pattern = P.causal() & P.sliding_window(size)
        by_kernels.both(partial(gs.pattern_blocks, pattern, (length, length), block=64, device="cpu"))
    assert len(texts) == 1


@pytest.mark.parametrize(
    "pattern",
    [
        P.documents([10, 20]),
        P.per_head([P.causal(), P.everything()]),
        P.global_tokens([0, 7]),
        P.variable_windows([4, 6]),
        P.from_function(lambda b, h, q, k: q * k % 3 == 0),
    ],
)
def test_patterns_that_are_no_formula(pattern):
    with pytest.raises(gs.UnsupportedError, match=r"is no formula .* pattern.blocks"):
        gs.pattern_blocks(pattern, (30, 30), block=64, device="cpu")


WINDOW = positions._traced(P.causal() & P.sliding_window(9), Lengths(64, 64))[0]
CODE = {
    "topk": lambda: chooser(Choice("f32", "topk", False, False, True)),
    "causal topk": lambda: chooser(Choice("bf16", "topk", True, True, True)),
    "threshold": lambda: chooser(Choice("f16", "threshold", False, False, False)),
    "mass": lambda: chooser(Choice("f32", "mass", True, True, False)),
    "turned": lambda: turner(False),
    "turned with bitmaps": lambda: turner(True),
    "order": lambda: orderer(True),
    "bits": lambda: lister(of_bits(False)),
    "buckets": lambda: lister(of_buckets(True)),
    "lines": lambda: lister(of_lines(True)),
    "window": lambda: lister(Rule((), tuple(WINDOW.names), WINDOW, False)),
    "marks": marker,
}


@pytest.mark.parametrize("name", list(CODE))
def test_kernels_are_assembled(name, tmp_path):
    # For sm_80 ptxas unrolls the loop of "order" and spills three registers before it.
    for chip in ("sm_90a",) if name == "order" else ("sm_80", "sm_90a"):
        assemble(emit(CODE[name]().text, "ptx", chip), chip, tmp_path, name)
