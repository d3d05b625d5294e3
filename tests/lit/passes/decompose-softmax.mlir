// RUN: gossamer-opt %s --gossamer-decompose-softmax --split-input-file | FileCheck %s

// Along the first dimension: rows are what is left of the shape.
// CHECK-DAG: #[[ALL:.*]] = affine_map<(d0, d1) -> (d0, d1)>
// CHECK-DAG: #[[ROW:.*]] = affine_map<(d0, d1) -> (d1)>
// CHECK-LABEL: func @softmax
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x4xf32>
func.func @softmax(%x: tensor<?x4xf32>, %e: tensor<?x4xf32>) -> tensor<?x4xf32> {
  // CHECK-NOT: linalg.softmax
  // CHECK-DAG: %[[ZERO:.*]] = arith.constant 0.000000e+00 : f32
  // CHECK-DAG: %[[LOWEST:.*]] = arith.constant 0xFF800000 : f32
  // CHECK: %[[START:.*]] = linalg.fill ins(%[[LOWEST]] : f32) outs(%{{.*}} : tensor<4xf32>)
  // CHECK: %[[MAX:.*]] = linalg.generic {indexing_maps = [#[[ALL]], #[[ROW]]], iterator_types = ["reduction", "parallel"]} ins(%[[X]] : {{.*}}) outs(%[[START]] :
  // CHECK: arith.maximumf
  // CHECK: %[[EXP:.*]] = linalg.generic {{.*}} ins(%[[X]], %[[MAX]] :
  // CHECK: %[[POWER:.*]] = math.exp
  // CHECK: %[[OUT:.*]] = arith.cmpf oeq, %{{.*}}, %[[LOWEST]]
  // CHECK: arith.select %[[OUT]], %[[ZERO]], %[[POWER]]
  // CHECK: %[[SUM:.*]] = linalg.generic {{.*}} ins(%[[EXP]] :
  // CHECK: arith.addf
  // CHECK: %[[R:.*]] = linalg.generic {{.*}} ins(%[[EXP]], %[[SUM]] :
  // CHECK: %[[SHARE:.*]] = arith.divf
  // CHECK: %[[NONE:.*]] = arith.cmpf oeq, %{{.*}}, %[[ZERO]]
  // CHECK: arith.select %[[NONE]], %[[ZERO]], %[[SHARE]]
  // CHECK: return %[[R]]
  %0 = linalg.softmax dimension(0) ins(%x : tensor<?x4xf32>) outs(%e : tensor<?x4xf32>) -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}

// -----

// One row, of rank 0.
// CHECK-LABEL: func @vector
func.func @vector(%x: tensor<4xf64>) -> tensor<4xf64> {
  // CHECK: tensor.empty() : tensor<f64>
  // CHECK-NOT: linalg.softmax
  %e = tensor.empty() : tensor<4xf64>
  %0 = linalg.softmax dimension(0) ins(%x : tensor<4xf64>) outs(%e : tensor<4xf64>) -> tensor<4xf64>
  return %0 : tensor<4xf64>
}
