// RUN: gossamer-opt %s -canonicalize | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>

// There and back again under one fill is where one began.
// CHECK-LABEL: func @round_trip
// CHECK-SAME: %[[S:.*]]: tensor
func.func @round_trip(%s: tensor<?x?xf32, #CSR>) -> tensor<?x?xf32, #CSR> {
  %0 = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32, #CSC>
  %1 = gossamer.convert %0 {fill = 0.0 : f32} : tensor<?x?xf32, #CSC> to tensor<?x?xf32, #CSR>
  // CHECK-NEXT: return %[[S]]
  return %1 : tensor<?x?xf32, #CSR>
}

// Under two fills it is another tensor.
// CHECK-LABEL: func @two_fills
func.func @two_fills(%s: tensor<?x?xf32, #CSR>) -> tensor<?x?xf32, #CSR> {
  %0 = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  // CHECK: %[[D:.*]] = gossamer.convert
  // CHECK: %[[R:.*]] = gossamer.convert %[[D]] {fill = 0xFF800000 : f32}
  %1 = gossamer.convert %0 {fill = 0xFF800000 : f32} : tensor<?x?xf32> to tensor<?x?xf32, #CSR>
  // CHECK: return %[[R]]
  return %1 : tensor<?x?xf32, #CSR>
}

// Nothing is converted for its size.
// CHECK-LABEL: func @size
// CHECK-SAME: %[[S:.*]]: tensor
func.func @size(%s: tensor<?x?xf32, #CSR>) -> index {
  %c1 = arith.constant 1 : index
  %0 = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  // CHECK-NOT: gossamer.convert
  // CHECK: tensor.dim %[[S]]
  %1 = tensor.dim %0, %c1 : tensor<?x?xf32>
  return %1 : index
}

// CHECK-LABEL: func @same_type
// CHECK-SAME: %[[S:.*]]: tensor
func.func @same_type(%s: tensor<?x?xf32, #CSR>) -> tensor<?x?xf32, #CSR> {
  %0 = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32, #CSR>
  // CHECK-NEXT: return %[[S]]
  return %0 : tensor<?x?xf32, #CSR>
}
