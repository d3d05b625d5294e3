// A softmax that entries outside of the pattern take part in stays dense, and is sampled behind.
// RUN: gossamer-opt %s --gossamer-raise-sample -verify-diagnostics -o %t
// RUN: FileCheck %s < %t

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>

// CHECK-LABEL: func @unmasked
func.func @unmasked(%m: tensor<?x?xi1, #CSR>, %d: tensor<?x?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32, #CSR> {
  // CHECK: %[[P:.*]] = linalg.softmax
  %p = linalg.softmax dimension(1) ins(%d : tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  // CHECK-NOT: = gossamer.softmax
  // CHECK: gossamer.map {{.*}} with(%[[P]] : tensor<?x?xf32>)
  // expected-remark @+1 {{not raised to gossamer.softmax: entries that the pattern does not store are not -inf}}
  %r = gossamer.sample %p, %m : tensor<?x?xf32>, tensor<?x?xi1, #CSR> -> tensor<?x?xf32, #CSR>
  return %r : tensor<?x?xf32, #CSR>
}
