"""gs.cost: predictions that follow from tiles and blocks."""

import pytest
import torch

import gossamer as gs

P = gs.patterns
SHAPE = (2, 16, 8192, 128)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("columns", [64, 128])
def test_all_keys_cost_what_dense_attention_costs(columns, gradients):
    cost = gs.cost(None, (2, 16, 8192, columns), gradients=gradients)
    assert cost.sparse == cost.dense
    assert (cost.density, cost.covered, cost.balance, cost.speedup) == (1, 1, 1, 1)


def test_what_a_mask_leaves_out_costs_nothing():
    causal, window = gs.cost(P.causal(), SHAPE), gs.cost(P.causal() & P.sliding_window(1024), SHAPE)
    assert window.sparse < causal.sparse < causal.dense
    assert causal.density == pytest.approx(8193 / 8192 / 2)
    assert causal.covered == pytest.approx(65 / 64 / 2)
    assert 1.7 < causal.speedup < 2


def test_gradients_cost_more():
    assert gs.cost(P.causal(), SHAPE, gradients=True).sparse > 2 * gs.cost(P.causal(), SHAPE).sparse


def test_one_long_row_is_what_the_whole_takes():
    allowed = torch.zeros(64, 64, dtype=torch.bool).fill_diagonal_(True)
    even = gs.cost(gs.BlockList.from_dense(allowed, 128, (8192, 8192)), (1, 1, 8192, 128))
    allowed[5] = True
    uneven = gs.cost(gs.BlockList.from_dense(allowed, 128, (8192, 8192)), (1, 1, 8192, 128))
    assert uneven.balance < even.balance
    assert uneven.sparse > 5 * even.sparse


def test_the_density_at_which_sparse_pays():
    """A list of as many blocks takes what dense attention takes."""
    block = (64, 64)
    share = gs.cost(gs.BlockList.from_dense(torch.eye(128, dtype=torch.bool), block, (8192, 8192)), SHAPE).pays_below
    assert 0.5 < share <= 1
    allowed = torch.zeros(128, 128, dtype=torch.bool)
    allowed[:, : round(128 * share)] = True
    assert gs.cost(gs.BlockList.from_dense(allowed, block, (8192, 8192)), SHAPE).speedup == pytest.approx(1, rel=0.02)


def test_masks_of_any_kind_and_lengths_that_blocks_do_not_divide():
    pattern = P.causal() & P.sliding_window(100)
    dense = pattern.mask(300, 300).to_dense()
    costs = [gs.cost(mask, (1, 2, 300, 64)) for mask in (dense, gs.sparsify(dense, gs.CSR))]
    assert costs[0].density == costs[1].density == pytest.approx(dense.float().mean().item())
    assert gs.cost(P.sliding_window((50, 50)), (1, 1, 100, 64), keys=200).dense > 0


def test_packed_keys_are_counted_once():
    def every_128th(b, h, q, k):
        return (q >= k) & ((q - k < 128) | (k % 128 == 0))

    cost = gs.cost(P.from_function(every_128th), (1, 1, 1024, 128))
    place = torch.arange(1024)
    assert cost.density == pytest.approx(every_128th(0, 0, place[:, None], place).float().mean().item())
    assert cost.covered < 0.3


def test_a_line_says_it():
    assert "sparse pays below" in str(gs.cost(P.causal(), SHAPE))


def test_bad_input():
    with pytest.raises(gs.TensorError, match="a mask of 100 queries and 100 keys, for 128 and 128"):
        gs.cost(torch.ones(100, 100, dtype=torch.bool), (1, 1, 128, 64))
    with pytest.raises(gs.UnsupportedError, match="heads of"):
        gs.cost(None, (1, 1, 128, 63))
    with pytest.raises(gs.TensorError, match="batch, heads, queries, columns"):
        gs.cost(None, (128, 64))
