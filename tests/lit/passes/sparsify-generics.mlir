// RUN: gossamer-opt %s --gossamer-sparsify-generics -canonicalize | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>

// A sum of what is stored: the conversion is folded into the loops, which are
// serial (upstream would make the scatter into columns parallel).
// CHECK-LABEL: func @column_sums
// CHECK-SAME: %[[S:[^:]*]]: tensor
func.func @column_sums(%s: tensor<?x?xf32, #CSR>, %e: tensor<?xf32>) -> tensor<?xf32> {
  %zero = arith.constant 0.0 : f32
  // CHECK-NOT: gossamer.convert
  %d = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  // CHECK-DAG: sparse_tensor.positions %[[S]] {level = 1 : index}
  // CHECK-NOT: scf.parallel
  // CHECK: scf.for
  // CHECK: scf.for
  // CHECK: arith.addf
  %0 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>], iterator_types = ["reduction", "parallel"]}
      ins(%d : tensor<?x?xf32>) outs(%f : tensor<?xf32>) {
  ^bb0(%a: f32, %o: f32):
    %x = arith.addf %a, %o : f32
    linalg.yield %x : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// A fill that is not 0, and a second sparse operand, are for the dense road.
// CHECK-LABEL: func @filled
func.func @filled(%s: tensor<?x?xf32, #CSR>, %e: tensor<?xf32>) -> tensor<?xf32> {
  %zero = arith.constant 0.0 : f32
  // CHECK: %[[D:.*]] = gossamer.convert
  %d = gossamer.convert %s {fill = 1.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  // CHECK: linalg.generic {{.*}} ins(%[[D]] :
  %0 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>], iterator_types = ["parallel", "reduction"]}
      ins(%d : tensor<?x?xf32>) outs(%f : tensor<?xf32>) {
  ^bb0(%a: f32, %o: f32):
    %x = arith.addf %a, %o : f32
    linalg.yield %x : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}
