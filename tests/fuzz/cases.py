"""Drawing signatures and cases, and what a case's operands are."""

import itertools
import json
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

import gossamer as gs
from gossamer.tensor import dims_of_level_view, level_view

from .operations import OPERATIONS, Operation
from .storage import NAMED, Storage, random_format, structured, unit, with_widths

SIZES = (0, 2, 3, 5, 7, 8, 13, 16, 17, 31, 32, 61, 63, 64, 65, 67, 97, 127, 131)
SMALL = (0, 2, 3, 5, 7, 8, 17)  # of further dimensions of a tensor
WIDE = (256, 259, 320, 517)  # now and then, of what only dense operands have: rows wider than a tile of registers
LARGEST = 140  # of a dimension in blocks, where more than one block fits
FILLS = ("random", "empty", "one entry", "empty rows", "full rows", "full", "diagonal", "long row")
VALUES = ("normal", "normal", "integers", "zeros", "special")


@dataclass(frozen=True)
class Signature:
    """What is compiled once.

    Attributes:
        operation: Its name.
        format: The map of the sparse operand.
        pos_width, crd_width: Bits of its indices.
        dtype: Of the operands.
        ones: The letters whose size is 1.
        threads: How many the kernel may use.
        target: For a conversion the map to convert to.
        other: The map of the second sparse operand, if there is one.
    """

    operation: str
    format: str
    pos_width: int
    crd_width: int
    dtype: str
    ones: str = ""
    threads: int = 1
    target: str = ""
    other: str = ""

    @property
    def storage(self) -> Storage:
        """The format and the widths."""
        return Storage(gs.Format(self.format), self.pos_width, self.crd_width)


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        signature: What is called.
        sizes: Letter -> size.
        pattern: One of `FILLS`.
        density: Of random patterns.
        values: One of `VALUES`.
        seed: Of the pattern and the values.
    """

    signature: Signature
    sizes: dict[str, int]
    pattern: str
    density: float
    values: str
    seed: int

    def dumps(self) -> str:
        """As text, for `python -m tests.fuzz --case`."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Case":
        """The case that `dumps` wrote."""
        fields = json.loads(text)
        return cls(Signature(**fields.pop("signature")), **fields)


def signatures(seed: int) -> Iterator[Signature]:
    """Endless, the same for the same seed: all operations in turn, each with all formats in turn."""
    rng = random.Random(f"signatures {seed}")
    rounds = {name: _formats(rng, len(OPERATIONS[name].sparse)) for name in OPERATIONS}
    dtypes = {name: itertools.cycle(rng.sample(o.dtypes, len(o.dtypes))) for name, o in OPERATIONS.items()}
    while True:
        for name in rng.sample(list(OPERATIONS), len(OPERATIONS)):
            operation = OPERATIONS[name]
            pos_width, crd_width = rng.choice([(32, 32), (32, 32), (64, 64), (64, 32), (32, 64)])
            ones = rng.choice(operation.letters) if operation.ones and rng.random() < 0.15 else ""
            if ones and rng.random() < 0.3:
                ones += rng.choice(operation.letters)
            format = next(rounds[name])
            ones = "".join(c for c in dict.fromkeys(ones) if _unit(operation, format, c) == 1)
            dtype, threads = next(dtypes[name]), 2 if rng.random() < 0.1 else 1
            target = "" if operation.compiled else str(_target(rng, operation, format, ones))
            other = str(_other(rng, operation, format)) if operation.other else ""
            yield Signature(name, str(format), pos_width, crd_width, dtype, ones, threads, target, other)


def _formats(rng: random.Random, rank: int) -> Iterator[gs.Format]:
    """All named formats in a random order, a random one after every third of them, and again."""
    while True:
        for number, format in enumerate(rng.sample(list(NAMED[rank].values()), len(NAMED[rank]))):
            yield format
            if number % 3 == 0:
                yield random_format(rng, rank)


def _unit(operation: Operation, format: gs.Format, letter: str) -> int:
    # A second operand has the same blocks, or none.
    dims = [d for letters in (operation.sparse, operation.other) for d, own in enumerate(letters) if own == letter]
    return math.lcm(1, *(unit(format, d) for d in dims))


