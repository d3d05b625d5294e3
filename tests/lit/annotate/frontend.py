"""Prints the hand-off text of a function's regions; the scripts beside this one check it."""

import warnings

import torch

import gossamer as gs

torch.manual_seed(0)
warnings.simplefilter("error")


def show(function, *args, stage="annotate", **formats):
    """Print one stage for arguments given as (dtype, sizes) or (size, ...): meta tensors, so nothing is run."""
    tensors = []
    for arg in args:
        dtype, sizes = arg if isinstance(arg[0], torch.dtype) else (torch.float32, arg)
        tensors.append(torch.empty(sizes, dtype=dtype, device="meta"))
    print(f"// {function.__name__}")
    print(gs.dump(gs.sparse_jit(function, **formats), *tensors, stage=stage))
