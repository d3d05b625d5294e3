// RUN: gossamer-opt %s --gossamer-raise-contract --gossamer-raise-matmul -canonicalize | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#product = {indexing_maps = [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>],
            iterator_types = ["parallel", "parallel", "reduction"]}
#three = {indexing_maps = [affine_map<(b, i, j) -> (b, i)>, affine_map<(b, i, j) -> (i, j)>, affine_map<(b, i, j) -> (b, j)>, affine_map<(b, i, j) -> (b)>],
          iterator_types = ["parallel", "reduction", "reduction"]}
#outer = {indexing_maps = [affine_map<(i, j, k) -> (i, j)>, affine_map<(i, j, k) -> (k)>, affine_map<(i, j, k) -> (i, j, k)>],
          iterator_types = ["parallel", "parallel", "parallel"]}
#two = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}

// CHECK-DAG: #[[IK:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-DAG: #[[KJ:.*]] = affine_map<(d0, d1, d2) -> (d2, d1)>
// CHECK-DAG: #[[IJ:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>

// Two sparse operands.
// CHECK-LABEL: func @two_sparse
// CHECK-SAME: %[[A:[^:]*]]: tensor<?x?xf32, #{{[^:]*}}, %[[B:[^:]*]]: tensor<?x?xf32, #{{[^:]*}}, %[[E:[^:]*]]:
// CHECK-NEXT: gossamer.contract ins(%[[A]], %[[B]] : {{.*}}) outs(%[[E]] : {{.*}}) maps [#[[IK]], #[[KJ]], #[[IJ]]]
// CHECK-NOT: linalg
func.func @two_sparse(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %zero = arith.constant 0.0 : f32
  %ad = gossamer.convert %a {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %bd = gossamer.convert %b {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  %0 = linalg.generic #product ins(%ad, %bd : tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %p = arith.mulf %x, %y : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// Three operands, of which one is computed on a pattern.
// CHECK-LABEL: func @three
// CHECK: %[[S:.*]] = gossamer.sample
// CHECK: gossamer.contract ins(%{{.*}}, %[[S]], %{{.*}} :
func.func @three(%x: tensor<?x?xf32>, %w: tensor<?x?xf32, #CSR>, %y: tensor<?x?xf32>, %e: tensor<?xf32>, %t: tensor<?x?xf32>) -> tensor<?xf32> {
  %zero = arith.constant 0.0 : f32
  %two = arith.constant 2.0 : f32
  %wd = gossamer.convert %w {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %w2 = linalg.generic #two ins(%wd : tensor<?x?xf32>) outs(%t : tensor<?x?xf32>) {
  ^bb0(%v: f32, %o: f32):
    %p = arith.mulf %v, %two : f32
    linalg.yield %p : f32
  } -> tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  %0 = linalg.generic #three ins(%x, %w2, %y : tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<?xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    %q = arith.mulf %p, %c : f32
    %s = arith.addf %o, %q : f32
    linalg.yield %s : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// Nothing to sum over.
// CHECK-LABEL: func @outer
// CHECK: gossamer.contract
func.func @outer(%w: tensor<?x?xf32, #CSR>, %v: tensor<?xf32>, %e: tensor<?x?x?xf32>) -> tensor<?x?x?xf32> {
  %zero = arith.constant 0.0 : f32
  %wd = gossamer.convert %w {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?x?xf32>) -> tensor<?x?x?xf32>
  %0 = linalg.generic #outer ins(%wd, %v : tensor<?x?xf32>, tensor<?xf32>) outs(%f : tensor<?x?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %p = arith.mulf %x, %y : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x?x?xf32>
  return %0 : tensor<?x?x?xf32>
}

// One sparse operand of two, and a sum: gossamer.matmul.
// CHECK-LABEL: func @one_sparse
// CHECK-NOT: gossamer.contract
// CHECK: gossamer.matmul
func.func @one_sparse(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %zero = arith.constant 0.0 : f32
  %ad = gossamer.convert %a {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  %0 = linalg.generic #product ins(%ad, %b : tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %p = arith.mulf %x, %y : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
