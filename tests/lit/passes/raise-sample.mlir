// RUN: gossamer-opt %s --gossamer-raise-sample -canonicalize | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#one = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
#two = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
        iterator_types = ["parallel", "parallel"]}
#product = {indexing_maps = [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>],
            iterator_types = ["parallel", "parallel", "reduction"]}

// CHECK-DAG: #[[IJ:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>
// CHECK-DAG: #[[IK:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-DAG: #[[KJ:.*]] = affine_map<(d0, d1, d2) -> (d2, d1)>

// mask * (a @ b), and an elementwise function behind it.
// CHECK-LABEL: func @sddmm
// CHECK-SAME: %[[S:[^:]*]]: tensor<?x?xf32, #{{[^:]*}}, %[[A:[^:]*]]: tensor<?x?xf32>, %[[B:[^:]*]]: tensor<?x?xf32>
func.func @sddmm(%s: tensor<?x?xf32, #CSR>, %a: tensor<?x?xf32>, %b: tensor<?x?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32, #CSR> {
  %zero = arith.constant 0.0 : f32
  %sd = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  %0 = linalg.generic #product ins(%a, %b : tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %p = arith.mulf %x, %y : f32
    %q = arith.addf %p, %o : f32
    linalg.yield %q : f32
  } -> tensor<?x?xf32>
  %1 = linalg.generic #two ins(%sd, %0 : tensor<?x?xf32>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %p = arith.mulf %x, %y : f32
    %q = math.tanh %p : f32
    linalg.yield %q : f32
  } -> tensor<?x?xf32>
  // CHECK-NOT: linalg
  // CHECK: %[[R:.*]] = gossamer.sddmm ins(%[[S]], %[[A]], %[[B]] :
  // CHECK-SAME: maps [#[[IJ]], #[[IK]], #[[KJ]]] {
  // CHECK-NEXT: ^bb0(%[[V:.*]]: f32, %[[SUM:.*]]: f32):
  // CHECK-NEXT: %[[P:.*]] = arith.mulf %[[V]], %[[SUM]]
  // CHECK-NEXT: %[[T:.*]] = math.tanh %[[P]]
  // CHECK-NEXT: gossamer.yield %[[T]]
  // CHECK: return %[[R]]
  %r = gossamer.sample %1, %s : tensor<?x?xf32>, tensor<?x?xf32, #CSR> -> tensor<?x?xf32, #CSR>
  return %r : tensor<?x?xf32, #CSR>
}

// Sums of half precision are made in f32, and rounded: the operation does that.
// CHECK-LABEL: func @halves
// CHECK: gossamer.sddmm
// CHECK-NEXT: ^bb0(%[[V:.*]]: f16, %[[SUM:.*]]: f16):
// CHECK-NEXT: %[[P:.*]] = arith.mulf %[[V]], %[[SUM]]
// CHECK-NEXT: gossamer.yield %[[P]]
func.func @halves(%s: tensor<?x?xf16, #CSR>, %a: tensor<?x?xf16>, %b: tensor<?x?xf16>, %e: tensor<?x?xf32>, %h: tensor<?x?xf16>) -> tensor<?x?xf16, #CSR> {
  %zero = arith.constant 0.0 : f32
  %sd = gossamer.convert %s {fill = 0.0 : f16} : tensor<?x?xf16, #CSR> to tensor<?x?xf16>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  %0 = linalg.generic #product ins(%a, %b : tensor<?x?xf16>, tensor<?x?xf16>) outs(%f : tensor<?x?xf32>) {
  ^bb0(%x: f16, %y: f16, %o: f32):
    %l = arith.extf %x : f16 to f32
    %r = arith.extf %y : f16 to f32
    %p = arith.mulf %l, %r : f32
    %q = arith.addf %p, %o : f32
    linalg.yield %q : f32
  } -> tensor<?x?xf32>
  %1 = linalg.generic #one ins(%0 : tensor<?x?xf32>) outs(%h : tensor<?x?xf16>) {
  ^bb0(%x: f32, %o: f16):
    %t = arith.truncf %x : f32 to f16
    linalg.yield %t : f16
  } -> tensor<?x?xf16>
  %2 = linalg.generic #two ins(%sd, %1 : tensor<?x?xf16>, tensor<?x?xf16>) outs(%h : tensor<?x?xf16>) {
  ^bb0(%x: f16, %y: f16, %o: f16):
    %p = arith.mulf %x, %y : f16
    linalg.yield %p : f16
  } -> tensor<?x?xf16>
  %r = gossamer.sample %2, %s : tensor<?x?xf16>, tensor<?x?xf16, #CSR> -> tensor<?x?xf16, #CSR>
  return %r : tensor<?x?xf16, #CSR>
}

