// RUN: gossamer-opt %s --gossamer-raise-matmul -canonicalize | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSR3 = #sparse_tensor.encoding<{ map = (d0, d1, d2) -> (d0 : dense, d1 : dense, d2 : compressed) }>
#linear = {indexing_maps = [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>, affine_map<(t, o, k) -> (t, o)>],
           iterator_types = ["parallel", "parallel", "reduction"]}
#two = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
        iterator_types = ["parallel", "parallel"]}
#one = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}

// CHECK-DAG: #[[TK:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-DAG: #[[OK:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK-DAG: #[[KO:.*]] = affine_map<(d0, d1, d2) -> (d2, d1)>
// CHECK-DAG: #[[O:.*]] = affine_map<(d0, d1, d2) -> (d1)>
// CHECK-DAG: #[[TO:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>
// CHECK-DAG: #[[ZIK:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d4, d1, d3)>

// F.linear: bias and activation become the epilogue, the weight's transpose a map.
// CHECK-LABEL: func @linear
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x16xf32>, %[[W:[^:]*]]: tensor<32x16xf32, #{{[^:]*}}, %[[B:[^:]*]]: tensor<32xf32>, %[[E:[^:]*]]:
func.func @linear(%x: tensor<?x16xf32>, %w: tensor<32x16xf32, #CSR>, %bias: tensor<32xf32>,
                  %e: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %zero = arith.constant 0.0 : f32
  %wd = gossamer.convert %w {fill = 0.0 : f32} : tensor<32x16xf32, #CSR> to tensor<32x16xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x32xf32>) -> tensor<?x32xf32>
  %0 = linalg.generic #linear ins(%x, %wd : tensor<?x16xf32>, tensor<32x16xf32>) outs(%f : tensor<?x32xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x32xf32>
  %1 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>, affine_map<(i, j) -> (i, j)>],
                       iterator_types = ["parallel", "parallel"]}
      ins(%0, %bias : tensor<?x32xf32>, tensor<32xf32>) outs(%e : tensor<?x32xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %s = arith.addf %a, %b : f32
    linalg.yield %s : f32
  } -> tensor<?x32xf32>
  %2 = linalg.generic #one ins(%1 : tensor<?x32xf32>) outs(%e : tensor<?x32xf32>) {
  ^bb0(%a: f32, %o: f32):
    %s = math.erf %a : f32
    %p = arith.mulf %a, %s : f32
    linalg.yield %p : f32
  } -> tensor<?x32xf32>
  // CHECK-NOT: linalg
  // CHECK: %[[R:.*]] = gossamer.matmul ins(%[[X]], %[[W]] : tensor<?x16xf32>, tensor<32x16xf32, #{{.*}}>) epilogue(%[[B]] : tensor<32xf32>)
  // CHECK-SAME: outs(%[[E]] :
  // CHECK-SAME: maps [#[[TK]], #[[OK]], #[[O]], #[[TO]]] {
  // CHECK-NEXT: ^bb0(%[[SUM:.*]]: f32, %[[BIAS:.*]]: f32):
  // CHECK-NEXT: %[[Y:.*]] = arith.addf %[[SUM]], %[[BIAS]]
  // CHECK-NEXT: %[[ERF:.*]] = math.erf %[[Y]]
  // CHECK-NEXT: %[[Z:.*]] = arith.mulf %[[Y]], %[[ERF]]
  // CHECK-NEXT: gossamer.yield %[[Z]]
  // CHECK: return %[[R]]
  return %2 : tensor<?x32xf32>
}

