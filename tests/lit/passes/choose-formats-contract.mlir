// Storage in which several sparse operands can be gone through at once.
// RUN: gossamer-opt %s --gossamer-choose-formats | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
#COO = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed(nonunique), d1 : singleton(soa)) }>
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 4 : dense, d1 floordiv 4 : compressed, d0 mod 4 : dense, d1 mod 4 : dense) }>
#BSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 floordiv 4 : dense, d0 floordiv 4 : compressed, d0 mod 4 : dense, d1 mod 4 : dense) }>
#CSF = #sparse_tensor.encoding<{ map = (d0, d1, d2) -> (d0 : compressed, d1 : compressed, d2 : compressed) }>

// CHECK-DAG: #[[CSR:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-DAG: #[[BSR:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 4 : dense, d1 floordiv 4 : compressed, d0 mod 4 : dense, d1 mod 4 : dense) }>

// The summed dimension of the second operand is found at once: rows. The first stays.
// CHECK-LABEL: func @second
// CHECK-SAME: %[[A:[^:]*]]: tensor<?x?xf32, #{{[^:]*}}, %[[B:[^:]*]]: tensor
// CHECK: %[[R:.*]] = gossamer.convert %[[B]] {{.*}} to tensor<?x?xf32, #[[CSR]]>
// CHECK: gossamer.contract ins(%[[A]], %[[R]]
func.func @second(%a: tensor<?x?xf32, #CSC>, %b: tensor<?x?xf32, #CSC>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.contract ins(%a, %b : tensor<?x?xf32, #CSC>, tensor<?x?xf32, #CSC>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// Coordinates that occur more than once are grouped first.
// CHECK-LABEL: func @coordinates
// CHECK: gossamer.convert {{.*}} to tensor<?x?xf32, #[[CSR]]>
func.func @coordinates(%a: tensor<?x?xf32, #COO>, %b: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.contract ins(%a, %b : tensor<?x?xf32, #COO>, tensor<?x?xf32, #CSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// Equal blocks stay; blocks that the other operand has not are taken apart.
// CHECK-LABEL: func @blocks
// CHECK: gossamer.convert {{.*}} to tensor<?x?xf32, #[[BSR]]>
// CHECK-NOT: gossamer.convert
func.func @blocks(%a: tensor<?x?xf32, #BSR>, %b: tensor<?x?xf32, #BSC>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.contract ins(%a, %b : tensor<?x?xf32, #BSR>, tensor<?x?xf32, #BSC>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// CHECK-LABEL: func @blocks_and_entries
// CHECK: gossamer.convert {{.*}} to tensor<?x?xf32, #[[CSR]]>
func.func @blocks_and_entries(%a: tensor<?x?xf32, #BSR>, %b: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.contract ins(%a, %b : tensor<?x?xf32, #BSR>, tensor<?x?xf32, #CSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// One sparse operand is gone through as it is stored.
// CHECK-LABEL: func @one
// CHECK-NOT: gossamer.convert
func.func @one(%x: tensor<?x?x?xf32, #CSF>, %b: tensor<?x?xf32>, %c: tensor<?x?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.contract ins(%x, %b, %c : tensor<?x?x?xf32, #CSF>, tensor<?x?xf32>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k, l) -> (k, i, l)>, affine_map<(i, j, k, l) -> (k, j)>,
            affine_map<(i, j, k, l) -> (l, j)>, affine_map<(i, j, k, l) -> (i, j)>] -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
