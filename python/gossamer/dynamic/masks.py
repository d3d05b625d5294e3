"""Lists of masks that are tensors, of buckets, and of the keys that each query has chosen."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gossamer.bitmaps import pack, unpack, words_of
from gossamer.blocks import BlockList
from gossamer.dynamic import kernels
from gossamer.dynamic.eager import eager
from gossamer.dynamic.entries import Block, Room, list_of_rule
from gossamer.dynamic.kernels.entries import marker, of_bits, of_buckets
from gossamer.errors import TensorError


@eager
def mask_blocks(mask: Tensor, *, block: int | Block, capacity: int | None = None) -> BlockList:
    """The list of a bool tensor that changes: made on its device without waiting for it.

    `gs.attention` takes such a tensor itself, and `gs.BlockList.of` makes a smaller list of it, for masks that stay:
    both wait for the device to know how many blocks there are. Here the capacity says so.

    Args:
        mask: bool [queries, keys], [H, queries, keys] or [B, H, queries, keys]: what is True is allowed. Dense, or of
            torch's COO or CSR layout.
        block: Rows and columns of a block: (queries, keys), or one number for both.
        capacity: How many blocks a row has room for of those that are allowed as a whole, and of those in part; each of
            the latter has a bitmap. None: for all. If a row has more, the list has the first ones, and
            `BlockList.check` raises.

    Raises:
        TensorError: A mask of another dtype, rank or layout; a capacity below 1, or of more bitmaps than a list has.
    """
    if mask.dtype != torch.bool or not 2 <= mask.dim() <= 4:
        raise TensorError(
            "a mask is bool, [queries, keys], [H, queries, keys] or [B, H, queries, keys], not "
            f"{mask.dtype} of shape {list(mask.shape)}"
        )
    room = Room.of(mask.shape[:-2], block, (mask.shape[-2], mask.shape[-1]), capacity, causal=False)
    if mask.layout == torch.strided:
        return _list_of_bits(room, pack(mask))
    if mask.layout not in (torch.sparse_coo, torch.sparse_csr) or mask.dense_dim():
        raise TensorError(f"a mask that is a tensor is dense, or COO or CSR of single entries, not {mask.layout}")
    rows, keys, values = _entries(mask)
    return _list_of_bits(room, _marked(room, rows, torch.where(values, keys, -1), 1))


@eager
def token_blocks(
    indices: Tensor, keys: int, *, block: int | Block, capacity: int | None = None, causal: bool = False
) -> BlockList:
    """The list of what single queries have chosen, as in sparse attention with an indexer (DSA): a key is seen by a
    query if its number is among the query's. Made on the device without waiting for it.

    Args:
        indices: int64 or int32 [queries, k], [H, queries, k] or [B, H, queries, k], in any order: the keys of each
            query, such as `scores.topk(k).indices`. What is below 0 or not below the number of keys is no key.
        keys: Their number.
        block: Rows and columns of a block: (queries, keys), or one number for both.
        capacity: As for `mask_blocks`.
        causal: Whether keys behind a query are left out.

    Raises:
        TensorError: As `mask_blocks` raises, or indices that are no integers.
    """
    if indices.dtype not in (torch.int64, torch.int32) or not 2 <= indices.dim() <= 4:
        raise TensorError(
            "the keys of queries are int64 or int32 [queries, k], [H, queries, k] or [B, H, queries, k], not "
            f"{indices.dtype} of shape {list(indices.shape)}"
        )
    room = Room.of(indices.shape[:-2], block, (indices.shape[-2], keys), capacity, causal)
    rows = torch.arange(math.prod(indices.shape[:-1]), device=indices.device)
    return _list_of_bits(room, _marked(room, rows, indices.reshape(-1).long(), indices.shape[-1]))


@eager
def bucket_blocks(
    queries: Tensor, keys: Tensor, *, block: int | Block, capacity: int | None = None, causal: bool = False
) -> BlockList:
    """The list of routing and hashing (Routing Transformer, Reformer): a query sees the keys of its own bucket.

    Blocks are of tokens that lie side by side. So the list is short where tokens of a bucket are: sort q, k and v by
    bucket (`ids.argsort(stable=True)`), and put the output back with the inverse. Then `causal` counts places of the
    sorted order. Made on the device without waiting for it.

    Args:
        queries, keys: int32 or int64 [queries] and [keys], [H, ...] or [B, H, ...]: the bucket of each, below 2^31. A
            query or key of a bucket below 0 sees nothing, or is not seen.
        block: Rows and columns of a block: (queries, keys), or one number for both.
        capacity: As for `mask_blocks`.
        causal: Whether keys behind a query are left out.

    Raises:
        TensorError: As `mask_blocks` raises, or buckets of other dtypes, or that do not go together.
    """
    for ids in (queries, keys):
        if ids.dtype not in (torch.int64, torch.int32) or not 1 <= ids.dim() <= 3:
            raise TensorError(
                "buckets are int32 or int64 [length], [H, length] or [B, H, length], not "
                f"{ids.dtype} of shape {list(ids.shape)}"
            )
    if queries.shape[:-1] != keys.shape[:-1] or queries.device != keys.device:
        raise TensorError(
            f"buckets of queries {list(queries.shape)} on {queries.device} and of keys {list(keys.shape)} on "
            f"{keys.device} do not go together"
        )
    room = Room.of(queries.shape[:-1], block, (queries.shape[-1], keys.shape[-1]), capacity, causal)
    queries, keys = (ids.to(torch.int32).contiguous() for ids in (queries, keys))

    def dense() -> Tensor:
        return (queries[..., :, None] == keys[..., None, :]) & (queries >= 0)[..., None]

    return list_of_rule(room, of_buckets(causal), [], [queries, keys], dense, queries.device)


def _entries(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a sparse tensor the row of each entry, counted through all matrices, the key and the value."""
    if mask.layout == torch.sparse_coo:
        *lead, keys = mask._indices()
        row = torch.zeros_like(keys)
        for size, at in zip(mask.shape, lead, strict=False):
            row = row * size + at
        return row, keys, mask._values()
    keys, values = mask.col_indices().reshape(-1), mask.values().reshape(-1)
    counts = mask.crow_indices().diff().reshape(-1)
    row = torch.arange(counts.numel(), device=mask.device)
    return row.repeat_interleave(counts.long(), output_size=keys.numel()), keys.long(), values


def _marked(room: Room, rows: Tensor, keys: Tensor, each: int) -> Tensor:
    """The bits of a mask, int32 [..., words], of its entries: of every `each` keys a row."""
    lines, words = room.lead[0] * room.lead[1] * room.shape[0], words_of(room.shape[1])
    if kernels.take(keys):
        mask = torch.zeros(lines, words, dtype=torch.int32, device=keys.device)
        marker()([keys.numel(), each, lines, words, room.shape[1]], rows, keys.contiguous(), mask)
        return mask
    is_key = (keys >= 0) & (keys < room.shape[1])
    dense = torch.zeros(lines, room.shape[1], dtype=torch.bool, device=keys.device)
    dense[rows.repeat_interleave(each)[is_key], keys[is_key]] = True
    return pack(dense)


def _list_of_bits(room: Room, bits: Tensor) -> BlockList:
    words = bits.shape[-1]
    return list_of_rule(room, of_bits(room.causal), [words], [bits], lambda: unpack(bits, room.shape[1]), bits.device)
