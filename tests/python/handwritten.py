"""Regions already in the LLVM dialect, which pass through the pipelines untouched: they try the engine alone."""

import json

# out[i] = body of in[i], on the threads that gs_parallel_for gives; packed: in, n, out, n
ELEMENTWISE = """
llvm.func @gs_parallel_for(i64, i64, i64, !llvm.ptr, !llvm.ptr)
llvm.func @erff(f32) -> f32

llvm.func internal @body(%packed: !llvm.ptr, %lo: i64, %hi: i64) {
  %one = llvm.mlir.constant(1 : i64) : i64
  %out_slot = llvm.getelementptr %packed[2] : (!llvm.ptr) -> !llvm.ptr, i64
  %in = llvm.load %packed : !llvm.ptr -> !llvm.ptr
  %out = llvm.load %out_slot : !llvm.ptr -> !llvm.ptr
  llvm.br ^head(%lo : i64)
^head(%i: i64):
  %more = llvm.icmp "slt" %i, %hi : i64
  llvm.cond_br %more, ^loop, ^done
^loop:
  %from = llvm.getelementptr %in[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
  %to = llvm.getelementptr %out[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
  %x = llvm.load %from : !llvm.ptr -> f32
  BODY
  llvm.store %y, %to : f32, !llvm.ptr
  %next = llvm.add %i, %one : i64
  llvm.br ^head(%next : i64)
^done:
  llvm.return
}

llvm.func @gs_entry(%packed: !llvm.ptr) {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %grain = llvm.mlir.constant(GRAIN : i64) : i64
  %size_slot = llvm.getelementptr %packed[1] : (!llvm.ptr) -> !llvm.ptr, i64
  %size = llvm.load %size_slot : !llvm.ptr -> i64
  %body = llvm.mlir.addressof @body : !llvm.ptr
  llvm.call @gs_parallel_for(%zero, %size, %grain, %body, %packed) : (i64, i64, i64, !llvm.ptr, !llvm.ptr) -> ()
  llvm.return
}
"""

ERF = "%y = llvm.call @erff(%x) : (f32) -> f32"
# the first index of the part that the element was in
PART = "%y = llvm.sitofp %lo : i64 to f32"
# with PART's grain of 1, how often an element was visited
COUNT = (
    "%c = llvm.mlir.constant(1.0 : f32) : f32\n  %o = llvm.load %to : !llvm.ptr -> f32\n  %y = llvm.fadd %o, %c : f32"
)

VECTOR = {"kind": "dense", "rank": 1, "dtype": "f32"}


def module(text: str, args: list[dict], results: list[dict], report: tuple = ()) -> str:
    """Puts functions into a module with a signature."""
    signature = json.dumps({"entry": "gs_entry", "args": args, "results": results, "report": list(report)})
    return f"module attributes {{gossamer.signature = {json.dumps(signature)}}} {{\n{text}\n}}"


def elementwise(body: str = ERF, grain: int = 16) -> str:
    """One float32 vector to another of its size."""
    return module(ELEMENTWISE.replace("BODY", body).replace("GRAIN", str(grain)), [VECTOR], [VECTOR])


def echo(args: list[dict], words: int) -> str:
    """A kernel that returns the `words` words that its arguments were packed into, as an int64 vector."""
    text = f"""
llvm.func @gs_entry(%packed: !llvm.ptr) {{
  %bytes = llvm.mlir.constant({words * 8} : i64) : i64
  %slot = llvm.getelementptr %packed[{words}] : (!llvm.ptr) -> !llvm.ptr, i64
  %out = llvm.load %slot : !llvm.ptr -> !llvm.ptr
  "llvm.intr.memcpy"(%out, %packed, %bytes) <{{isVolatile = false}}> : (!llvm.ptr, !llvm.ptr, i64) -> ()
  llvm.return
}}"""
    return module(text, args, [{"kind": "dense", "rank": 1, "dtype": "i64"}])


def copy_values(arg: dict, slot: int, result_slot: int, fill: float = 0.0) -> str:
    """A kernel whose sparse float32 result has the values of its sparse argument, at words `slot`, `slot + 1`."""
    result = {"kind": "sparse", "pattern_of": 0, "dtype": "f32", "fill": fill}
    return module(_copy(slot, result_slot), [arg], [result])


def dense_values(arg: dict, slot: int, result_slot: int) -> str:
    """A kernel that returns the values of its sparse argument, at words `slot`, `slot + 1`, as a float32 vector."""
    return module(_copy(slot, result_slot), [arg], [VECTOR])


def _copy(slot: int, result_slot: int) -> str:
    return f"""
llvm.func @gs_entry(%packed: !llvm.ptr) {{
  %four = llvm.mlir.constant(4 : i64) : i64
  %from_slot = llvm.getelementptr %packed[{slot}] : (!llvm.ptr) -> !llvm.ptr, i64
  %size_slot = llvm.getelementptr %packed[{slot + 1}] : (!llvm.ptr) -> !llvm.ptr, i64
  %to_slot = llvm.getelementptr %packed[{result_slot}] : (!llvm.ptr) -> !llvm.ptr, i64
  %from = llvm.load %from_slot : !llvm.ptr -> !llvm.ptr
  %to = llvm.load %to_slot : !llvm.ptr -> !llvm.ptr
  %size = llvm.load %size_slot : !llvm.ptr -> i64
  %bytes = llvm.mul %size, %four : i64
  "llvm.intr.memcpy"(%to, %from, %bytes) <{{isVolatile = false}}> : (!llvm.ptr, !llvm.ptr, i64) -> ()
  llvm.return
}}"""


def crash(kind: str) -> str:
    """A module on which the compiler crashes: by "abort", "segv", "fatal" error, or stack "overflow"."""
    return f'module attributes {{gossamer.test_crash = "{kind}"}} {{}}'


def one_instruction(text: str) -> str:
    """An entry of %x, an i32, with this in its body (other functions are dropped where nothing calls them)."""
    return f"llvm.func @gs_entry(%x: i32) {{\n  {text}\n  llvm.return\n}}"
