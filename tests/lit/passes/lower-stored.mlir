// Loops over what is stored, for each kind of level; the leading dense ones in parallel.
// RUN: gossamer-opt %s --gossamer-lower-stored -cse | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
#COO = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed(nonunique), d1 : singleton(soa)) }>
#DCSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed, d1 : compressed) }>
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
#COLUMNS = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 8 : dense, d1 : compressed, d0 mod 8 : dense) }>
#PAIRS = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : loose_compressed) }>
#NM = #sparse_tensor.encoding<{ map = (i, j) -> (i : dense, j floordiv 4 : dense, j mod 4 : structured[2, 4]) }>
#id = affine_map<(i, j) -> (i, j)>

// The sum in a register; straight into the caller's array, with no copy.
// CHECK-LABEL: func @sddmm
// CHECK-SAME: %[[S:[^:]*]]: tensor<?x?xf32, {{.*}}, %[[OUT:[^:]*]]: memref<?xf32>)
func.func @sddmm(%s: tensor<?x?xf32, #CSR>, %a: tensor<?x?xf32>, %b: tensor<?x?xf32>, %out: memref<?xf32>) {
  // CHECK-DAG: %[[POS:.*]] = sparse_tensor.positions %[[S]] {level = 1 : index}
  // CHECK-DAG: %[[CRD:.*]] = sparse_tensor.coordinates %[[S]] {level = 1 : index}
  // CHECK-DAG: %[[VAL:.*]] = sparse_tensor.values %[[S]]
  // CHECK-NOT: memref.alloc
  // CHECK: scf.parallel (%[[I:.*]]) =
  // CHECK: %[[LO32:.*]] = memref.load %[[POS]][%[[I]]]
  // CHECK: %[[LO:.*]] = arith.index_castui %[[LO32]] : i32 to index
  // CHECK: %[[HI32:.*]] = memref.load %[[POS]][
  // CHECK: %[[HI:.*]] = arith.index_castui %[[HI32]] : i32 to index
  // CHECK: scf.for %[[AT:.*]] = %[[LO]] to %[[HI]]
  // CHECK: %[[J32:.*]] = memref.load %[[CRD]][%[[AT]]]
  // CHECK: %[[J:.*]] = arith.index_castui %[[J32]]
  // CHECK: %[[DOT:.*]] = scf.for %[[K:.*]] = {{.*}} iter_args(%[[SUM:.*]] = %cst) -> (f32)
  // CHECK: %[[X:.*]] = memref.load %{{.*}}[%[[I]], %[[K]]]
  // CHECK: %[[Y:.*]] = memref.load %{{.*}}[%[[K]], %[[J]]]
  // CHECK: %[[V:.*]] = memref.load %[[VAL]][%[[AT]]]
  // CHECK: %[[R:.*]] = arith.mulf %[[V]], %[[DOT]]
  // CHECK: memref.store %[[R]], %[[OUT]][%[[AT]]]
  // CHECK-NOT: memref.copy
  %0 = gossamer.sddmm ins(%s, %a, %b : tensor<?x?xf32, #CSR>, tensor<?x?xf32>, tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, j)>, affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>] {
  ^bb0(%v: f32, %sum: f32):
    %1 = arith.mulf %v, %sum : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #CSR>
  gossamer.store_values %0, %out : tensor<?x?xf32, #CSR>, memref<?xf32>
  return
}

// Sorted pairs of coordinates: one loop, serial, a coordinate from each level.
// CHECK-LABEL: func @coo
func.func @coo(%s: tensor<?x?xf32, #COO>, %out: memref<?xf32>) {
  // CHECK-DAG: %[[ROWS:.*]] = sparse_tensor.coordinates %{{.*}} {level = 0 : index}
  // CHECK-DAG: %[[COLUMNS:.*]] = sparse_tensor.coordinates %{{.*}} {level = 1 : index}
  // CHECK-NOT: scf.parallel
  // CHECK: scf.for %[[AT:.*]] =
  // CHECK-DAG: memref.load %[[ROWS]][%[[AT]]]
  // CHECK-DAG: memref.load %[[COLUMNS]][%[[AT]]]
  // CHECK-NOT: scf.for
  // CHECK: memref.store
  %0 = gossamer.map ins(%s : tensor<?x?xf32, #COO>) maps [#id] {
  ^bb0(%v: f32):
    %i = gossamer.index 0
    %j = gossamer.index 1
    %n = arith.muli %i, %j : index
    %m = arith.index_cast %n : index to i64
    %f = arith.sitofp %m : i64 to f32
    %1 = arith.mulf %v, %f : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #COO>
  gossamer.store_values %0, %out : tensor<?x?xf32, #COO>, memref<?xf32>
  return
}

// CHECK-LABEL: func @levels
func.func @levels(%a: tensor<?x?xf32, #DCSR>, %b: tensor<8x8xf32, #BSR>, %c: tensor<?x?xf32, #PAIRS>, %d: tensor<8x8xf32, #NM>,
                  %oa: memref<?xf32>, %ob: memref<?xf32>, %oc: memref<?xf32>, %od: memref<?xf32>) {
  // Two segments, no parallel loop.
  // CHECK: scf.for %[[ROW:.*]] =
  // CHECK: %[[FIRST:.*]] = memref.load %{{.*}}[%[[ROW]]]
  // CHECK: scf.for %{{.*}} = %[[FIRST]] to
  %0 = gossamer.map ins(%a : tensor<?x?xf32, #DCSR>) maps [#id] {
  ^bb0(%v: f32):
    %1 = math.exp %v : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #DCSR>
  gossamer.store_values %0, %oa : tensor<?x?xf32, #DCSR>, memref<?xf32>

  // The value at ((block * rows) + row) * columns + column, in column 4 * coordinate + column.
  // CHECK: scf.parallel
  // CHECK: scf.for %[[BLOCK:.*]] =
  // CHECK: %[[CRD:.*]] = memref.load %{{.*}}[%[[BLOCK]]]
  // CHECK: scf.for %[[R:.*]] = %c0 to %[[ROWS:[^ ]*]]
  // CHECK: %[[B2:.*]] = arith.muli %[[BLOCK]], %[[ROWS]]
  // CHECK: %[[BR:.*]] = arith.addi %[[B2]], %[[R]]
  // CHECK: scf.for %[[C:.*]] = %c0 to %[[COLUMNS:[^ ]*]]
  // CHECK: %[[BR4:.*]] = arith.muli %[[BR]], %[[COLUMNS]]
  // CHECK: %[[AT:.*]] = arith.addi %[[BR4]], %[[C]]
  // CHECK: %[[CRD4:.*]] = arith.muli %[[CRD]], %c4
  // CHECK: %[[J:.*]] = arith.addi %[[CRD4]], %[[C]]
  // CHECK: memref.load %{{.*}}[%[[AT]]]
  // CHECK: arith.index_cast %[[J]]
  %2 = gossamer.map ins(%b : tensor<8x8xf32, #BSR>) maps [#id] {
  ^bb0(%v: f32):
    %j = gossamer.index 1
    %n = arith.index_cast %j : index to i64
    %f = arith.sitofp %n : i64 to f32
    %1 = arith.mulf %v, %f : f32
    gossamer.yield %1 : f32
  } -> tensor<8x8xf32, #BSR>
  gossamer.store_values %2, %ob : tensor<8x8xf32, #BSR>, memref<?xf32>

  // Positions are pairs: 2 i and 2 i + 1.
  // CHECK: scf.parallel (%[[I:.*]]) =
  // CHECK: %[[I2:.*]] = arith.muli %[[I]], %c2
  // CHECK: %[[I21:.*]] = arith.addi %[[I2]], %c1
  // CHECK: %[[LO:.*]] = memref.load %{{.*}}[%[[I2]]]
  // CHECK: %[[HI:.*]] = memref.load %{{.*}}[%[[I21]]]
  // CHECK: scf.for %{{.*}} = %[[LO]] to %[[HI]]
  %3 = gossamer.map ins(%c : tensor<?x?xf32, #PAIRS>) maps [#id] {
  ^bb0(%v: f32):
    %1 = math.exp %v : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #PAIRS>
  gossamer.store_values %3, %oc : tensor<?x?xf32, #PAIRS>, memref<?xf32>

  // Two of every four, no segments.
  // CHECK: scf.parallel (%{{.*}}, %{{.*}}) = (%c0, %c0) to (%{{.*}}, %{{.*}}) step
  // CHECK: scf.for %{{.*}} = %c0 to %c2
  %4 = gossamer.map ins(%d : tensor<8x8xf32, #NM>) maps [#id] {
  ^bb0(%v: f32):
    %1 = math.exp %v : f32
    gossamer.yield %1 : f32
  } -> tensor<8x8xf32, #NM>
  gossamer.store_values %4, %od : tensor<8x8xf32, #NM>, memref<?xf32>
  return
}

// One dimension in blocks, and the other between: rows are rows still (MLIR's lvlToDim has them second).
// CHECK-LABEL: func @stripes
func.func @stripes(%s: tensor<16x16xf32, #COLUMNS>) -> tensor<16x16xf32> {
  // CHECK: scf.parallel (%[[I:.*]]) =
  // CHECK: scf.for
  // CHECK: %[[J:.*]] = memref.load %{{.*}} : memref<?xindex>
  // CHECK: scf.for %[[II:.*]] = %c0 to %c8
  // CHECK: %[[FIRST:.*]] = arith.muli %[[I]], %c8
  // CHECK: %[[ROW:.*]] = arith.addi %[[FIRST]], %[[II]]
  // CHECK: memref.store %{{.*}}, %{{.*}}[%[[ROW]], %[[J]]]
  %0 = gossamer.convert %s {fill = 0.0 : f32} : tensor<16x16xf32, #COLUMNS> to tensor<16x16xf32>
  return %0 : tensor<16x16xf32>
}
