"""Elementary functions as kernels for GPUs compute them, run on the CPU, and how far off they are."""

import math
import subprocess
import sys
from array import array
from functools import cache

import numpy as np
import pytest
import torch

from gossamer.compiler.compile import compile_region

# (name, type) -> units in the last place that a result may be off
ULPS = {
    ("acos", "f64"): 2.5, ("acosh", "f64"): 3.5, ("asin", "f64"): 2.5, ("asinh", "f64"): 3.5, ("atan", "f64"): 2.0,
    ("atanh", "f64"): 3.5, ("cbrt", "f64"): 1.5, ("cos", "f64"): 1.0, ("cosh", "f64"): 2.5, ("exp", "f64"): 1.5,
    ("exp2", "f64"): 1.5, ("expm1", "f64"): 2.5, ("log", "f64"): 1.5, ("log10", "f64"): 1.5, ("log1p", "f64"): 1.5,
    ("log2", "f64"): 1.5, ("sin", "f64"): 1.0, ("sinh", "f64"): 3.5, ("tan", "f64"): 2.5, ("tanh", "f64"): 3.5,
    ("cos", "f32"): 1.5, ("sin", "f32"): 1.5,
    # These are computed in f64.
    **{(name, "f32"): 0.51 for name in ("acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "cosh", "exp2",
                                        "log10", "sinh", "tan")},
}  # fmt: skip
FOR_TWO = {("atan2", "f64"): 2.0, ("atan2", "f32"): 0.51, ("powf", "f32"): 0.51, ("powf", "f64"): 400.0}
TYPES = {"f32": np.float32, "f64": np.float64}
SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 1e-310, 1.7e308, -1.7e308, 0.5, 2.0]

MAIN = """
func.func @main(%x: memref<?xf64>, %y: memref<?xf64>, %out: memref<?xf64>)
    attributes {{gossamer.results = [-1, -1, -1]}} {{
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %size = memref.dim %x, %zero : memref<?xf64>
  scf.for %i = %zero to %size step %one {{
    %0 = memref.load %x[%i] : memref<?xf64>
    %1 = memref.load %y[%i] : memref<?xf64>
    %2 = math.{name} {operands} : f64
    memref.store %2, %out[%i] : memref<?xf64>
  }}
  return
}}
"""


@cache
def expanded() -> dict[tuple[str, str], str]:
    """Kernels whose operations are expanded, by the name and the type of these."""
    operands = {**dict.fromkeys(ULPS, "%0"), **dict.fromkeys(FOR_TWO, "%0, %1")}
    source = "// -----\n".join(
        MAIN.format(name=name, operands=text).replace("f64", type) for (name, type), text in operands.items()
    )
    command = [sys.executable, "-m", "gossamer.compiler.opt", "-", "--gossamer-expand-device-math"]
    command.append("--split-input-file")
    made = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    return dict(zip(operands, made.split("// -----"), strict=True))


def computed(name: str, *numbers: np.ndarray) -> np.ndarray:
    """What the expansion of an operation gives."""
    text = expanded()[name, {4: "f32", 8: "f64"}[numbers[0].itemsize]]
    assert f"math.{name} " not in text
    tensors = [torch.from_numpy(np.ascontiguousarray(one)) for one in (numbers[0], numbers[-1])]
    out = torch.empty_like(tensors[0])
    words = [word for one in (*tensors, out) for word in (one.data_ptr(), one.numel())]
    compile_region(text, lambda: text).run_words(array("q", words))
    return out.numpy()


def numbers_for(name: str) -> np.ndarray:
    """Of all sizes, many near 0 and 1, and those that are hardest."""
    random = np.random.default_rng(0)
    sizes = np.ldexp(random.uniform(1, 2, 20000), random.integers(-1070, 1023, 20000))
    parts = [np.array(SPECIAL), random.uniform(-2, 2, 20000), random.uniform(-40, 40, 20000), sizes, -sizes]
    parts += [1 + random.uniform(-1, 1, 4000) * 2.0 ** -random.integers(1, 52, 4000), np.arange(-50.0, 50.0)]
    if name in ("sin", "cos", "tan"):
        turns = np.arange(1.0, 4000.0)
        quarters = turns * (math.pi / 2)  # from which little is left
        # The one of all that is nearest to a multiple of pi / 2, and where the road forks.
        hard = [
            float.fromhex("0x1.6ac5b262ca1ffp+849"),
            2.0**31,
            np.nextafter(2.0**31, 0),
            2.0**1023,
            6381956970095103.0,
        ]
        parts += [quarters, np.nextafter(quarters, 0), np.nextafter(quarters, 1e9), np.array(hard)]
        parts += [random.uniform(-1e6, 1e6, 20000), random.uniform(1, 4, 20000) * 2.0 ** random.integers(28, 34, 20000)]
    if name.startswith("exp"):
        parts.append(random.uniform(-1080 if name == "exp2" else -750, 1024, 20000))
    return np.concatenate(parts)


def off(result: np.ndarray, right: np.ndarray) -> np.ndarray:
    """By how many units in the last place; what is infinite, or NaN, must be so."""
    rounded = right.astype(result.dtype)
    assert np.array_equal(np.isnan(result), np.isnan(rounded))
    known = ~np.isnan(rounded)
    infinite = np.isinf(rounded) & known
    assert np.array_equal(result[infinite], rounded[infinite])
    finite = np.isfinite(rounded)
    assert np.array_equal(np.signbit(result[finite & (rounded == 0)]), np.signbit(rounded[finite & (rounded == 0)]))
    return np.abs(result[finite] - right[finite]) / np.spacing(np.abs(rounded[finite])).astype(np.longdouble)


@pytest.fixture(autouse=True)
def quiet():
    if np.finfo(np.longdouble).eps > 2e-19:
        pytest.skip("needs an extended double to compare with")
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize(("name", "type"), ULPS)
def test_one_number(name, type):
    x = numbers_for(name).astype(TYPES[type])
    known = {"acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan"}
    function = getattr(np, known.get(name) or {"atanh": "arctanh"}.get(name, name))
    wrong = off(computed(name, x), function(x.astype(np.longdouble)))
    assert wrong.max() <= ULPS[name, type]


@pytest.mark.parametrize(("name", "type"), FOR_TWO)
def test_two_numbers(name, type):
    x = numbers_for(name)
    first, second = (one.ravel() for one in np.meshgrid(np.array(SPECIAL), np.array(SPECIAL)))
    random = np.random.default_rng(1)
    near = random.permutation(x) * random.uniform(-3, 3, x.size)
    y = np.concatenate([first, x, x, np.full_like(x, 1e300), random.uniform(0, 20, x.size)]).astype(TYPES[type])
    other = [
        second,
        random.permutation(x),
        np.where(np.isfinite(near), x * 1.25, x),
        x,
        random.uniform(-30, 30, x.size),
    ]
    x = np.concatenate(other).astype(TYPES[type])
    function = {"atan2": np.arctan2, "powf": np.power}[name]
    wrong = off(computed(name, y, x), function(y.astype(np.longdouble), x.astype(np.longdouble)))
    assert wrong.max() <= FOR_TWO[name, type]


def test_powers_of_two_are_exact():
    powers = np.ldexp(1.0, np.arange(-1074, 1024))
    assert np.array_equal(computed("log2", powers), np.arange(-1074.0, 1024.0))
    assert np.array_equal(computed("exp2", np.arange(-1074.0, 1024.0)), powers)
    assert np.array_equal(
        computed("cbrt", np.ldexp(1.0, np.arange(-1074, 1023, 3))), np.ldexp(1.0, np.arange(-358, 341))
    )
