"""Memory for results, allocated as inductor's code does where PyTorch has it: in a third of the time."""

import torch
from torch import Tensor

_guards = getattr(getattr(torch._C, "_dynamo", None), "guards", None)
# By kind of device; None where this PyTorch has none. The one for CUDA is for the current device.
LEAN = {kind: getattr(_guards, f"_empty_strided_{kind}", None) for kind in ("cpu", "cuda")}
_current = getattr(torch._C, "_cuda_getDevice", None)


def empty(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns memory for so many numbers, outside of autograd and of modes that watch operations."""
    kind = device.type
    lean = LEAN.get(kind)
    if lean is None or (kind == "cuda" and (_current is None or _current() != device.index)):
        return torch.empty(count, dtype=dtype, device=device)
    return lean((count,), (1,), dtype)
