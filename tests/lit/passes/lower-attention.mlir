// RUN: gossamer-opt %s --gossamer-lower-attention -cse --split-input-file | FileCheck %s

#CSR4 = #sparse_tensor.encoding<{ map = (d0, d1, d2, d3) -> (d0 : dense, d1 : dense, d2 : dense, d3 : compressed) }>

// One pass over a row of the mask, all else in registers or in the result's row:
// no score is stored. One mask for all: its first two coordinates are 0.
// CHECK-LABEL: func @entries
// CHECK-SAME: %[[OUT:[^:]*]]: memref<?x?x?x?xf32>)
func.func @entries(%q: tensor<?x?x?x?xf32>, %k: tensor<?x?x?x?xf32>, %v: tensor<?x?x?x?xf32>, %m: tensor<1x1x?x?xi1, #CSR4>,
                   %out: memref<?x?x?x?xf32>) -> tensor<?x?x?x?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x?x?x?xf32> to tensor<?x?x?x?xf32>
  // CHECK-DAG: %[[LOWEST:.*]] = arith.constant 0xFF800000 : f32
  // CHECK-NOT: memref.alloc
  // CHECK: scf.parallel (%[[B:.*]], %[[H:.*]], %[[I:.*]]) =
  // CHECK: %[[FIRST:.*]] = memref.load
  // CHECK: %[[LAST:.*]] = memref.load
  // CHECK: scf.for %[[AT:[^ ]*]] = %[[FIRST]] to %[[LAST]] {{.*}} iter_args(%[[MAX:.*]] = %[[LOWEST]], %[[SUM:.*]] =
  // CHECK: %[[J:.*]] = memref.load %{{.*}}[%[[AT]]]
  // The product of a row of q and one of k.
  // CHECK: %[[DOT:.*]] = scf.for %[[D:[^ ]*]] =
  // CHECK: memref.load %{{.*}}[%[[B]], %[[H]], %[[I]], %[[D]]]
  // CHECK: memref.load %{{.*}}[%[[B]], %[[H]], %[[J]], %[[D]]]
  // CHECK: %[[MASK:.*]] = memref.load %{{.*}}[%[[AT]]] : memref<?xi1>
  // CHECK: %[[S:.*]] = arith.select %[[MASK]], %[[DOT]]
  // A new maximum rescales; -inf stays out.
  // CHECK: %[[GROWS:.*]] = arith.cmpf ogt, %[[S]], %[[MAX]]
  // CHECK: scf.if %[[GROWS]]
  // CHECK: math.exp
  // CHECK: arith.cmpf oeq, %[[S]], %[[LOWEST]]
  // CHECK: math.exp
  // A row with nothing allowed has the sum 0, and is 0.
  // CHECK: arith.divf
  // CHECK: arith.select
  // CHECK-NOT: memref.alloc
  // CHECK: return
  %0 = gossamer.attention ins(%q, %k, %v, %m : tensor<?x?x?x?xf32>, tensor<?x?x?x?xf32>, tensor<?x?x?x?xf32>, tensor<1x1x?x?xi1, #CSR4>)
      outs(%e : tensor<?x?x?x?xf32>)
      maps [affine_map<(b, h, i, j, d, e) -> (b, h, i, d)>, affine_map<(b, h, i, j, d, e) -> (b, h, j, d)>,
            affine_map<(b, h, i, j, d, e) -> (b, h, j, e)>, affine_map<(b, h, i, j, d, e) -> (0, 0, i, j)>,
            affine_map<(b, h, i, j, d, e) -> (b, h, i, e)>] {
  ^bb0(%s: f32, %mask: i1):
    %lowest = arith.constant 0xFF800000 : f32
    %1 = arith.select %mask, %s, %lowest : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?x?x?xf32>
  return %0 : tensor<?x?x?x?xf32>
}

// -----

// Blocks: the row's block row, then the columns of each block. Static sizes; a
// further operand; into memory of its own.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
// CHECK-LABEL: func @blocks
func.func @blocks(%q: tensor<8x4xf64>, %m: tensor<8x8xf64, #BSR>, %bias: tensor<8xf64>) -> tensor<8x4xf64> {
  %e = tensor.empty() : tensor<8x4xf64>
  // CHECK: %[[OUT:.*]] = memref.alloc() {{.*}} : memref<8x4xf64>
  // CHECK: scf.parallel (%[[I:.*]]) =
  // CHECK-DAG: %[[IN:.*]] = arith.remui %[[I]], %[[ROWS:.*]] : index
  // CHECK-DAG: %[[BLOCK:.*]] = arith.divui %[[I]], %[[ROWS]] : index
  // CHECK: memref.load %{{.*}}[%[[BLOCK]]]
  // CHECK: scf.for %[[AT:[^ ]*]] =
  // CHECK: scf.for %[[C:[^ ]*]] =
  // CHECK: arith.subf %{{.*}}, %{{.*}} : f64
  // CHECK-NOT: gossamer.attention
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<8x4xf64>, tensor<8x4xf64>, tensor<8x4xf64>, tensor<8x8xf64, #BSR>)
      with(%bias : tensor<8xf64>) outs(%e : tensor<8x4xf64>)
      maps [affine_map<(i, j, d, e) -> (i, d)>, affine_map<(i, j, d, e) -> (j, d)>, affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>, affine_map<(i, j, d, e) -> (j)>, affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f64, %mask: f64, %b: f64):
    %1 = arith.addf %s, %mask : f64
    %2 = arith.subf %1, %b : f64
    gossamer.yield %2 : f64
  } -> tensor<8x4xf64>
  return %0 : tensor<8x4xf64>
}