def cases(signature: Signature, seed: str) -> Iterator[Case]:
    """Endless, the same for the same seed."""
    rng = random.Random(f"{seed} {signature}")
    operation = OPERATIONS[signature.operation]
    while True:
        sizes = {letter: _size(rng, operation, signature, letter) for letter in operation.letters}
        values = rng.choice(VALUES)
        if values == "special" and not (operation.special and signature.dtype.endswith(("16", "32", "64"))):
            values = "normal"
        yield Case(
            signature=signature,
            sizes=sizes,
            pattern=rng.choice(("random", "random", *FILLS)),
            density=rng.choice((0.02, 0.1, 0.3, 0.7)),
            values=values,
            seed=rng.randrange(2**31),
        )


_SINGLE = (gs.CSR, gs.CSC, gs.COO, gs.DCSR, gs.DCSC)  # store what they are given and nothing more


def _target(rng: random.Random, operation: Operation, format: gs.Format, ones: str) -> gs.Format:
    """What a conversion converts to: formats that hold any pattern, and that the format can take one back from."""
    rank = len(operation.sparse)
    if structured(format):
        return rng.choice(_SINGLE).for_rank(rank)
    while True:
        target = random_format(rng, rank) if rng.random() < 0.2 else rng.choice(list(NAMED[rank].values()))
        units = [unit(target, d) for d in range(target.dim_rank)]
        fits = not ones or all(size == 1 for size in units)
        own = math.lcm(*units, *(unit(format, d) for d in range(format.dim_rank)))
        if fits and own <= 3 * LARGEST and not structured(target) and (not target.batch_rank or format.batch_rank):
            return target


def _other(rng: random.Random, operation: Operation, format: gs.Format) -> gs.Format:
    """The same format, or for one that stores entries one by one another that does."""
    if any(unit(format, d) > 1 for d in range(format.dim_rank)) or rng.random() < 0.3:
        return format
    return rng.choice(_SINGLE).for_rank(len(operation.other))


def _size(rng: random.Random, operation: Operation, signature: Signature, letter: str) -> int:
    if letter in signature.ones:
        return 1
    multiple = _unit(operation, gs.Format(signature.format), letter)
    if signature.target:
        target = gs.Format(signature.target)
        multiple = math.lcm(multiple, *(unit(target, d) for d in range(target.dim_rank)))
    pool = SMALL[:5] if letter in "bhl" else SIZES
    if letter in "de" or (len(operation.letters) > 4 and letter not in operation.sparse):
        pool = (*SMALL, 16, 33)
    elif letter not in operation.sparse + operation.other and rng.random() < 0.05:
        return rng.choice(WIDE)
    if letter in operation.filled:
        pool = pool[1:]
    return multiple * rng.choice([size for size in pool if size * multiple <= LARGEST or size <= 3])


@dataclass(frozen=True)
class Operands:
    """What a case computes with.

    Attributes:
        stored: The sparse operand.
        keep: Which entries it stores: bool, of its shape.
        entries: The same as a dense tensor.
        dense: The dense operands, by name.
        second: The second sparse operand, its entries as a dense tensor, and which it stores.
    """

    stored: gs.SparseTensor
    keep: Tensor
    entries: Tensor
    dense: dict[str, Tensor]
    second: tuple[gs.SparseTensor, Tensor, Tensor] | None = None

    @property
    def arguments(self) -> list[gs.SparseTensor]:
        """The sparse operands."""
        return [self.stored] if self.second is None else [self.stored, self.second[0]]

    @property
    def sparse_entries(self) -> list[Tensor]:
        """The same as dense tensors."""
        return [self.entries] if self.second is None else [self.entries, self.second[1]]

    def to(self, device: torch.device) -> "Operands":
        """Returns the operands as a function takes them on a device: these, if they are there."""
        if device.type == "cpu":
            return self
        stored, *second = (a.detach().to(device).requires_grad_(a.requires_grad) for a in self.arguments)
        dense = {name: d.detach().to(device).requires_grad_(d.requires_grad) for name, d in self.dense.items()}
        others = None if self.second is None else (second[0], *self.second[1:])
        return Operands(stored, self.keep, self.entries, dense, others)


