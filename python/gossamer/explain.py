"""`gs.explain`: what a call did, and why. `gs.dump`: the code of every stage as text."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gossamer.attention import attention, attention_kind, attention_road
from gossamer.engine import Call, Conversion
from gossamer.errors import UnsupportedError, suggest
from gossamer.execute import RegionKernel
from gossamer.jit import engine_of
from gossamer.runtime.tiles import CHIP, Kind, kernel_of
from gossamer.tensor import SparseTensor

STAGES = ("import", "annotate", "raise", "lower", "llvm", "ptx", "asm")


_ORIGINS = {"compiled": "compiled (cache miss)", "disk": "from disk (cache hit)", "memory": "in memory (cache hit)"}


@dataclass(frozen=True)
class RegionReport:
    """One region.

    Attributes:
        operations: the PyTorch operations that it holds.
        inputs: its sparse inputs, described.
        road: what became of it: lines such as "gossamer.attention: general road (why)".
        origin: where its kernel came from: "compiled" (a cache miss), "disk" or "memory" (hits), or why there is none.
        milliseconds: what getting the kernel took.
    """

    operations: tuple[str, ...]
    inputs: tuple[str, ...]
    road: tuple[str, ...]
    origin: str
    milliseconds: float


@dataclass(frozen=True)
class Explanation:
    """What one call did; `str()` of it is a report.

    Attributes:
        regions: the compiled parts, in order.
        inputs: the sparse arguments and parameters, described.
        conversions: arguments that were stored anew in this call, with the cost.
        fallbacks: operation -> why it ran in PyTorch on dense tensors.
        backward: the compiled parts of the backward, as far as one has run.
        warnings: all fallbacks that this function has warned about so far.
        traced: whether this call had to be traced (else its program was there).
        trace_ms: what tracing and cutting took.
        run_ms: what the call itself took, compilation of regions included.
    """

    regions: tuple[RegionReport, ...]
    inputs: tuple[str, ...]
    conversions: tuple[Conversion, ...]
    fallbacks: dict[str, str]
    backward: tuple[RegionReport, ...] = ()
    warnings: dict[str, str] = field(default_factory=dict)
    traced: bool = False
    trace_ms: float = 0.0
    run_ms: float = 0.0

    def __str__(self) -> str:
        how = f"traced and cut in {self.trace_ms:.0f} ms" if self.traced else "program from an earlier call"
        lines = [f"{len(self.regions)} region(s), {how}; the call took {self.run_ms:.2f} ms"]
        lines += _section("sparse inputs", self.inputs)
        lines += _section(
            "stored anew in this call", [f"{c.name}: {c.what}, {c.milliseconds:.2f} ms" for c in self.conversions]
        )
        lines += _described_regions("region", self.regions)
        lines += _described_regions("backward region", self.backward)
        fallbacks = [f"{operation}: {reason}" for operation, reason in self.fallbacks.items()]
        lines += _section("in PyTorch on dense tensors", fallbacks)
        lines += _section("gradients", [text for topic, text in self.warnings.items() if "backward" in topic])
        return "\n".join(lines)


def _described_regions(name: str, regions: Sequence[RegionReport]) -> list[str]:
    lines = []
    for numbers, region in _alike(regions):
        title = f"{name} {numbers[0]}" if len(numbers) == 1 else f"{name}s {', '.join(map(str, numbers))}"
        lines.append(f"{title}: {', '.join(region.operations)}")
        lines += [f"    {line}" for line in (*region.inputs, *region.road)]
        lines.append(f"    kernel: {_ORIGINS.get(region.origin, region.origin)} in {region.milliseconds:.1f} ms")
    return lines


def _alike(regions: Sequence[RegionReport]) -> list[tuple[list[int], RegionReport]]:
    """Regions that differ in the names of their inputs only, as those of a model's layers."""
    groups: dict[Any, tuple[list[int], RegionReport]] = {}
    for number, region in enumerate(regions):
        formats = [text.partition(": ")[2] for text in (*region.inputs, *region.road)]
        groups.setdefault((region.operations, tuple(formats)), ([], region))[0].append(number)
    return list(groups.values())


def explain(f: Any, *args: Any, **kwargs: Any) -> Explanation:
    """Calls `f` and says what happened: which parts were compiled, on which road, what was stored anew, what fell back.

    Args:
        f: What `sparse_jit` returned; a plain function or module is taken as if it were decorated bare.
        args, kwargs: Its arguments.

    Returns:
        The report; its fields hold what `str()` of it prints.
    """
    if f is attention:
        return _explain_attention(*args, **kwargs)
    engine = engine_of(f)
    call = Call()
    engine.run(args, kwargs, call)
    program = call.program
    assert program is not None
    return Explanation(
        regions=tuple(_region(kernel) for kernel in program.kernels),
        inputs=tuple(
            _described(leaf.name, value)
            for leaf, value in zip(program.trace.leaves, call.leaves, strict=True)
            if isinstance(value, SparseTensor)
        ),
        conversions=tuple(call.conversions),
        fallbacks=dict(program.fallbacks),
        backward=tuple(_region(made) for kernel in program.kernels for made in kernel.backward_kernels()),
        warnings=dict(engine.warn.said),
        traced=call.was_traced,
        trace_ms=program.milliseconds,
        run_ms=call.milliseconds,
    )