// Sparse on the left, and the sum used twice: no epilogue then. The pattern is
// seen through a transposition.
// CHECK-LABEL: func @left
// CHECK-SAME: %[[S:[^:]*]]: tensor<?x?xf64
func.func @left(%s: tensor<?x?xf64, #CSR>, %d: tensor<?x?xf64>, %e: tensor<?x?xf64>) -> (tensor<?x?xf64>, tensor<?x?xf64>) {
  %zero = arith.constant 0.0 : f64
  %sd = gossamer.convert %s {fill = 0.0 : f64} : tensor<?x?xf64, #CSR> to tensor<?x?xf64>
  %st = linalg.generic {indexing_maps = [affine_map<(i, j) -> (j, i)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
      ins(%sd : tensor<?x?xf64>) outs(%e : tensor<?x?xf64>) {
  ^bb0(%a: f64, %o: f64):
    linalg.yield %a : f64
  } -> tensor<?x?xf64>
  %f = linalg.fill ins(%zero : f64) outs(%e : tensor<?x?xf64>) -> tensor<?x?xf64>
  // CHECK: %[[SUM:.*]] = gossamer.matmul ins(%[[S]], %{{.*}} : tensor<?x?xf64, #{{.*}}>, tensor<?x?xf64>) outs
  // CHECK-SAME: maps [#{{.*}}, #[[KO]], #[[TO]]]
  // CHECK-NEXT: ^bb0(%[[A:.*]]: f64):
  // CHECK-NEXT: gossamer.yield %[[A]] : f64
  %0 = linalg.generic {indexing_maps = [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>],
                       iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%st, %d : tensor<?x?xf64>, tensor<?x?xf64>) outs(%f : tensor<?x?xf64>) {
  ^bb0(%a: f64, %b: f64, %o: f64):
    %p = arith.mulf %a, %b : f64
    %s1 = arith.addf %p, %o : f64
    linalg.yield %s1 : f64
  } -> tensor<?x?xf64>
  // CHECK: %[[NEG:.*]] = linalg.generic {{.*}} ins(%[[SUM]] :
  %1 = linalg.generic #one ins(%0 : tensor<?x?xf64>) outs(%e : tensor<?x?xf64>) {
  ^bb0(%a: f64, %o: f64):
    %n = arith.negf %a : f64
    linalg.yield %n : f64
  } -> tensor<?x?xf64>
  // CHECK: return %[[SUM]], %[[NEG]]
  return %0, %1 : tensor<?x?xf64>, tensor<?x?xf64>
}

// An operand computed from a sparse tensor, and 0 where that is: sampled first.
// CHECK-LABEL: func @scaled
// CHECK-SAME: %[[S:[^:]*]]: tensor<?x?xf32
func.func @scaled(%s: tensor<?x?xf32, #CSR>, %g: tensor<?x?xf32>, %d: tensor<?x?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %zero = arith.constant 0.0 : f32
  %sd = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  // CHECK: %[[GATED:.*]] = linalg.generic
  %gated = linalg.generic #two ins(%sd, %g : tensor<?x?xf32>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %b, %a : f32
    linalg.yield %p : f32
  } -> tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  // CHECK: %[[V:.*]] = gossamer.sample %[[GATED]], %[[S]]
  // CHECK: gossamer.matmul ins(%{{.*}}, %[[V]] :
  %0 = linalg.generic #linear ins(%d, %gated : tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    %s1 = arith.addf %p, %o : f32
    linalg.yield %s1 : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// One sparse matrix for a batch: its broadcast dimension gets a loop of size 1.
// CHECK-LABEL: func @broadcast
func.func @broadcast(%s: tensor<1x?x?xf32, #CSR3>, %d: tensor<?x?x?xf32>, %e: tensor<?x?x?xf32>) -> tensor<?x?x?xf32> {
  %zero = arith.constant 0.0 : f32
  %sd = gossamer.convert %s {fill = 0.0 : f32} : tensor<1x?x?xf32, #CSR3> to tensor<1x?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?x?xf32>) -> tensor<?x?x?xf32>
  // CHECK: gossamer.matmul
  // CHECK-SAME: maps [#[[ZIK]], #{{.*}}, #{{.*}}] {
  %0 = linalg.generic {indexing_maps = [affine_map<(b, i, j, k) -> (0, i, k)>, affine_map<(b, i, j, k) -> (b, k, j)>, affine_map<(b, i, j, k) -> (b, i, j)>],
                       iterator_types = ["parallel", "parallel", "parallel", "reduction"]}
      ins(%sd, %d : tensor<1x?x?xf32>, tensor<?x?x?xf32>) outs(%f : tensor<?x?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    %s1 = arith.addf %p, %o : f32
    linalg.yield %s1 : f32
  } -> tensor<?x?x?xf32>
  return %0 : tensor<?x?x?xf32>
}

// The one row of the operand is that of the result.
// CHECK-LABEL: func @one_row
func.func @one_row(%s: tensor<1x?xf32, #CSR>, %d: tensor<?x?xf32>, %e: tensor<1x?xf32>) -> tensor<1x?xf32> {
  %zero = arith.constant 0.0 : f32
  %sd = gossamer.convert %s {fill = 0.0 : f32} : tensor<1x?xf32, #CSR> to tensor<1x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<1x?xf32>) -> tensor<1x?xf32>
  // CHECK: gossamer.matmul
  // CHECK-SAME: maps [#[[TK]], #[[KO]], #[[TO]]] {
  %0 = linalg.generic {indexing_maps = [affine_map<(i, j, k) -> (0, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>],
                       iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%sd, %d : tensor<1x?xf32>, tensor<?x?xf32>) outs(%f : tensor<1x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    %s1 = arith.addf %p, %o : f32
    linalg.yield %s1 : f32
  } -> tensor<1x?xf32>
  return %0 : tensor<1x?xf32>
}

// What adds to its own memory is no epilogue (and must not end in its own operand).
// CHECK-LABEL: func @accumulated
func.func @accumulated(%x: tensor<?x?xf32>, %w: tensor<?x?xf32, #CSR>, %c: tensor<?x?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %zero = arith.constant 0.0 : f32
  %wd = gossamer.convert %w {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  // CHECK: %[[SUM:.*]] = gossamer.matmul
  %0 = linalg.generic #linear ins(%x, %wd : tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x?xf32>
  // CHECK: %[[R:.*]] = linalg.generic {{.*}} ins(%[[SUM]] :
  %1 = linalg.generic #one ins(%0 : tensor<?x?xf32>) outs(%c : tensor<?x?xf32>) {
  ^bb0(%a: f32, %o: f32):
    %s = arith.addf %a, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x?xf32>
  // CHECK: return %[[R]]
  return %1 : tensor<?x?xf32>
}
