"""Bits of blocks: packed 32 to a word, and blocks of the same bits found."""

from __future__ import annotations

import torch
from torch import Tensor

_ODD = 0x9E3779B97F4A7C15 - (1 << 64)


def packed(allowed: Tensor) -> Tensor:
    """Packs bool [..., columns] to int32 [..., ceil(columns / 32)], the first column in the lowest bit."""
    columns = allowed.shape[-1]
    words = -(-columns // 32)
    allowed = torch.nn.functional.pad(allowed, (0, words * 32 - columns)).reshape(*allowed.shape[:-1], words, 4, 8)
    octets = allowed.view(torch.uint8)
    total = octets[..., 0].clone(memory_format=torch.contiguous_format)
    for bit in range(1, 8):
        total |= octets[..., bit] << bit
    return total.view(torch.int32).squeeze(-1)


def unpacked(bits: Tensor, columns: int) -> Tensor:
    """Returns bool [..., columns] of words as `packed` makes them."""
    places = torch.arange(32, device=bits.device, dtype=torch.int32)
    return ((bits[..., None] >> places) & 1).bool().flatten(-2)[..., :columns]


def count_ones(bits: Tensor) -> Tensor:
    """Returns how many bits are set in each row (along the first dimension) of int32 words: int64."""
    # Of a word the ones in pairs of bits, in fours, in octets, all at once; then the sum of the four octets.
    pairs = bits - ((bits >> 1) & 0x55555555)
    fours = (pairs & 0x33333333) + ((pairs >> 2) & 0x33333333)
    octets = (fours + (fours >> 4)) & 0x0F0F0F0F
    words = octets.view(torch.uint8).flatten(1)
    return words.sum(1, dtype=torch.int64)


def distinct_rows(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the rows (along the first dimension) that differ, and for each row given which of these it is: int64."""
    count = bits.shape[0]
    if count <= 1:
        return bits, torch.arange(count, device=bits.device)
    flat = bits.reshape(count, -1).long()
    weights = (torch.arange(flat.shape[1], device=bits.device) * 2 + 1) * _ODD  # sums wrap round in 64 bits
    hashes = ((flat + 1) * (weights ^ (weights >> 29))).sum(1)
    _, ids = hashes.unique(return_inverse=True)
    first = first_of(ids)
    if bool((flat == flat[first[ids]]).all()):
        return bits[first], ids
    rows, ids = flat.unique(dim=0, return_inverse=True)  # two that differ had one hash
    return rows.to(torch.int32).reshape(-1, *bits.shape[1:]), ids


def first_of(ids: Tensor) -> Tensor:
    """Returns for each of the numbers 0, 1, ... the first place that it is at."""
    count = int(ids.max()) + 1 if ids.numel() else 0
    places = torch.arange(ids.numel(), device=ids.device)
    return torch.full((count,), ids.numel(), device=ids.device).scatter_reduce(0, ids, places, "amin")


def distinct_columns(columns: list[Tensor]) -> Tensor:
    """Returns a number for each row of a table given by its int64 columns; equal rows have the same one.

    The numbers are 0, 1, ...
    """
    ids = torch.zeros_like(columns[0])
    for column in columns:
        values, inverse = column.unique(return_inverse=True)
        if values.numel() > 1:
            _, ids = (ids * values.numel() + inverse).unique(return_inverse=True)
    return ids