// No product: the chain becomes a map; a row vector and the index are operands.
// CHECK-LABEL: func @map
// CHECK-SAME: %[[S:[^:]*]]: tensor<?x?xf32, #{{[^:]*}}, %[[ROW:[^:]*]]: tensor<?xf32>
func.func @map(%s: tensor<?x?xf32, #CSR>, %row: tensor<?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32, #CSR> {
  %sd = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %0 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
                       iterator_types = ["parallel", "parallel"]}
      ins(%row, %sd : tensor<?xf32>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %i = linalg.index 0 : index
    %c = arith.index_cast %i : index to i32
    %n = arith.sitofp %c : i32 to f32
    %p = arith.divf %y, %x : f32
    %q = arith.addf %p, %n : f32
    linalg.yield %q : f32
  } -> tensor<?x?xf32>
  // CHECK-NOT: linalg
  // CHECK: gossamer.map ins(%[[S]] : {{.*}}) with(%[[ROW]] : tensor<?xf32>)
  // CHECK-NEXT: ^bb0(%[[V:.*]]: f32, %[[X:.*]]: f32):
  // CHECK: gossamer.index 0
  // CHECK: arith.divf %[[V]], %[[X]]
  %r = gossamer.sample %0, %s : tensor<?x?xf32>, tensor<?x?xf32, #CSR> -> tensor<?x?xf32, #CSR>
  return %r : tensor<?x?xf32, #CSR>
}

// The sample of a softmax is the softmax of a sample.
// CHECK-LABEL: func @softmax
// CHECK-SAME: %[[M:[^:]*]]: tensor<?x?xi1
func.func @softmax(%m: tensor<?x?xi1, #CSR>, %d: tensor<?x?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32, #CSR> {
  %lowest = arith.constant 0xFF800000 : f32
  %md = gossamer.convert %m {fill = false} : tensor<?x?xi1, #CSR> to tensor<?x?xi1>
  %0 = linalg.generic #two ins(%md, %d : tensor<?x?xi1>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%x: i1, %y: f32, %o: f32):
    %p = arith.select %x, %y, %lowest : f32
    linalg.yield %p : f32
  } -> tensor<?x?xf32>
  // CHECK-NOT: linalg
  // CHECK: %[[SCORES:.*]] = gossamer.map ins(%[[M]] :
  // CHECK: arith.select
  // CHECK: gossamer.softmax %[[SCORES]] dim 1
  %p = linalg.softmax dimension(1) ins(%0 : tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  %r = gossamer.sample %p, %m : tensor<?x?xf32>, tensor<?x?xi1, #CSR> -> tensor<?x?xf32, #CSR>
  return %r : tensor<?x?xf32, #CSR>
}

// Of a plain tensor the entries are picked.
// CHECK-LABEL: func @argument
// CHECK-SAME: %[[M:[^:]*]]: tensor<?x?xi1, #{{[^:]*}}, %[[D:[^:]*]]: tensor<?x?xf32>
func.func @argument(%m: tensor<?x?xi1, #CSR>, %d: tensor<?x?xf32>) -> tensor<?x?xf32, #CSR> {
  // CHECK: gossamer.map ins(%[[M]] : {{.*}}) with(%[[D]] : tensor<?x?xf32>)
  // CHECK-NEXT: ^bb0(%{{.*}}: i1, %[[X:.*]]: f32):
  // CHECK-NEXT: gossamer.yield %[[X]] : f32
  %r = gossamer.sample %d, %m : tensor<?x?xf32>, tensor<?x?xi1, #CSR> -> tensor<?x?xf32, #CSR>
  return %r : tensor<?x?xf32, #CSR>
}
