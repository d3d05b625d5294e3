// RUN: gossamer-opt %s --gossamer-lower-stored="gpu=true" -cse --split-input-file | FileCheck %s

// What does not depend on where an entry is: all of them at once.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @map
// CHECK: %[[COUNT:.*]] = memref.dim
// CHECK: scf.parallel (%[[P:.*]]) = (%{{.*}}) to (%[[COUNT]])
// CHECK: memref.store %{{.*}}[%[[P]]]
func.func @map(%s: tensor<?x?xf32, #CSR>) -> tensor<?x?xf32, #CSR> {
  %0 = gossamer.map ins(%s : tensor<?x?xf32, #CSR>) maps [affine_map<(i, j) -> (i, j)>] {
  ^bb0(%v: f32):
    %1 = arith.negf %v : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #CSR>
  return %0 : tensor<?x?xf32, #CSR>
}

// -----

// Four entries of a row at a time, eight lanes each along the depth, and the
// depths of attention heads known.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @sddmm
// CHECK: scf.if
// CHECK: scf.if
// CHECK: scf.parallel
// CHECK: scf.parallel
// CHECK: scf.parallel {{.*}} to (%c64) step (%c4) init
// CHECK: vector.load {{.*}} vector<4xf32>
// CHECK: } {gossamer.lanes = 8 : i64}
// CHECK: } {gossamer.lanes = 4 : i64}
// CHECK: scf.parallel {{.*}} to (%c128) step (%c4) init
func.func @sddmm(%s: tensor<?x?xf32, #CSR>, %a: tensor<?x?xf32>, %b: tensor<?x?xf32>) -> tensor<?x?xf32, #CSR> {
  %0 = gossamer.sddmm ins(%s, %a, %b : tensor<?x?xf32, #CSR>, tensor<?x?xf32>, tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, j)>, affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (j, k)>] {
  ^bb0(%v: f32, %sum: f32):
    gossamer.yield %sum : f32
  } -> tensor<?x?xf32, #CSR>
  return %0 : tensor<?x?xf32, #CSR>
}

// -----

// A warp has a row; blocks have rows of their own.
#BSR = #sparse_tensor.encoding<{ map = (i, j) -> (i floordiv 2 : dense, j floordiv 4 : compressed, i mod 2 : dense, j mod 4 : dense) }>
// CHECK-LABEL: func @softmax
// CHECK: scf.parallel (%{{.*}}, %{{.*}}) = {{.*}} to (%{{.*}}, %c2)
// CHECK: %[[MAX:.*]] = scf.parallel
// CHECK: arith.maximumf
// CHECK: } {gossamer.lanes = 32 : i64}
// CHECK: scf.parallel
// CHECK: arith.subf %{{.*}}, %[[MAX]]
// CHECK: math.exp
// CHECK: } {gossamer.lanes = 32 : i64}
// CHECK: scf.parallel
// CHECK: arith.divf
// CHECK: } {gossamer.lanes = 32 : i64}
func.func @softmax(%s: tensor<?x?xf32, #BSR>) -> tensor<?x?xf32, #BSR> {
  %0 = gossamer.softmax %s dim 1 : tensor<?x?xf32, #BSR>
  return %0 : tensor<?x?xf32, #BSR>
}

// -----

// A tensor of one dimension is one row.
#Vec = #sparse_tensor.encoding<{ map = (i) -> (i : compressed) }>
// CHECK-LABEL: func @softmax_vector
// CHECK: %[[ONCE:.*]] = arith.minsi
// CHECK: scf.parallel {{.*}} to (%[[ONCE]])
// CHECK: arith.maximumf
// CHECK: } {gossamer.lanes = 32 : i64}
// CHECK: arith.divf
// CHECK: } {gossamer.lanes = 32 : i64}
func.func @softmax_vector(%s: tensor<?xf32, #Vec>) -> tensor<?xf32, #Vec> {
  %0 = gossamer.softmax %s dim 0 : tensor<?xf32, #Vec>
  return %0 : tensor<?xf32, #Vec>
}

// -----

// Compressed rows have as many columns of their own as they are wide.
#Rows = #sparse_tensor.encoding<{ map = (i, j) -> (i : compressed, j : dense) }>
// CHECK-LABEL: func @softmax_columns
// CHECK: scf.parallel (%{{.*}}) = (%c0) to (%{{.*}})
// CHECK: arith.maximumf
// CHECK: } {gossamer.lanes = 32 : i64}
func.func @softmax_columns(%s: tensor<?x?xf32, #Rows>) -> tensor<?x?xf32, #Rows> {
  %0 = gossamer.softmax %s dim 0 : tensor<?x?xf32, #Rows>
  return %0 : tensor<?x?xf32, #Rows>
}

// -----

// A softmax by an index: the places of a row's entries are read.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
// CHECK-LABEL: func @softmax_by
// CHECK: scf.parallel
// CHECK: scf.parallel {{.*}} init
// CHECK: %[[I:.*]] = memref.load {{.*}} : memref<?xi64
// CHECK: %[[P:.*]] = arith.index_cast{{.*}} %[[I]]
// CHECK: memref.load %{{.*}}[%[[P]]] : memref<?xf32
// CHECK: } {gossamer.lanes = 32 : i64}
func.func @softmax_by(%s: tensor<?x?xf32, #CSC>) -> tensor<?x?xf32, #CSC> {
  %i = gossamer.storage_index %s : tensor<?x?xf32, #CSC> to tensor<?x?xi64, #CSR>
  %0 = gossamer.softmax %s by %i : tensor<?x?xi64, #CSR> dim 1 : tensor<?x?xf32, #CSC>
  return %0 : tensor<?x?xf32, #CSC>
}
