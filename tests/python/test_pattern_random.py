"""Random blocks: the documented algorithm, written out with Python's integers; the same in every process."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gossamer as gs
from gossamer.patterns.random import random_numbers

P = gs.patterns
MASK = 2**32 - 1


def mix(x):
    x ^= x >> 16
    x = x * 0x7FEB352D & MASK
    x ^= x >> 15
    x = x * 0x846CA68B & MASK
    return x ^ x >> 16


def number(seed, *counters):
    x = mix(seed & MASK ^ mix(seed >> 32))
    for counter in counters:
        x = mix(x + 0x9E3779B9 * (counter + 1) & MASK)
    return x


def chosen(seed, b, h, i, count, n):
    """Floyd's algorithm: `count` different ones of n."""
    found = []
    for t in range(n - min(count, n), n):
        drawn = number(seed, b, h, i, t - (n - count)) * (t + 1) >> 32
        found.append(t if drawn in found else drawn)
    return found


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5))
def test_numbers_are_those_of_the_documented_steps(seed, counters):
    assert random_numbers(seed, *map(torch.tensor, counters)).item() == number(seed, *counters)


@given(
    st.integers(0, 2**64 - 1), st.integers(1, 9), st.integers(1, 70), st.integers(1, 12), st.booleans(), st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_a_count_is_chosen_by_floyds_algorithm(seed, count, keys, block, causal, by_head, by_batch):
    pattern = P.random_blocks(block, count, seed=seed, causal=causal, by_head=by_head, by_batch=by_batch)
    got = pattern.blocks(45, keys, block, heads=2, batch=2).kinds()
    columns = -(-keys // block)
    assert got.shape == (1 + by_batch, 1 + by_head, -(-45 // block), columns)
    for b in range(1 + by_batch):
        for h in range(1 + by_head):
            for i in range(got.shape[2]):
                n = min(i + 1, columns) if causal else columns
                if n < min(count, columns):
                    expected = list(range(n))  # all that there are
                else:
                    expected = sorted(chosen(seed, b, h, i, min(count, columns), n))
                assert got[b, h, i].nonzero()[:, 0].tolist() == expected


@given(st.integers(0, 2**64 - 1), st.floats(0, 1))
def test_a_density_is_the_chance_of_a_block(seed, density):
    got = P.random_blocks(8, density=density, seed=seed, by_head=True).blocks(40, 48, 8, heads=3).kinds()[0] == 2
    for h in range(3):
        for i in range(5):
            for j in range(6):
                assert got[h, i, j] == (number(seed, 0, h, i, j) < round(density * 2**32))


def test_numbers_are_spread_evenly():
    counters = torch.arange(1 << 16)
    numbers = random_numbers(3, counters)
    assert numbers.unique().numel() > 65000
    halves = torch.stack([numbers >> bit & 1 for bit in range(32)]).double().mean(1)
    assert float((halves - 0.5).abs().max()) < 0.01
    other = random_numbers(4, counters)
    same = torch.stack([(numbers ^ other) >> bit & 1 for bit in range(32)]).double().mean(1)
    assert float((same - 0.5).abs().max()) < 0.01
    got = P.random_blocks(16, density=0.3, seed=9).blocks(16 * 256, block=16).density
    assert abs(got - 0.3) < 0.01


def test_every_block_has_its_turn():
    rows = P.random_blocks(8, 3, seed=2).blocks(8 * 4000, 8 * 10, 8).kinds()[0, 0] == 2
    assert rows.sum(1).eq(3).all()
    share = rows.double().mean(0)
    assert float((share - 0.3).abs().max()) < 0.03


def test_a_large_count():
    rows = P.random_blocks(8, 60, seed=2).blocks(8 * 20, 8 * 64, 8).kinds()[0, 0] == 2
    assert rows.sum(1).eq(60).all()
    assert P.random_blocks(8, 99).blocks(80, 64, 8).counts == (80, 0)


PROGRAM = """
import torch
import gossamer as gs
torch.manual_seed({torch_seed})
torch.rand(100)
pattern = gs.patterns.bigbird(32, random=2, seed=11, by_head=True)
blocks = pattern.blocks({length}, block=32, heads=4)
print(hash(tuple(blocks.full_index.flatten().tolist())), blocks.full_count[0, :, 20].tolist())
"""


def test_other_processes_get_the_same():
    outputs = set()
    for torch_seed in (1, 2):
        program = PROGRAM.format(torch_seed=torch_seed, length=1024)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert "[" in outputs.pop()


@pytest.mark.parametrize("options", [{}, {"by_head": True}], ids=str)
def test_other_blocks_of_a_list_do_not_change_what_is_random(options):
    pattern = P.random_blocks(24, 2, seed=8, **options)
    first, *others = (pattern.blocks(500, 470, block, heads=2).to_dense() for block in (24, 64, (16, 128), 128))
    assert all(torch.equal(first, other) for other in others)


def test_seeds_differ():
    assert P.random_blocks(8, 2, seed=1) != P.random_blocks(8, 2, seed=2)
    masks = [P.random_blocks(8, 2, seed=seed).blocks(256).to_dense() for seed in (0, 1, 1 << 32, 1 << 63)]
    assert len({mask.numpy().tobytes() for mask in masks}) == 4
