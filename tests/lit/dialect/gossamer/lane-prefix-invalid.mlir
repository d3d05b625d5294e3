// RUN: gossamer-opt %s --split-input-file --verify-diagnostics

func.func @no_loop(%kept: i32) -> i32 {
  // expected-error @+1 {{must stand in the body of an scf.parallel with gossamer.lanes, where all lanes arrive}}
  %b, %t = gossamer.lane_prefix %kept : i32
  return %b : i32
}

// -----

func.func @under_a_condition(%kept: i32, %c: i1, %x: memref<i32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c32 = arith.constant 32 : index
  scf.parallel (%lane) = (%c0) to (%c32) step (%c1) {
    scf.if %c {
      // expected-error @+1 {{must stand in the body of an scf.parallel with gossamer.lanes}}
      %b, %t = gossamer.lane_prefix %kept : i32
      memref.store %b, %x[] : memref<i32>
    }
  } {gossamer.lanes = 32 : i64}
  return
}
