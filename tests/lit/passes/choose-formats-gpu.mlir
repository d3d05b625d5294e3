// On a GPU nothing is to be gone through by one thread.
// RUN: gossamer-opt %s --gossamer-choose-formats="gpu=true" | FileCheck %s
// RUN: gossamer-opt %s --gossamer-choose-formats | FileCheck %s --check-prefix=CPU

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed), posWidth = 32, crdWidth = 32 }>
#COO = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed(nonunique), d1 : singleton(soa)), posWidth = 32, crdWidth = 32 }>
#Vec = #sparse_tensor.encoding<{ map = (d0) -> (d0 : compressed), posWidth = 32, crdWidth = 32 }>
#NM = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 floordiv 4 : dense, d1 mod 4 : structured[2, 4]), crdWidth = 32 }>

// CHECK-DAG: #[[CSR:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>

// Rows of a softmax, by an index of them: of columns, of single entries.
// CHECK-LABEL: func @columns
// CHECK-SAME: %[[S:[^:]*]]: tensor
// CHECK: %[[I:.*]] = gossamer.storage_index %[[S]] : {{.*}} to tensor<?x?xi32, #[[CSR]]>
// CHECK: gossamer.softmax %[[S]] by %[[I]] : tensor<?x?xi32, #[[CSR]]> dim 1
// CPU-LABEL: func @columns
// CPU-NOT: storage_index
func.func @columns(%s: tensor<?x?xf32, #CSC>) -> tensor<?x?xf32, #CSC> {
  %0 = gossamer.softmax %s dim 1 : tensor<?x?xf32, #CSC>
  return %0 : tensor<?x?xf32, #CSC>
}

// Also of what was computed on an argument's pattern.
// CHECK-LABEL: func @entries
// CHECK-SAME: %[[S:[^:]*]]: tensor
// CHECK: %[[M:.*]] = gossamer.map
// CHECK: %[[I:.*]] = gossamer.storage_index %[[S]]
// CHECK: gossamer.softmax %[[M]] by %[[I]]
func.func @entries(%s: tensor<?x?xf32, #COO>) -> tensor<?x?xf32, #COO> {
  %0 = gossamer.map ins(%s : tensor<?x?xf32, #COO>) maps [affine_map<(i, j) -> (i, j)>] {
  ^bb0(%v: f32):
    %2 = arith.negf %v : f32
    gossamer.yield %2 : f32
  } -> tensor<?x?xf32, #COO>
  %1 = gossamer.softmax %0 dim 1 : tensor<?x?xf32, #COO>
  return %1 : tensor<?x?xf32, #COO>
}

// CHECK-LABEL: func @groups
// CHECK: gossamer.softmax %{{.*}} by
func.func @groups(%s: tensor<?x?xf32, #NM>) -> tensor<?x?xf32, #NM> {
  %0 = gossamer.softmax %s dim 1 : tensor<?x?xf32, #NM>
  return %0 : tensor<?x?xf32, #NM>
}

// CHECK-LABEL: func @vector
// CHECK-NOT: by
// CHECK: return
func.func @vector(%s: tensor<?xf32, #Vec>) -> tensor<?xf32, #Vec> {
  %0 = gossamer.softmax %s dim 0 : tensor<?xf32, #Vec>
  return %0 : tensor<?xf32, #Vec>
}

// Where rows lie together there is no need; nor for columns of columns.
// CHECK-LABEL: func @rows
// CHECK-NOT: by
// CHECK: return
func.func @rows(%s: tensor<?x?xf32, #CSR>, %t: tensor<?x?xf32, #CSC>) -> (tensor<?x?xf32, #CSR>, tensor<?x?xf32, #CSC>) {
  %0 = gossamer.softmax %s dim 1 : tensor<?x?xf32, #CSR>
  %1 = gossamer.softmax %t dim 0 : tensor<?x?xf32, #CSC>
  return %0, %1 : tensor<?x?xf32, #CSR>, tensor<?x?xf32, #CSC>
}

// What a reduction of single entries takes is stored by rows.
// CHECK-LABEL: func @reduction
// CHECK: %[[R:.*]] = gossamer.convert %{{.*}} to tensor<?x?xf32, #[[CSR]]>
// CHECK: gossamer.reduce addf ins(%[[R]]
// CPU-LABEL: func @reduction
// CPU-NOT: gossamer.convert
// CPU: return
func.func @reduction(%s: tensor<?x?xf32, #COO>, %e: tensor<?xf32>) -> tensor<?xf32> {
  %0 = gossamer.reduce addf ins(%s : tensor<?x?xf32, #COO>) outs(%e : tensor<?xf32>)
      fill(0.0 : f32) maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// A product of two sparse operands goes by rows of the result.
// CHECK-LABEL: func @product
// CHECK-SAME: %[[A:[^:]*]]: tensor
// CHECK: %[[R:.*]] = gossamer.convert %[[A]] {{.*}} to tensor<?x?xf32, #[[CSR]]>
// CHECK: gossamer.contract ins(%[[R]], %{{.*}} :
func.func @product(%a: tensor<?x?xf32, #CSC>, %b: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.contract ins(%a, %b : tensor<?x?xf32, #CSC>, tensor<?x?xf32, #CSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
