// RUN: gossamer-opt %s --gossamer-map-to-gpu --split-input-file --verify-diagnostics

func.func @more_iterations(%n: index, %x: memref<?xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.parallel (%lane) = (%c0) to (%n) step (%c1) {
      %kept = memref.load %x[%lane] : memref<?xi32>
      // expected-error @+1 {{needs a loop from 0 to gossamer.lanes}}
      %b, %t = gossamer.lane_prefix %kept : i32
      memref.store %b, %x[%lane] : memref<?xi32>
    } {gossamer.lanes = 32 : i64}
  }
  return
}

// -----

func.func @no_kernel(%x: memref<?xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c32 = arith.constant 32 : index
  scf.parallel (%lane) = (%c0) to (%c32) step (%c1) {
    %kept = memref.load %x[%lane] : memref<?xi32>
    // expected-error @+1 {{needs a parallel loop around that of the lanes, which becomes a kernel}}
    %b, %t = gossamer.lane_prefix %kept : i32
    memref.store %b, %x[%lane] : memref<?xi32>
  } {gossamer.lanes = 32 : i64}
  return
}

// -----

func.func @serial_kernel(%n: index, %x: memref<?xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c32 = arith.constant 32 : index
  scf.for %s = %c0 to %n step %c1 {
    scf.parallel (%i) = (%c0) to (%n) step (%c1) {
      scf.parallel (%lane) = (%c0) to (%c32) step (%c1) {
        %kept = memref.load %x[%lane] : memref<?xi32>
        // expected-error @+1 {{needs a parallel loop around that of the lanes, which becomes a kernel}}
        %b, %t = gossamer.lane_prefix %kept : i32
        memref.store %b, %x[%lane] : memref<?xi32>
      } {gossamer.lanes = 32 : i64}
    }
  }
  return
}

// -----

func.func @divided(%n: index, %x: memref<?xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %c8 = arith.constant 8 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.parallel (%lane) = (%c0) to (%c4) step (%c1) {
      %kept = memref.load %x[%lane] : memref<?xi32>
      // expected-error @+1 {{cannot stand beside a loop that divides its lanes}}
      %b, %t = gossamer.lane_prefix %kept : i32
      scf.parallel (%part) = (%c0) to (%c8) step (%c1) {
        memref.store %b, %x[%part] : memref<?xi32>
      } {gossamer.lanes = 8 : i64}
    } {gossamer.lanes = 4 : i64}
  }
  return
}
