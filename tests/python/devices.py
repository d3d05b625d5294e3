"""`pytest --device cuda`: the tests' own tensors on another device, from the same random numbers."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import gossamer as gs

HERE = str(Path(__file__).parent)
TORCH = str(Path(torch.__file__).parent)

# What makes a tensor out of none.
_FACTORIES = {
    torch.arange, torch.as_tensor, torch.empty, torch.empty_strided, torch.eye, torch.from_numpy, torch.full,
    torch.linspace, torch.logspace, torch.ones, torch.rand, torch.randint, torch.randn, torch.randperm, torch.tensor,
    torch.tril_indices, torch.zeros,
}  # fmt: skip

_PATTERNS = "finds its blocks on the CPU; tests/gpu/test_pattern_lists.py has those of a GPU"
# Why a file is not run with tensors on a GPU.
ABOUT_THE_CPU = {
    "test_cache.py": "is about files and processes",
    "test_conversion_kernels.py": "is about the CPU's kernels; tests/gpu/test_conversions.py has those of a GPU",
    "test_cuda_driver.py": "is about a driver that is not there",
    "test_device_math.py": "runs the GPU's functions on the CPU",
    "test_docs.py": "is about the CPU's code",
    "test_dynamic_example.py": "runs an example, which has a --device of its own",
    "test_dynamic_lists.py": "makes its lists on the CPU; tests/gpu/test_dynamic_patterns.py has those of a GPU",
    "test_engine.py": "is about the CPU's code",
    "test_errors.py": "makes no tensors",
    "test_formats.py": "makes no tensors",
    "test_frontend_contract.py": "is about the text of regions",
    "test_frontend_fills.py": "is about the text of regions",
    "test_frontend_pointwise.py": "is about the text of regions",
    "test_gpu_code.py": "is about code for any GPU",
    "test_gpu_conversion_code.py": "runs the GPU's kernels on the CPU",
    "test_kernel_call.py": "is about how the CPU's kernels are called",
    "test_lean_trace.py": "is about processes",
    "test_partial_blocks.py": "makes its lists on the CPU; tests/gpu/test_tile_masks.py has those of a GPU",
    "test_pattern_blocks.py": _PATTERNS,
    "test_pattern_deepspeed.py": _PATTERNS,
    "test_pattern_functions.py": _PATTERNS,
    "test_pattern_masks.py": _PATTERNS,
    "test_pattern_random.py": _PATTERNS,
    "test_patterns.py": _PATTERNS,
    "test_score.py": "captures tensors of the CPU; tests/gpu/test_score_functions.py has those of a GPU",
    "test_short_calls.py": "is about how the CPU's kernels are called",
    "test_static_pattern.py": "runs an example, which has a --device of its own",
    "test_support.py": "makes no tensors",
    "test_tile_host.py": "is about the CPU's code; tests/gpu/test_tile_attention.py has a GPU's",
    "test_tile_host_backward.py": "is about the CPU's code; tests/gpu/test_tile_gradients.py has a GPU's",
    "test_tile_programs.py": "is about the CPU's code",
    "test_tile_scores.py": "is about the CPU's code; tests/gpu/test_score_functions.py has a GPU's",
    "test_torch_mlir_list.py": "is about the text of regions",
    "test_upstream_faults.py": "is about the text of regions",
}

# Single tests of that kind.
_OF_THE_CPU = {
    "test_all_variants": "makes its model on the CPU; the example has a --device of its own",
    "test_autocast": "is about the CPU's autocast",
    "test_bad_arrays[<lambda>-are on meta, others on cpu]": "names the CPU",
    "test_block_masks_with_functions": "has masks of flex_attention on the CPU",
    "test_devices": "moves what is on the CPU",
    "test_explain_says_why_not": "names the CPU",
    "test_operands_that_do_not_fit_each_other": "names the CPU",
    "test_scipy_has_no_such_array": "is about scipy, which is asked about what is on the CPU",
    "test_to_takes_formats_dtypes_and_devices_in_any_order": "moves what is on the CPU",
    "test_transformers_bert": "makes its model on the CPU",
    "test_values_that_do_not_belong[<lambda>-values are on meta and the pattern on cpu]": "names the CPU",
    "test_what_a_pattern_says_of_itself": "has the text of one on the CPU",
    "test_what_a_tensor_says_of_itself": "has the text of one on the CPU",
    "test_what_does_not_go_together": "names the CPU",
    "test_what_has_no_code": "is about what runs on no GPU",
    "test_wide_indices_stay_wide_in_scipy": "is about scipy, which is asked about what is on the CPU",
    "test_what_cannot_be_traced_names_the_line": "would name the line that puts tensors on a GPU",
}

# What torch says of an operation that it has on the CPU alone.
_LACKS = re.compile(
    r"not implemented for '\w+'|Could not run '.*' with arguments from|is not implemented for CUDA|"
    r"can't convert cuda:\d+ device type tensor to numpy|not supported on CUDA|only supported on CPU"
)


class DataOn(TorchFunctionMode):
    """Tensors that tests make are made on the CPU, as always, and then moved."""

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _FACTORIES or kwargs.get("device") is not None or not _is_of_a_test(sys._getframe(1)):
            return func(*args, **kwargs)
        from gossamer.frontend.leaf import is_tracing

        if is_tracing():
            return func(*args, **kwargs, device=self.device)
        requires_grad = kwargs.pop("requires_grad", False)
        return func(*args, **kwargs).to(self.device).requires_grad_(requires_grad)


def _is_of_a_test(frame: FrameType | None) -> bool:
    """Whether what torch was called by, or what called that part of torch, is a test."""
    while frame is not None and frame.f_code.co_filename.startswith(TORCH):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(HERE)


def skip_what_is_about_the_cpu(items: list[pytest.Item], device: str) -> None:
    """Marks tests that say nothing about other devices."""
    for item in items:
        reason = ABOUT_THE_CPU.get(item.path.name) or _OF_THE_CPU.get(item.name)
        reason = reason or _OF_THE_CPU.get(item.name.split("[")[0])
        if device != "cpu" and reason is not None:
            item.add_marker(pytest.mark.skip(reason=f"{item.name} {reason}"))


def move_constants(module: Any, device: torch.device, patch: pytest.MonkeyPatch) -> None:
    """Moves the tensors that a test file has made when it was read."""
    for name, value in vars(module).items():
        if isinstance(value, torch.Tensor):
            patch.setattr(module, name, value.to(device))


def skip_what_torch_lacks() -> Iterator[None]:
    """Around a test: what torch itself cannot do on the device is no failure."""
    try:
        return (yield)
    except (RuntimeError, NotImplementedError, TypeError, gs.GossamerError, gs.FallbackWarning) as error:
        said = str(error).splitlines()[0]
        if _LACKS.search(said):
            pytest.skip(f"torch: {said[:160]}")
        raise
