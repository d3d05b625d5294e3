"""What `gs.sparsify` keeps: values of its argument `by`, as `gs.by.magnitude(0.1)`."""

from gossamer.sparsifiers.base import Sparsifier
from gossamer.sparsifiers.everything import everything
from gossamer.sparsifiers.functions import function, threshold, where
from gossamer.sparsifiers.like import like
from gossamer.sparsifiers.n_of_m import n_of_m
from gossamer.sparsifiers.norms import block_norm, magnitude
from gossamer.sparsifiers.random import random

__all__ = [
    "Sparsifier",
    "block_norm",
    "everything",
    "function",
    "like",
    "magnitude",
    "n_of_m",
    "random",
    "threshold",
    "where",
]
