// RUN: gossamer-opt %s --gossamer-lower-reduce --split-input-file | FileCheck %s

// Rows are kept and dense: a row at a time, its sum in a register.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @rows
// CHECK-DAG: %[[POS:.*]] = sparse_tensor.positions
// CHECK-DAG: %[[VAL:.*]] = sparse_tensor.values
// CHECK: %[[OUT:.*]] = memref.alloc
// CHECK: scf.parallel (%[[I:.*]]) =
// CHECK: %[[SUM:.*]] = scf.for %[[P:.*]] = %{{.*}} to %{{.*}} step %{{.*}} iter_args(%[[S:.*]] = %{{.*}}) -> (f32)
// CHECK: %[[V:.*]] = memref.load %[[VAL]][%[[P]]]
// CHECK: %[[N:.*]] = arith.addf %[[S]], %[[V]]
// CHECK: scf.yield %[[N]]
// CHECK: memref.store %[[SUM]], %[[OUT]][%[[I]]]
func.func @rows(%s: tensor<?x?xf32, #CSR>, %e: tensor<?xf32>) -> tensor<?xf32> {
  %0 = gossamer.reduce addf ins(%s : tensor<?x?xf32, #CSR>) outs(%e : tensor<?xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// With a fill that counts, entries are counted, and it is taken in where some are missing.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @filled
// CHECK: %[[N:.*]] = tensor.dim %{{.*}}, %c1
// CHECK: scf.parallel
// CHECK: %[[ALL:.*]]:2 = scf.for {{.*}} -> (f32, index)
// CHECK: arith.maximumf
// CHECK: arith.addi
// CHECK: %[[LEFT:.*]] = arith.subi %[[N]], %[[ALL]]#1
// CHECK: %[[SOME:.*]] = arith.cmpi ne, %[[LEFT]]
// CHECK: %[[WITH:.*]] = arith.maximumf %[[ALL]]#0, %{{.*}}
// CHECK: arith.select %[[SOME]], %[[WITH]], %[[ALL]]#0
func.func @filled(%s: tensor<?x?xf32, #CSR>, %e: tensor<?xf32>) -> tensor<?xf32> {
  %0 = gossamer.reduce maximumf ins(%s : tensor<?x?xf32, #CSR>) outs(%e : tensor<?xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// Columns: chunks of rows, each with sums of its own, added in order.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @columns
// CHECK: arith.divsi
// CHECK: arith.minsi
// CHECK: %[[K:.*]] = arith.maxsi
// CHECK: %[[PART:.*]] = memref.alloc(%[[K]], %{{.*}}) {alignment = 64 : i64} : memref<?x?xf32>
// CHECK: scf.parallel (%[[C:.*]]) = (%{{.*}}) to (%[[K]])
// CHECK: memref.load %[[PART]][%[[C]], %[[J:.*]]]
// CHECK: memref.store %{{.*}}, %[[PART]][%[[C]], %[[J]]]
// CHECK: scf.parallel (%[[J2:.*]]) =
// CHECK: %[[SUM:.*]] = scf.for %[[C2:.*]] = %{{.*}} to %[[K]]
// CHECK: memref.load %[[PART]][%[[C2]], %[[J2]]]
// CHECK: memref.store %[[SUM]], %{{.*}}[%[[J2]]]
// CHECK: memref.dealloc %[[PART]]
func.func @columns(%s: tensor<?x?xf32, #CSR>, %e: tensor<?xf32>) -> tensor<?xf32> {
  %0 = gossamer.reduce addf ins(%s : tensor<?x?xf32, #CSR>) outs(%e : tensor<?xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// Rows of blocks: block rows in parallel, sums in the result's memory.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
// CHECK-LABEL: func @blocks
// CHECK: scf.parallel
// CHECK: scf.parallel
// CHECK: scf.for
// CHECK: scf.for
// CHECK: %[[OLD:.*]] = memref.load %[[OUT:.*]][%[[I:.*]]]
// CHECK: %[[NEW:.*]] = scf.for {{.*}} iter_args(%{{.*}} = %[[OLD]])
// CHECK: memref.store %[[NEW]], %[[OUT]][%[[I]]]
func.func @blocks(%s: tensor<?x?xf32, #BSR>, %e: tensor<?xf32>) -> tensor<?xf32> {
  %0 = gossamer.reduce addf ins(%s : tensor<?x?xf32, #BSR>) outs(%e : tensor<?xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}
