"""Small tile programs on the processor: what operations do, and how programs that would hang a GPU are refused."""

import json
from array import array

import pytest
import torch
from torch import Tensor

from gossamer.compiler.compile import compile_region
from gossamer.errors import CompileError, ProgramError

SIGNATURE = {"entry": "gs_entry", "args": [], "results": [], "kernels": 1, "report": []}


def module(alloc: str, producer: str, consumer: str, warpgroups: int = 1) -> str:
    """A program of two matrices of bfloat16 with 64 columns, one of float32, and a number, and its launch on blocks."""
    signature = json.dumps(json.dumps(SIGNATURE))
    return f"""
module attributes {{gossamer.signature = {signature}}} {{
  tile.program @p(%in: !tile.map<64x64xbf16>, %out: !tile.map<64x64xbf16>, %rows: memref<?xf32>, %n: i32) {{
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %c2 = arith.constant 2 : i32
    %c64 = arith.constant 64 : i32
    %f0 = arith.constant 0.0 : f32
    {alloc}
    tile.role producer warpgroups(1) registers(24) {{
    ^bb0(%w: i32):
      {producer}
    }}
    tile.role consumer warpgroups({warpgroups}) registers(200) {{
    ^bb0(%w: i32):
      {consumer}
    }}
  }}
  llvm.func @gs_entry(%words: !llvm.ptr) {{
    %c64 = arith.constant 64 : i64
    %one = arith.constant 1 : i64
    %p1 = llvm.getelementptr %words[1] : (!llvm.ptr) -> !llvm.ptr, i64
    %p2 = llvm.getelementptr %words[2] : (!llvm.ptr) -> !llvm.ptr, i64
    %p3 = llvm.getelementptr %words[3] : (!llvm.ptr) -> !llvm.ptr, i64
    %p4 = llvm.getelementptr %words[4] : (!llvm.ptr) -> !llvm.ptr, i64
    %p5 = llvm.getelementptr %words[5] : (!llvm.ptr) -> !llvm.ptr, i64
    %in = llvm.load %words : !llvm.ptr -> !llvm.ptr
    %out = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %rows = llvm.load %p2 : !llvm.ptr -> !llvm.ptr
    %length = llvm.load %p3 : !llvm.ptr -> i64
    %number = llvm.load %p4 : !llvm.ptr -> i32
    %blocks = llvm.load %p5 : !llvm.ptr -> i64
    %size = arith.muli %length, %c64 : i64
    %from = tile.describe %in sizes(%one, %one, %length, %c64) strides(%size, %size, %c64) : !llvm.ptr -> <64x64xbf16>
    %to = tile.describe %out sizes(%one, %one, %length, %c64) strides(%size, %size, %c64) : !llvm.ptr -> <64x64xbf16>
    tile.launch @p blocks(%blocks) (%from, %to, %rows, %number)
        : !tile.map<64x64xbf16>, !tile.map<64x64xbf16>, !llvm.ptr, i32
    llvm.return
  }}
}}
"""


