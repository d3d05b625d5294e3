"""What a block list may not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gossamer.bitmaps import words_of
from gossamer.errors import TensorError
from gossamer.packed_checks import check_packed_entries, check_packed_shapes

if TYPE_CHECKING:
    from gossamer.blocks import BlockList

_PARTS = "partial_count", "partial_index", "partial_bits", "bits"


def check_shapes(blocks: BlockList) -> None:
    """Raises TensorError for dtypes, shapes and devices that do not go together; waits for nothing."""
    count, index = blocks.count, blocks.index
    if count.dtype != torch.int32 or index.dtype != torch.int32:
        raise TensorError(f"count and index of a block list are int32, not {count.dtype} and {index.dtype}")
    if count.dim() != 3 or index.dim() != 4 or count.shape != index.shape[:3]:
        raise TensorError(
            f"a block list has count [B, H, MB] and index [B, H, MB, max], not {list(count.shape)} and "
            f"{list(index.shape)}"
        )
    if count.device != index.device:
        raise TensorError(f"count is on {count.device}, index on {index.device}")
    number = -(-blocks.shape[0] // blocks.block[0])
    if count.shape[2] != number:
        raise TensorError(
            f"{blocks.shape[0]} queries in blocks of {blocks.block[0]} are {number} blocks, and count has "
            f"{count.shape[2]}"
        )
    _check_parts(blocks)
    check_packed_shapes(blocks)


def _check_parts(blocks: BlockList) -> None:
    parts = {name: getattr(blocks, name) for name in _PARTS}
    missing = [name for name, array in parts.items() if array is None]
    if len(missing) == len(parts):
        return
    if missing:
        raise TensorError(
            f"a block list with blocks that are allowed in part has {', '.join(_PARTS)}; {missing[0]} is None"
        )
    for name, array in parts.items():
        if array.dtype != torch.int32:
            raise TensorError(f"{name} of a block list is int32, not {array.dtype}")
        if array.device != blocks.count.device:
            raise TensorError(f"count is on {blocks.count.device}, {name} on {array.device}")
    count, index, numbers, bits = parts.values()
    if count.shape != blocks.count.shape:
        raise TensorError(
            f"partial_count is {list(count.shape)}, count {list(blocks.count.shape)}; both are [B, H, MB]"
        )
    if index.dim() != 4 or index.shape[:3] != count.shape or numbers.shape != index.shape:
        raise TensorError(
            f"partial_index and partial_bits are [B, H, MB, max] with {list(count.shape)} in front, not "
            f"{list(index.shape)} and {list(numbers.shape)}"
        )
    wanted = blocks.block[0], words_of(blocks.block[1])
    if bits.dim() != 3 or tuple(bits.shape[1:]) != wanted:
        raise TensorError(
            f"bits of blocks of {blocks.block[0]} x {blocks.block[1]} are [bitmaps, {wanted[0]}, {wanted[1]}], not "
            f"{list(bits.shape)}"
        )
    if bits.numel() >= 1 << 31:
        raise TensorError(f"{bits.shape[0]} bitmaps are {bits.numel()} words; a block list has less than 2^31")


def check_entries(blocks: BlockList) -> None:
    """Raises TensorError for counts, indices, bits and packed keys that are wrong; waits for the device, once if no
    keys are packed.
    """
    lists = [("index", blocks.count, blocks.index)]
    if blocks.partial_count is not None:
        assert blocks.partial_index is not None
        lists.append(("partial_index", blocks.partial_count, blocks.partial_index))
    columns = blocks.key_blocks
    found = [flag for _, count, index in lists for flag in _wrong(count, index, columns)]
    named = _wrong_bits(blocks, columns)
    flags = iter(torch.stack([wrong.any() for wrong in (*found, *named.values())]).tolist())
    for name, count, index in lists:
        _report(name, index, columns, _wrong(count, index, columns), [next(flags) for _ in range(3)])
    for message, is_wrong in zip(named, flags, strict=True):
        if is_wrong:
            raise TensorError(message)
    check_packed_entries(blocks)


def _wrong(count: Tensor, index: Tensor, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where counts, indices and their order are wrong."""
    width = index.shape[-1]
    used = torch.arange(width, device=index.device) < count[..., None]
    out_of_range = ((index < 0) | (index >= columns)) & used
    falls = (index[..., 1:] <= index[..., :-1]) & used[..., 1:]
    return (count < 0) | (count > width), out_of_range, falls


def _report(name: str, index: Tensor, columns: int, where: tuple[Tensor, ...], flags: list[bool]) -> None:
    _, out_of_range, falls = where
    if flags[0]:
        of = "count" if name == "index" else "partial_count"
        raise TensorError(f"a {of} of a block list is below 0 or above {index.shape[-1]}, the length of its lists")
    if flags[1]:
        at = out_of_range.nonzero()[0].tolist()
        raise TensorError(
            f"{name}{at} of a block list is {index[tuple(at)].item()}; there are {columns} blocks of keys"
        )
    if flags[2]:
        at = falls.nonzero()[0].tolist()
        at[-1] += 1
        raise TensorError(f"{name}{at} of a block list is repeated or not ascending")


def _wrong_bits(blocks: BlockList, columns: int) -> dict[str, Tensor]:
    """Where numbers of bitmaps are out of range, blocks in both lists, or keys allowed that do not exist."""
    if blocks.bits is None:
        return {}
    count, index, numbers, bits = (getattr(blocks, name) for name in _PARTS)
    used = torch.arange(index.shape[-1], device=index.device) < count[..., None]
    out_of_range = ((numbers < 0) | (numbers >= bits.shape[0])) & used
    seen = torch.zeros(*count.shape, columns + 1, dtype=torch.int32, device=count.device)
    for its_count, its_index in ((blocks.count, blocks.index), (count, index)):
        in_use = torch.arange(its_index.shape[-1], device=count.device) < its_count[..., None]
        # What is not in use, or wrong, counts in a column of its own.
        place = torch.where(in_use & (its_index >= 0) & (its_index < columns), its_index, columns)
        seen.scatter_add_(-1, place.long(), torch.ones_like(place))
    number = numbers.clamp(0, bits.shape[0] - 1).long()
    behind = {"keys": (columns - 1, blocks.packed_rows + blocks.shape[1])}
    if blocks.packed_keys is not None:
        behind["packed keys"] = (blocks.packed_rows // blocks.block[1] - 1, blocks.packed_keys.shape[-1])
    wrong = {
        f"a number of partial_bits of a block list is out of range; there are {bits.shape[0]} bitmaps": out_of_range,
        "a block of a block list is allowed as a whole and in part: it is in index and in partial_index": seen[..., :-1]
        > 1,
    }
    for what, (last, end) in behind.items():
        beyond = _is_beyond(bits, end - last * blocks.block[1])
        total = end - blocks.packed_rows if what == "keys" else end
        message = f"a bitmap of a block list allows {what} behind the last of {total}"
        wrong[message] = beyond[number] & used & (index == last)
    return wrong


def _is_beyond(bits: Tensor, inside: int) -> Tensor:
    """Which bitmaps have a bit behind the first so many columns."""
    words = torch.arange(bits.shape[2], device=bits.device)
    # An arithmetic shift of all ones leaves those from the first key that does not exist on.
    beyond = (torch.full_like(words, -1) << (inside - 32 * words).clamp(0, 63)).to(torch.int32)
    return (bits & beyond).ne(0).flatten(1).any(1)