def dump(f: Any, *args: Any, stage: str = "annotate", target: str = "native", **kwargs: Any) -> str:
    """Returns the code of the regions of `f` for these arguments, after one stage; runs nothing.

    Args:
        f: As in `explain`.
        args, kwargs: Its arguments; they may be on the meta device.
        stage: "import" (linalg from torch-mlir), "annotate" (with encodings), "raise" (the gossamer dialect), "lower"
            (LLVM dialect), "llvm", "asm", or "ptx".
        target: "native", a processor ("znver4"), or an NVIDIA chip ("sm_90a"): no GPU is needed.

    Raises:
        UnsupportedError: There is no such stage, or no code for such a target yet.
    """
    if stage not in STAGES:
        raise UnsupportedError(f"no stage {stage!r}{suggest(stage, STAGES)} (there are {', '.join(STAGES)})")
    if f is attention:
        return _dump_attention(stage, target, *args, **kwargs)
    program = engine_of(f).program(args, kwargs)
    texts = [_text(kernel, stage, target) for kernel in program.kernels]
    if len(texts) == 1:
        return texts[0]
    return "\n".join(f"// region {number}\n{text}" for number, text in enumerate(texts))


def _explain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Any = None, **options: Any) -> Explanation:
    start = time.perf_counter()
    attention(q, k, v, mask, **options)
    taken = (time.perf_counter() - start) * 1e3
    kind, reason = attention_road(q, k, v, mask, **options)
    inputs = (_described("mask", mask),) if isinstance(mask, SparseTensor) else ()
    if kind is None:
        road, origin = _no_tiles(reason), "compiled as a region of sparse_jit, or PyTorch's own attention"
        if options.get("score_mod") is not None:
            origin = "PyTorch, with all scores in memory, as they go through a function"
        return Explanation((RegionReport(("attention",), (), (road,), origin, 0.0),), inputs, (), {}, run_ms=taken)
    return Explanation((_tile_report(("attention",), (), kind),), inputs, (), {}, run_ms=taken)


def _tile_report(operations: tuple[str, ...], inputs: Sequence[str], kind: Kind) -> RegionReport:
    kernel = kernel_of(kind)
    road = (f"tile.attention: fast road ({kind})",)
    return RegionReport(operations, tuple(inputs), road, kernel.origin, kernel.milliseconds)


def _no_tiles(reason: str) -> str:
    return f"tile.attention: no, {reason}"


def _dump_attention(stage: str, target: str, q: Tensor, k: Tensor, v: Tensor, mask: Any = None, **options: Any) -> str:
    from gossamer.compiler.compile import emit

    chip = target if target.startswith("sm_") else CHIP
    kind, reason = attention_kind(q, k, v, mask, **options, chip=chip)
    if kind is None:
        raise UnsupportedError(f"there is no tile program for these arguments: {reason}")
    if stage in ("import", "annotate"):
        return kind.text()
    if target != chip:
        raise UnsupportedError(f"tile programs are made for NVIDIA GPUs ('{CHIP}', 'sm_80', ...), not for {target!r}")
    return emit(kind.text(), stage, target)


def _text(kernel: RegionKernel, stage: str, target: str) -> str:
    if stage == "import":
        return kernel.region.imported()
    text = kernel.region.text()
    if stage == "annotate":
        return text
    from gossamer.compiler.compile import emit

    return emit(text, stage, target)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}:", *(f"    {line}" for line in lines)] if lines else []


def _described(name: str, tensor: SparseTensor) -> str:
    fill = f", fill {tensor.fill}" if tensor.fill else ""
    shape = "x".join(map(str, tensor.shape))
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"{name}: {shape} {dtype}, {tensor.format}, {tensor.density:.2%} stored{fill}"


def _region(kernel: RegionKernel) -> RegionReport:
    region = kernel.region
    inputs = [f"{i.name}: {i.stored.format}, fill {i.stored.fill}" for i in region.inputs if i.stored is not None]
    if kernel.tiles is not None and kernel.tiles.kind is not None and not kernel.tiles.reason:
        return _tile_report(_operations(kernel), inputs, kernel.tiles.kind)
    if kernel.backend == "reference":
        return _report(kernel, inputs, [], "none (backend='reference' runs it densely)")
    if kernel.refused is not None:
        return _report(kernel, inputs, [], f"none, it runs densely: {kernel.refused.splitlines()[0]}")
    road: list[str] = [] if kernel.tiles is None else [_no_tiles(kernel.tiles.reason)]
    for compiled in kernel.compiled.values():
        for entry in compiled.signature.report:
            road.append(f"{entry.op}: {entry.road} road{f' ({entry.why})' if entry.why else ''}")
        for number, old, new, why in compiled.costs.conversions:
            by = f", by PyTorch operations: {why}" if why else ""
            road.append(f"{region.inputs[number].name}: {old} is stored as {new} for the kernel, once a pattern{by}")
    return _report(kernel, inputs, road, ", ".join(dict.fromkeys(kernel.origins)) or "not needed yet")


def _report(kernel: RegionKernel, inputs: list[str], road: list[str], origin: str) -> RegionReport:
    return RegionReport(_operations(kernel), tuple(inputs), tuple(dict.fromkeys(road)), origin, kernel.compile_ms)


def _operations(kernel: RegionKernel) -> tuple[str, ...]:
    return tuple(name.removeprefix("aten.") for name in kernel.region.operations())