def run(
    text: str, x: Tensor | None = None, number: int = 1, blocks: int = 1, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The matrix and the rows that a program makes of a matrix, and of rows where they are given."""
    x = torch.zeros(64, 64, dtype=torch.bfloat16) if x is None else x
    rows = torch.full((x.shape[0],), -7.0) if rows is None else rows
    out = torch.full_like(x, -7)
    words = array("q", [x.data_ptr(), out.data_ptr(), rows.data_ptr(), x.shape[0], number, blocks])
    compile_region(text, lambda: text).run_words(words)
    return out, rows


RING = "%ring = tile.alloc : !tile.ring<2x64x64xbf16>"
SCRATCH = RING + "\n%scratch = tile.alloc : !tile.shared<64x64xbf16>"
F = "!tile.fragment<64x64xf32>"
R = "!tile.rows<64xf32>"


def load(tile: str) -> str:
    row = f"%row{tile.strip('%')}"
    return f"""{row} = arith.muli {tile}, %c64 : i32
      tile.load %in[%c0, %c0, %c0] rows({row}) into %ring[{tile}] : <64x64xbf16> into <2x64x64xbf16>"""


def take(tile: str, name: str) -> str:
    return f"{name} = tile.wait %ring[{tile}] : <2x64x64xbf16>"


def release(tile: str) -> str:
    return f"tile.release %ring[{tile}] : !tile.ring<2x64x64xbf16>"


def store(value: str) -> str:
    return f"""tile.store {value} to %out[%c0, %c0, %c0, %c0] by %scratch
          : <64x64xf32>, <64x64xbf16>, <64x64xbf16>"""


def matrix(rows: int = 64) -> Tensor:
    return torch.randint(-4, 5, (rows, 64)).to(torch.bfloat16)


def product(left: str, right: str, name: str, plus: str = "", transposed: bool = False, operand: bool = False) -> str:
    kind = "operand" if operand else "shared"
    types = f"!tile.{kind}<64x64xbf16>, !tile.shared<64x64xbf16>{f', {F}' if plus else ''}"
    added = f" plus {plus}" if plus else ""
    return f"""{name}_p = tile.mma {left}, {right}{added}{" transposed" if transposed else ""}
          : ({types}) -> !tile.pending<64x64xf32>
      {name} = tile.await {name}_p : <64x64xf32>"""


# --- What operations do


def test_products_of_shared_tiles():
    x = matrix()
    consumer = "\n".join(
        [
            take("%c0", "%x"),
            product("%x", "%x", "%s", transposed=True),
            product("%x", "%x", "%o", plus="%s"),
            release("%c0"),
            store("%o"),
        ]
    )
    out, _ = run(module(SCRATCH, load("%c0"), consumer), x)
    d = x.double()
    assert torch.equal(out, (d @ d.T + d @ d).to(x.dtype))


def test_products_of_operands_are_of_rounded_numbers():
    x = matrix()
    consumer = "\n".join(
        [
            take("%c0", "%x"),
            "%a = tile.load_operand %x : !tile.shared<64x64xbf16> to !tile.operand<64x64xbf16>",
            product("%a", "%x", "%s", operand=True),
            f"%b = tile.to_operand %s : {F} to !tile.operand<64x64xbf16>",
            product("%b", "%x", "%o", transposed=True, operand=True),
            release("%c0"),
            store("%o"),
        ]
    )
    out, _ = run(module(SCRATCH, load("%c0"), consumer), x)
    d = x.double()
    assert torch.equal(out, ((d @ d).to(x.dtype).double() @ d.T).to(x.dtype))


def test_the_sum_of_many_tiles_the_last_of_which_is_short():
    x = matrix(7 * 64 - 13)
    producer = f"""scf.for %i = %c0 to %n step %c1 : i32 {{
      {load("%i")}
    }}"""
    consumer = f"""%zero = tile.splat %f0 : {F}
      %sum = scf.for %i = %c0 to %n step %c1 iter_args(%before = %zero) -> ({F}) : i32 {{
        {take("%i", "%x")}
        {product("%x", "%x", "%s", plus="%before", transposed=True)}
        {release("%i")}
        scf.yield %s : {F}
      }}
      {store("%sum")}"""
    text = module(SCRATCH, producer, consumer)
    d = torch.nn.functional.pad(x.double(), (0, 0, 0, 13)).reshape(7, 64, 64)
    for count in (0, 1, 2, 7):
        out, _ = run(text, x, count)
        assert torch.equal(out[:64], (d @ d.mT)[:count].sum(0).to(x.dtype))
        assert (out[64:] == -7).all()


def test_fragments_that_a_loop_exchanges():
    x = matrix()
    consumer = f"""{take("%c0", "%x")}
      {product("%x", "%x", "%s")}
      {product("%x", "%x", "%t", transposed=True)}
      {release("%c0")}
      %r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%a = %s, %b = %t) -> ({F}, {F}) : i32 {{
        scf.yield %b, %a : {F}, {F}
      }}
      {store("%r#0")}"""
    text, d = module(SCRATCH, load("%c0"), consumer), x.double()
    for count in (0, 1, 2, 5):
        assert torch.equal(run(text, x, count)[0], (d @ d.T if count % 2 else d @ d).to(x.dtype))


def test_fragments_of_a_branch_in_a_loop_that_asks_first():
    x = matrix()
    consumer = f"""{take("%c0", "%x")}
      {product("%x", "%x", "%s")}
      {product("%x", "%x", "%t", transposed=True)}
      {release("%c0")}
      %r:2 = scf.while (%i = %c0, %a = %s) : (i32, {F}) -> (i32, {F}) {{
        %more = arith.cmpi slt, %i, %n : i32
        scf.condition(%more) %i, %a : i32, {F}
      }} do {{
      ^bb0(%i: i32, %a: {F}):
        %next = arith.addi %i, %c1 : i32
        %last = arith.cmpi eq, %next, %n : i32
        %which = scf.if %last -> ({F}) {{
          scf.yield %t : {F}
        }} else {{
          scf.yield %a : {F}
        }}
        scf.yield %next, %which : i32, {F}
      }}
      {store("%r#1")}"""
    text, d = module(SCRATCH, load("%c0"), consumer), x.double()
    for count in (0, 1, 3):
        assert torch.equal(run(text, x, count)[0], (d @ d.T if count else d @ d).to(x.dtype))


def test_elements_know_their_row_and_column():
    x = matrix()
    consumer = f"""%zero = tile.splat %f0 : {F}
      %r = tile.elementwise %zero : {F} -> {F} {{
      ^bb0(%e: f32, %row: i32, %column: i32):
        %twice = arith.muli %row, %c2 : i32
        %m = arith.addi %twice, %column : i32
        %isin = arith.cmpi slt, %column, %n : i32
        %v = arith.sitofp %m : i32 to f32
        %which = arith.select %isin, %v, %e : f32
        tile.yield %which : f32
      }}
      {store("%r")}"""
    out, _ = run(module(SCRATCH, "", consumer), x, number=50)
    at = torch.arange(64)
    expected = torch.where(at < 50, 2 * at[:, None] + at, 0)
    assert torch.equal(out, expected.to(x.dtype))


def test_rows_are_reduced_spread_and_stored_to_their_limit():
    x = matrix()
    consumer = f"""{take("%c0", "%x")}
      {product("%x", "%x", "%s", transposed=True)}
      {release("%c0")}
      %ones = arith.constant 1.0 : f32
      %one = tile.splat %ones : {R}
      %part = tile.reduce max %s init(%one : {R}) : {F} -> !tile.rows<64xf32, partial>
      %max = tile.combine max %part : !tile.rows<64xf32, partial> -> {R}
      %d = tile.elementwise %s, %max : {F}, {R} -> {F} {{
      ^bb0(%a: f32, %m: f32, %row: i32, %column: i32):
        %e = arith.subf %a, %m : f32
        tile.yield %e : f32
      }}
      %added = tile.reduce sum %d : {F} -> !tile.rows<64xf32, partial>
      %sum = tile.combine sum %added : !tile.rows<64xf32, partial> -> {R}
      tile.store_rows %sum to %rows[%c0] limit(%n) : {R}, memref<?xf32>
      {store("%d")}"""
    text, s = module(SCRATCH, load("%c0"), consumer), x.double() @ x.double().T
    d = s - s.amax(1, keepdim=True).clamp(min=1)
    for limit in (0, 1, 63, 64, 200):
        out, rows = run(text, x, limit)
        assert torch.equal(out, d.to(x.dtype))
        assert torch.equal(rows[:limit].double(), d.sum(1)[:limit])
        assert (rows[limit:] == -7).all()


def test_series_are_numbers_of_columns():
    x = matrix()
    alloc = SCRATCH + "\n%series = tile.alloc : !tile.series<1x2x64xf32>"
    producer = f"""{load("%c0")}
      scf.for %i = %c0 to %c2 step %c1 : i32 {{
        %base = arith.muli %i, %n : i32
        tile.load_numbers %rows[%base] into %series[%i] : memref<?xf32> into !tile.series<1x2x64xf32>
      }}"""
    consumer = f"""{take("%c0", "%x")}
      %a = tile.load_operand %x : !tile.shared<64x64xbf16> to !tile.operand<64x64xbf16>
      {release("%c0")}
      %f = tile.to_fragment %a : !tile.operand<64x64xbf16> to {F}
      %r = scf.for %i = %c0 to %c2 step %c1 iter_args(%before = %f) -> ({F}) : i32 {{
        %s:2 = tile.columns %series[%i] : !tile.series<1x2x64xf32>
        %next = tile.elementwise %before, %s#0, %s#1 : {F}, !tile.columns<64xf32>, !tile.columns<64xf32> -> {F} {{
        ^bb0(%e: f32, %y: f32, %z: f32, %row: i32, %column: i32):
          %product = arith.mulf %e, %y : f32
          %sum = arith.addf %product, %z : f32
          tile.yield %sum : f32
        }}
        tile.release %series[%i] : !tile.series<1x2x64xf32>
        scf.yield %next : {F}
      }}
      {store("%r")}"""
    numbers = torch.randint(-3, 4, (4, 64)).float()
    out, _ = run(module(alloc, producer, consumer), x, number=128, rows=numbers.flatten())
    first, second, third, fourth = numbers.double()
    assert torch.equal(out, ((x.double() * first + second) * third + fourth).to(x.dtype))


def test_rows_are_read_to_their_limit():
    consumer = f"""%r = tile.load_rows %rows[%c2] limit(%n) otherwise(%f0) : memref<?xf32> to {R}
      %zero = tile.splat %f0 : {F}
      %f = tile.elementwise %zero, %r : {F}, {R} -> {F} {{
      ^bb0(%z: f32, %e: f32, %row: i32, %column: i32):
        tile.yield %e : f32
      }}
      {store("%f")}"""
    text, numbers = module(SCRATCH, "", consumer), torch.arange(1, 67).float()
    for limit in (-1, 0, 1, 63, 64, 100):
        out, _ = run(text, number=limit, rows=numbers)
        expected = torch.where(torch.arange(64) < limit, numbers[2:], 0).to(out.dtype)
        assert torch.equal(out, expected[:, None].expand(64, 64))


def test_every_block_and_warpgroup_has_its_number():
    consumer = f"""%b = tile.block
      %count = tile.blocks
      %first = arith.muli %b, %c64 : i32
      %m = arith.muli %b, %c2 : i32
      %m1 = arith.addi %m, %w : i32
      %v = arith.sitofp %m1 : i32 to f32
      %f = tile.splat %v : {F}
      %at = arith.muli %w, %c64 : i32
      %half = arith.muli %first, %c2 : i32
      %row = arith.addi %half, %at : i32
      %part = tile.subtile %scratch[%at] : !tile.shared<128x64xbf16> to !tile.shared<64x64xbf16, panel = 128>
      tile.store %f to %out[%c0, %c0, %row, %c0] by %part
          : <64x64xf32>, <64x64xbf16>, <64x64xbf16, panel = 128>"""
    text = module("%scratch = tile.alloc : !tile.shared<128x64xbf16>", "", consumer, warpgroups=2)
    out, _ = run(text, matrix(5 * 128), blocks=5)
    assert torch.equal(out[:, 3], (torch.arange(5 * 128) // 64).to(out.dtype))


# --- What would hang a GPU, or read what is not there


def refused(producer: str, consumer: str, alloc: str = RING, warpgroups: int = 1) -> str:
    with pytest.raises(ProgramError) as error:
        run(module(alloc, producer, consumer, warpgroups))
    return str(error.value)


def test_a_tile_that_never_comes():
    assert refused(load("%c0"), take("%c0", "%a") + "\n" + take("%c1", "%b")) == (
        "tile program @p, block 0 waits for ever: warpgroup 0 has ended; warpgroup 1 waits for number 1 of ring 0 "
        "(!tile.ring<2x64x64xbf16>)"
    )


def test_a_stage_that_is_never_released():
    text = refused("\n".join(map(load, ("%c0", "%c1", "%c2"))), take("%c1", "%a") + "\n" + release("%c1"))
    assert text == (
        "tile program @p, block 0 waits for ever: warpgroup 0 waits for the stage of number 2 of ring 0 "
        "(!tile.ring<2x64x64xbf16>), which warpgroup 1 has not released; warpgroup 1 has ended"
    )


def test_a_ring_that_each_side_wants_first():
    """The producer wants a third stage before it sends what consumers wait for."""
    alloc = RING + "\n%queue = tile.alloc : !tile.queue<1x1xi32>"
    producer = "\n".join([*map(load, ("%c0", "%c1", "%c2")), "tile.send %queue[%c0], %n : !tile.queue<1x1xi32>"])
    consumer = "\n".join(["%m = tile.receive %queue[%c0] : !tile.queue<1x1xi32>", take("%c0", "%a"), release("%c0")])
    text = refused(producer, consumer, alloc)
    assert "warpgroup 0 waits for the stage of number 2 of ring 0" in text
    assert "warpgroup 1 waits for number 0 of queue 1 (!tile.queue<1x1xi32>)" in text


def test_tiles_out_of_order():
    text = refused(load("%c2"), "")
    assert "block 0, warpgroup 0 fills number 2 of ring 0" in text
    assert text.endswith("whose stage has been filled 0 times, not 1")


def test_a_tile_that_is_released_twice():
    text = refused(load("%c0"), "\n".join([take("%c0", "%a"), release("%c0"), release("%c0")]))
    assert text.startswith("tile program @p, block 0, warpgroup 1 releases number 0 of ring 0")
    assert text.endswith("which it has released")


def test_a_tile_that_is_released_before_it_is_there():
    assert refused("", release("%c0")).endswith("which is not there")


def test_a_tile_that_is_taken_after_it_was_released():
    text = refused(load("%c0"), "\n".join([take("%c0", "%a"), release("%c0"), take("%c0", "%b")]))
    assert "warpgroup 1 takes number 0 of ring 0" in text


def test_turns_that_do_not_match():
    twice = """%first = arith.cmpi eq, %w, %c0 : i32
      scf.if %first {
        tile.take_turn
        tile.take_turn
      }"""
    text = refused("", twice, warpgroups=2)
    assert "warpgroup 1 waits for its turn; warpgroup 2 has ended" in text
    assert "passes its turn to one that has a turn" in refused("", "tile.pass_turn\ntile.pass_turn", warpgroups=2)


def test_a_released_tile_is_gone():
    """As it would be on a GPU, where something else is loaded in its place."""
    consumer = "\n".join(
        [
            take("%c0", "%x"),
            release("%c0"),
            product("%x", "%x", "%s"),
            store("%s"),
        ]
    )
    out, _ = run(module(SCRATCH, load("%c0"), consumer), matrix())
    assert out.isnan().all()


def test_a_tensor_that_lies_where_no_gpu_could_read_it():
    text, x = module(RING, "", ""), torch.zeros(64 * 64 + 1, dtype=torch.bfloat16)
    with pytest.raises(ProgramError, match="an address and strides that are multiples of 16 bytes, not 0x"):
        run(text, x[1:].view(64, 64))


def test_an_error_of_one_block_ends_the_launch():
    with pytest.raises(ProgramError, match="waits for ever"):
        run(module(RING, "", take("%c0", "%a")), blocks=50)


def test_an_operation_that_programs_do_not_have():
    consumer = f"%s = math.sin %f0 : f32\n%r = tile.splat %s : {F}\n{store('%r')}"
    with pytest.raises(CompileError, match=r"'math\.sin' op has no lowering in a tile program") as error:
        run(module(SCRATCH, "", consumer))
    assert "--gossamer-lower-tile-host" in str(error.value)
