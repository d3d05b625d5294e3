// RUN: gossamer-opt %s --gossamer-raise-matmul -verify-diagnostics -split-input-file -o %t
// RUN: FileCheck %s < %t

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#linear = {indexing_maps = [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>, affine_map<(t, o, k) -> (t, o)>],
           iterator_types = ["parallel", "parallel", "reduction"]}

// CHECK-LABEL: func @fill
// CHECK-NOT: = gossamer.matmul
func.func @fill(%x: tensor<8x8xf32>, %w: tensor<8x8xf32, #CSR>, %e: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %zero = arith.constant 0.0 : f32
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  %wd = gossamer.convert %w {fill = 1.0 : f32} : tensor<8x8xf32, #CSR> to tensor<8x8xf32>
  // expected-remark @+1 {{not raised to gossamer.matmul: the sparse operand's fill is not 0}}
  %0 = linalg.generic #linear ins(%x, %wd : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<8x8xf32>
  return %0 : tensor<8x8xf32>
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#linear = {indexing_maps = [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>, affine_map<(t, o, k) -> (t, o)>],
           iterator_types = ["parallel", "parallel", "reduction"]}

// CHECK-LABEL: func @two_sparse
// CHECK-SAME: %[[A:[^:]*]]: tensor
func.func @two_sparse(%a: tensor<8x8xf32, #CSR>, %b: tensor<8x8xf32, #CSR>, %e: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %zero = arith.constant 0.0 : f32
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  %ad = gossamer.convert %a {fill = 0.0 : f32} : tensor<8x8xf32, #CSR> to tensor<8x8xf32>
  // CHECK: %[[B:.*]] = gossamer.convert
  // CHECK: %[[B:.*]] = gossamer.convert
  %bd = gossamer.convert %b {fill = 0.0 : f32} : tensor<8x8xf32, #CSR> to tensor<8x8xf32>
  // CHECK: gossamer.matmul ins(%[[A]], %[[B]] :
  // expected-remark @+1 {{of two sparse operands: the right one is taken as dense}}
  %0 = linalg.generic #linear ins(%ad, %bd : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %p = arith.mulf %x, %y : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<8x8xf32>
  return %0 : tensor<8x8xf32>
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>

// A convolution is not a product of tensors; it is not raised, and nothing breaks.
// CHECK-LABEL: func @window
// CHECK-NOT: = gossamer.matmul
func.func @window(%x: tensor<9x8xf32, #CSR>, %w: tensor<2xf32>, %e: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %zero = arith.constant 0.0 : f32
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  %xd = gossamer.convert %x {fill = 0.0 : f32} : tensor<9x8xf32, #CSR> to tensor<9x8xf32>
  %0 = linalg.generic {indexing_maps = [affine_map<(i, j, k) -> (i + k, j)>, affine_map<(i, j, k) -> (k)>, affine_map<(i, j, k) -> (i, j)>],
                       iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%xd, %w : tensor<9x8xf32>, tensor<2xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<8x8xf32>
  return %0 : tensor<8x8xf32>
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#linear = {indexing_maps = [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>, affine_map<(t, o, k) -> (t, o)>],
           iterator_types = ["parallel", "parallel", "reduction"]}

// CHECK-LABEL: func @bits
// CHECK-NOT: = gossamer.matmul
func.func @bits(%x: tensor<8x8xi1>, %w: tensor<8x8xi1, #CSR>, %e: tensor<8x8xi1>) -> tensor<8x8xi1> {
  %zero = arith.constant false
  %f = linalg.fill ins(%zero : i1) outs(%e : tensor<8x8xi1>) -> tensor<8x8xi1>
  %wd = gossamer.convert %w {fill = false} : tensor<8x8xi1, #CSR> to tensor<8x8xi1>
  // expected-remark @+1 {{its operands are no numbers}}
  %0 = linalg.generic #linear ins(%x, %wd : tensor<8x8xi1>, tensor<8x8xi1>) outs(%f : tensor<8x8xi1>) {
  ^bb0(%a: i1, %b: i1, %o: i1):
    %p = arith.muli %a, %b : i1
    %s = arith.addi %p, %o : i1
    linalg.yield %s : i1
  } -> tensor<8x8xi1>
  return %0 : tensor<8x8xi1>
}