def operands(case: Case) -> Operands:
    """Makes the operands of a case."""
    operation, storage = OPERATIONS[case.signature.operation], case.signature.storage
    generator = torch.Generator().manual_seed(case.seed)
    dtype = getattr(torch, case.signature.dtype)
    own = getattr(torch, operation.stores) if operation.stores else dtype
    stored, entries, kept = _sparse(case, operation.sparse, storage, own, generator)
    second = None
    if operation.other:
        other = replace(storage, format=gs.Format(case.signature.other))
        second = _sparse(case, operation.other, other, own, generator)
        if operation.backward:
            second[0].requires_grad_()
    if operation.backward and own.is_floating_point:
        stored.requires_grad_()
    style = "normal" if case.values in ("zeros", "special") else case.values
    dense = {
        name: _values(style, [case.sizes[c] for c in letters], dtype, generator).requires_grad_(operation.backward)
        for name, letters in operation.dense.items()
    }
    return Operands(stored, kept, entries, dense, second)


def _sparse(
    case: Case, letters: str, storage: Storage, dtype: torch.dtype, generator: torch.Generator
) -> tuple[gs.SparseTensor, Tensor, Tensor]:
    """A sparse operand, its entries as a dense tensor, and which of them it stores."""
    fill = OPERATIONS[case.signature.operation].fill
    shape = tuple(case.sizes[letter] for letter in letters)
    keep = _pattern(case, shape, storage.format, generator)
    values = _values(case.values, shape, dtype, generator)
    stored = gs.sparsify(values, storage.format, by=lambda _: keep, fill=fill)
    stored = with_widths(stored, storage.pos_width, storage.crd_width)
    kept = _whole_blocks(keep, storage.format)
    if structured(storage.format):  # groups are filled up
        kept = stored.with_values(torch.ones_like(stored.values), 0).to_dense().bool()
        return stored, stored.to_dense(), kept
    return stored, values.masked_fill(~kept, fill), kept


def _whole_blocks(keep: Tensor, format: gs.Format) -> Tensor:
    """What a format stores that stores this: dense levels after its last sparse one hold all entries."""
    if not format.outer:
        return torch.ones_like(keep)
    levels = level_view(keep, format)
    inner = tuple(range(format.outer, format.lvl_rank))
    blocks = levels.any(inner, keepdim=True).expand(levels.shape) if inner and levels.numel() else levels
    return dims_of_level_view(blocks, format, keep.shape)


def _pattern(case: Case, shape: tuple[int, ...], format: gs.Format, generator: torch.Generator) -> Tensor:
    """Which entries to store at least: bool."""
    own = shape[format.batch_rank :]  # batches store equally many entries: the same ones
    keep = _filled(case, own, generator)
    if numbers := structured(format):
        keep &= _largest_of_groups(torch.rand(own, generator=generator), *numbers)
    return keep.expand(shape).clone()


def _filled(case: Case, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    random_keep = torch.rand(shape, generator=generator) < case.density
    if case.pattern == "empty" or not random_keep.numel():
        return torch.zeros(shape, dtype=torch.bool)
    if case.pattern == "one entry":
        at = torch.randint(random_keep.numel(), (1,), generator=generator)
        return torch.zeros(random_keep.numel(), dtype=torch.bool).index_fill(0, at, True).view(shape)
    rows = torch.rand(shape[:-1], generator=generator) < 0.5
    if case.pattern == "empty rows":
        return random_keep & rows[..., None]
    if case.pattern == "full rows":
        return rows[..., None].expand(shape).clone()
    if case.pattern == "full":
        return torch.ones(shape, dtype=torch.bool)
    if case.pattern == "diagonal":
        return (
            torch.eye(shape[-2], shape[-1], dtype=torch.bool).expand(shape).clone() if len(shape) > 1 else random_keep
        )
    if case.pattern == "long row":
        random_keep &= torch.rand(shape, generator=generator) < 0.1
        random_keep.view(-1, shape[-1])[-1] = True
    return random_keep


def _largest_of_groups(priority: Tensor, n: int, m: int) -> Tensor:
    groups = priority.unflatten(-1, (priority.shape[-1] // m, m))
    return (groups.argsort(-1).argsort(-1) < n).reshape(priority.shape)


def _values(style: str, shape: tuple[int, ...] | list[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if style == "zeros":
        return torch.zeros(shape, dtype=dtype)
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.7
    if not dtype.is_floating_point:
        return torch.randint(-100, 100, shape, generator=generator).to(dtype)
    if style == "integers":
        return torch.randint(-4, 5, shape, generator=generator).to(dtype)
    values = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    if style == "special":
        for number in (math.nan, math.inf, -math.inf):
            values.masked_fill_(torch.rand(shape, generator=generator) < 0.01, number)
    return values
