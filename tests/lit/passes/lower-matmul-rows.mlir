// RUN: gossamer-opt %s --gossamer-lower-matmul -cse --split-input-file | FileCheck %s
// RUN: gossamer-opt %s --gossamer-lower-matmul="vector-bytes=64" -cse --split-input-file | FileCheck %s --check-prefix=WIDE

// Lanes innermost on both sides: the sums of a row are carried by the loop over
// its entries, and go through the epilogue into the result, which is neither
// filled nor read.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @entries
// CHECK-SAME: %[[S:[^:]*]]: tensor<?x?xf32, #{{[^:]*}}, %[[D:[^:]*]]: tensor<?x?xf32>, %[[B:[^:]*]]: tensor<?xf32>, %[[OUT:[^:]*]]: memref<?x?xf32>)
// WIDE-LABEL: func @entries
func.func @entries(%s: tensor<?x?xf32, #CSR>, %d: tensor<?x?xf32>, %bias: tensor<?xf32>, %out: memref<?x?xf32>) -> tensor<?x?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x?xf32> to tensor<?x?xf32>
  // CHECK-NOT: linalg.fill
  // CHECK: %[[DENSE:.*]] = bufferization.to_buffer %[[D]]
  // A copy of the dense operand in strips, if it is wide and read often enough; else it is read where it lies.
  // CHECK: %[[PAYS:.*]] = arith.andi
  // CHECK: %[[COPY:.*]] = memref.alloc(%{{.*}}) {alignment = 64 : i64} : memref<?xf32>
  // CHECK: scf.parallel
  // CHECK: vector.load %[[DENSE]][%{{.*}}, %{{.*}}] : memref<?x?xf32>, vector<8xf32>
  // CHECK: vector.store %{{.*}}, %[[COPY]]
  // CHECK: %[[FLAT:.*]] = memref.reinterpret_cast %[[DENSE]]
  // CHECK: %[[STRIPS:.*]] = arith.select %[[PAYS]], %[[COPY]], %[[FLAT]]
  // Strips of lanes, and rows in parts of equal work, found by halving.
  // CHECK: scf.parallel (%{{.*}}, %[[PART:.*]]) =
  // CHECK: scf.while
  // CHECK: scf.if
  // CHECK: scf.for %[[I:.*]] =
  // CHECK: %[[SUMS:.*]]:8 = scf.for %[[P:.*]] = %{{.*}} iter_args({{.*}}) -> (vector<8xf32>, {{.*}}) {
  // CHECK: vector.load %[[STRIPS]][%{{.*}}] : memref<?xf32>, vector<8xf32>
  // CHECK: vector.broadcast %{{.*}} : f32 to vector<8xf32>
  // CHECK: vector.fma
  // CHECK: }
  // CHECK: %[[BIAS:.*]] = memref.load %{{.*}}[%[[I]]]
  // CHECK: %[[B:.*]] = vector.broadcast %[[BIAS]]
  // CHECK: %[[Y:.*]] = arith.addf %[[SUMS]]#0, %[[B]]
  // CHECK: vector.store %[[Y]], %[[OUT]][%[[I]], %{{.*}}]
  // The lanes that are no whole strip.
  // CHECK: vector.maskedload %[[DENSE]]
  // CHECK: vector.maskedstore %[[OUT]]
  // CHECK: memref.dealloc %[[COPY]]
  // WIDE: scf.for {{.*}} -> (vector<16xf32>, {{.*}}) {
  %0 = gossamer.matmul ins(%s, %d : tensor<?x?xf32, #CSR>, tensor<?x?xf32>) epilogue(%bias : tensor<?xf32>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32, %b: f32):
    %1 = arith.addf %v, %b : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// -----

// Blocks: a tile of their rows, over their columns.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 4 : dense, d1 floordiv 2 : compressed, d0 mod 4 : dense, d1 mod 2 : dense) }>
// CHECK-LABEL: func @blocks
func.func @blocks(%w: tensor<8x8xf32, #BSR>, %x: tensor<8x?xf32>, %out: memref<8x?xf32>) -> tensor<8x?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<8x?xf32> to tensor<8x?xf32>
  // CHECK: scf.for {{.*}} iter_args
  // CHECK: scf.for %[[C:.*]] = %c0 to %c2 {{.*}} iter_args
  // CHECK-COUNT-4: memref.load %{{.*}} : memref<?xf32>
  %0 = gossamer.matmul ins(%w, %x : tensor<8x8xf32, #BSR>, tensor<8x?xf32>) outs(%e : tensor<8x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<8x?xf32>
  return %0 : tensor<8x?xf32>
}

// -----

// Half precision is summed in single, and rounded once.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @half
func.func @half(%s: tensor<?x?xbf16, #CSR>, %d: tensor<?x?xbf16>, %out: memref<?x?xbf16>) -> tensor<?x?xbf16> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x?xbf16> to tensor<?x?xbf16>
  // CHECK: scf.for {{.*}} -> (vector<8xf32>, {{.*}}) {
  // CHECK: vector.load {{.*}} : memref<?xbf16>, vector<8xbf16>
  // CHECK: arith.extf %{{.*}} : vector<8xbf16> to vector<8xf32>
  // CHECK: arith.truncf %{{.*}} : vector<8xf32> to vector<8xbf16>
  // CHECK: vector.store
  %0 = gossamer.matmul ins(%s, %d : tensor<?x?xbf16, #CSR>, tensor<?x?xbf16>) outs(%e : tensor<?x?xbf16>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    %1 = arith.truncf %v : f32 to bf16
    gossamer.yield %1 : bf16
  } -> tensor<?x?xbf16>
  return %0 : tensor<?x?xbf16>
}

// -----

// The largest product of a row, where one is stored.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @largest
func.func @largest(%s: tensor<?x?xf32, #CSR>, %d: tensor<?x?xf32>, %out: memref<?x?xf32>) -> tensor<?x?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x?xf32> to tensor<?x?xf32>
  // CHECK: arith.constant 0xFF800000 : f32
  // CHECK: arith.mulf
  // CHECK: arith.maximumf
  // CHECK: %[[NONE:.*]] = arith.cmpi eq
  // CHECK: arith.select
  %0 = gossamer.matmul combine amax ins(%s, %d : tensor<?x?xf32, #CSR>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
