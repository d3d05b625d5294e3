"""What the packed keys of a block list may not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gossamer.block_states import NOTHING, entries_of, keys_of, states_of
from gossamer.errors import TensorError

if TYPE_CHECKING:
    from gossamer.blocks import BlockList

# Blocks of packed keys that are looked into at a time: some bytes an entry while that is done.
_AT_ONCE = 1 << 9


def check_packed_shapes(blocks: BlockList) -> None:
    """Raises TensorError for a dtype, shape or device that does not go with the list; waits for nothing."""
    keys = blocks.packed_keys
    if keys is None:
        return
    if keys.dtype != torch.int32 or keys.dim() != 3:
        raise TensorError(f"packed_keys of a block list are int32 [B, H, keys], not {keys.dtype} {list(keys.shape)}")
    if keys.device != blocks.count.device:
        raise TensorError(f"count is on {blocks.count.device}, packed_keys on {keys.device}")
    batch, heads, _ = blocks.count.shape
    if keys.shape[0] not in (1, batch) or not keys.shape[1] or heads % keys.shape[1]:
        raise TensorError(
            f"packed_keys are of (batch, heads) {tuple(keys.shape[:2])}, which do not go with a count of "
            f"{(batch, heads)}: batches are as many or one, and heads share packed keys in groups of one size"
        )


def check_packed_entries(blocks: BlockList) -> None:
    """Raises TensorError for keys that are wrong in a list that is right otherwise; waits for the device."""
    keys = blocks.packed_keys
    if keys is None or not keys.shape[-1]:
        return
    last = blocks.packed_rows // blocks.block[1] - 1
    used = torch.arange(blocks.index.shape[-1], device=keys.device) < blocks.count[..., None]
    wrong = {
        f"a packed key of a block list is out of range; there are {blocks.shape[1]} keys": (keys < 0)
        | (keys >= blocks.shape[1]),
        "packed_keys of a block list are repeated or not ascending": keys[..., 1:] <= keys[..., :-1],
        f"block {last} of the packed keys of a block list has keys that do not exist: it is one that is allowed in "
        "part, and not in index": used & (blocks.index == last) & (keys.shape[-1] % blocks.block[1] != 0),
    }
    flags = torch.stack([flag.any() for flag in wrong.values()]).tolist()
    for message, is_wrong in zip(wrong, flags, strict=True):
        if is_wrong:
            raise TensorError(message)
    if _is_seen_twice(blocks):
        raise TensorError("a query of a block list sees a key twice: packed, and in the key's own block")


def _is_seen_twice(blocks: BlockList) -> bool:
    columns = blocks.block[1]
    first = blocks.packed_rows // columns
    states = states_of(blocks).flatten(0, 1)
    found = (states[..., :first] != NOTHING).nonzero()
    places = torch.arange(columns, device=states.device)
    for part in found.split(_AT_ONCE):
        matrix, row, column = (x[:, None] for x in part.unbind(1))
        key = keys_of(blocks, matrix, column * columns + places)
        own = states[matrix, row, first + key.clamp(min=0) // columns]
        own = torch.where(key >= 0, own, NOTHING)
        packed = entries_of(blocks, states[matrix, row, column].expand_as(own), places.expand_as(own))
        if bool((packed & entries_of(blocks, own, key % columns)).any()):
            return True
    return False
