// RUN: gossamer-opt %s --gossamer-lower-sddmm="vector-bytes=32" -cse --split-input-file | FileCheck %s

// Entries of a row by eights: lanes along k, the row of %a loaded once for all, sums over lanes of all at
// once, straight into the caller's array, where the body finds them. What is left of a row by fours.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
// CHECK-LABEL: func @entries
// CHECK-SAME: %[[S:[^:]*]]: tensor<?x?xf32, {{.*}}, %[[A:[^:]*]]: tensor<?x?xf32>, %[[B:[^:]*]]: tensor<?x?xf32>, %[[OUT:[^:]*]]: memref<?xf32>)
func.func @entries(%s: tensor<?x?xf32, #CSR>, %a: tensor<?x?xf32>, %b: tensor<?x?xf32>, %out: memref<?xf32>) {
  // CHECK-DAG: %[[X:.*]] = bufferization.to_buffer %[[A]]
  // CHECK-DAG: %[[Y:.*]] = bufferization.to_buffer %[[B]]
  // CHECK-NOT: memref.alloc
  // CHECK: scf.parallel (%[[I:.*]]) =
  // CHECK: scf.for %[[AT:.*]] =
  // CHECK: scf.for %[[K:.*]] = {{.*}} iter_args({{.*}}) -> (vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>)
  // CHECK: vector.load %[[X]][%[[I]], %[[K]]]
  // CHECK-COUNT-8: vector.load %[[Y]]
  // CHECK-NOT: vector.load
  // CHECK: scf.if
  // CHECK: vector.create_mask
  // CHECK: vector.maskedload
  // CHECK: vector.shuffle
  // CHECK: vector.store %{{.*}}, %[[OUT]][%[[AT]]]
  // CHECK: scf.for
  // CHECK: arith.minui
  // CHECK: vector.maskedstore %[[OUT]]
  // CHECK: scf.for %[[P:.*]] = {{.*}} step %c8
  // CHECK: %[[SUM:.*]] = vector.load %[[OUT]][%[[P]]]
  // CHECK: %[[R:.*]] = arith.mulf %{{.*}}, %[[SUM]]
  // CHECK: vector.store %[[R]], %[[OUT]][%[[P]]]
  // CHECK: vector.maskedstore %[[OUT]]
  %0 = gossamer.sddmm ins(%s, %a, %b : tensor<?x?xf32, #CSR>, tensor<?x?xf32>, tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, j)>, affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (j, k)>] {
  ^bb0(%v: f32, %sum: f32):
    %1 = arith.mulf %v, %sum : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #CSR>
  gossamer.store_values %0, %out : tensor<?x?xf32, #CSR>, memref<?xf32>
  return
}

// -----

// An operand that has k elsewhere is copied with it innermost, a square of lanes at a time. Sums of f16 are
// f32; all entries of a COO are one run, which threads take in parts.
#COO = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed(nonunique), d1 : singleton(soa)) }>
// CHECK-LABEL: func @transposed
func.func @transposed(%s: tensor<?x?xf16, #COO>, %a: tensor<?x?xf16>, %b: tensor<?x?xf16>) -> tensor<?x?xf16, #COO> {
  // CHECK: %[[COPY:.*]] = memref.alloc({{.*}}) {alignment = 64 : i64} : memref<?x?xf16>
  // CHECK: scf.parallel
  // CHECK: vector.shuffle {{.*}} : vector<8xf16>, vector<8xf16>
  // CHECK: vector.store {{.*}}, %[[COPY]]
  // CHECK: scf.parallel (%{{.*}}) = {{.*}} step (%c1024)
  // CHECK: %[[SUMS:.*]] = memref.alloc({{.*}}) {{.*}} : memref<?xf32>
  // CHECK: arith.extf {{.*}} : vector<8xf16> to vector<8xf32>
  // CHECK: vector.store {{.*}}, %[[SUMS]]
  // CHECK: arith.truncf {{.*}} : vector<8xf32> to vector<8xf16>
  // CHECK: memref.dealloc %[[SUMS]]
  // CHECK: memref.dealloc %[[COPY]]
  %0 = gossamer.sddmm ins(%s, %a, %b : tensor<?x?xf16, #COO>, tensor<?x?xf16>, tensor<?x?xf16>)
      maps [affine_map<(i, j, k) -> (i, j)>, affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>] {
  ^bb0(%v: f16, %sum: f16):
    gossamer.yield %sum : f16
  } -> tensor<?x?xf16, #COO>
  return %0 : tensor<?x?xf16, #COO>
}

// -----

// Blocks: columns as lanes, from panels of the columns' operand; a tile of sums in registers. A body that
// is the sum has nothing to do.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 16 : dense, d1 floordiv 32 : compressed, d0 mod 16 : dense, d1 mod 32 : dense) }>
// CHECK-LABEL: func @blocks
func.func @blocks(%s: tensor<?x?xi1, #BSR>, %a: tensor<?x?xf32>, %b: tensor<?x?xf32>, %out: memref<?xf32>) {
  // CHECK: %[[PANELS:.*]] = memref.alloc({{.*}}) {alignment = 64 : i64} : memref<?x?x32xf32>
  // CHECK: scf.parallel
  // CHECK: vector.store {{.*}}, %[[PANELS]]
  // CHECK: scf.parallel
  // CHECK: scf.for
  // CHECK: scf.for {{.*}} = %c0 to %c32 step %c16
  // CHECK: scf.for {{.*}} = %c0 to %c16 step %c4
  // CHECK: scf.for %[[K:.*]] =
  // CHECK-COUNT-2: vector.load %[[PANELS]][
  // CHECK-COUNT-8: vector.fma
  // CHECK: vector.store {{.*}}, %arg3
  // CHECK-NOT: memref.store
  // CHECK: memref.dealloc %[[PANELS]]
  %0 = gossamer.sddmm ins(%s, %a, %b : tensor<?x?xi1, #BSR>, tensor<?x?xf32>, tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, j)>, affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>] {
  ^bb0(%v: i1, %sum: f32):
    gossamer.yield %sum : f32
  } -> tensor<?x?xf32, #BSR>
  gossamer.store_values %0, %out : tensor<?x?xf32, #BSR>, memref<?xf32>
  return
}

// -----

// Kept entries of n:m are one run a row: groups have too few each.
#NM = #sparse_tensor.encoding<{ map = (i, j) -> (i : dense, j floordiv 4 : dense, j mod 4 : structured[2, 4]) }>
// CHECK-LABEL: func @structured
func.func @structured(%s: tensor<8x8xf32, #NM>, %a: tensor<8x?xf32>, %b: tensor<8x?xf32>) -> tensor<8x8xf32, #NM> {
  // CHECK: scf.parallel (%{{.*}}) = (%c0) to
  // CHECK: scf.for
  // CHECK: vector.fma
  %0 = gossamer.sddmm ins(%s, %a, %b : tensor<8x8xf32, #NM>, tensor<8x?xf32>, tensor<8x?xf32>)
      maps [affine_map<(i, j, k) -> (i, j)>, affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (j, k)>] {
  ^bb0(%v: f32, %sum: f32):
    gossamer.yield %sum : f32
  } -> tensor<8x8xf32, #NM>
  return %0 : tensor<8x8xf32, #NM>
}

// -----

// A product over two dimensions is left to the general loops.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @left
// CHECK: gossamer.sddmm
func.func @left(%s: tensor<?x?xf32, #CSR>, %a: tensor<?x?x?xf32>, %b: tensor<?x?x?xf32>) -> tensor<?x?xf32, #CSR> {
  %0 = gossamer.sddmm ins(%s, %a, %b : tensor<?x?xf32, #CSR>, tensor<?x?x?xf32>, tensor<?x?x?xf32>)
      maps [affine_map<(i, j, k, l) -> (i, j)>, affine_map<(i, j, k, l) -> (i, k, l)>, affine_map<(i, j, k, l) -> (j, k, l)>] {
  ^bb0(%v: f32, %sum: f32):
    gossamer.yield %sum : f32
  } -> tensor<?x?xf32, #CSR>
  return %0 : tensor<?x?xf32, #CSR>
}
