// RUN: gossamer-opt %s --gossamer-decompose-softmax -verify-diagnostics -split-input-file

func.func @integers(%x: tensor<4x4xi32>) -> tensor<4x4xi32> {
  // expected-error @+1 {{is decomposed on tensors of floating-point numbers only}}
  %0 = linalg.softmax dimension(1) ins(%x : tensor<4x4xi32>) outs(%x : tensor<4x4xi32>) -> tensor<4x4xi32>
  return %0 : tensor<4x4xi32>
}

// -----

func.func @buffers(%x: memref<4x4xf32>, %y: memref<4x4xf32>) {
  // expected-error @+1 {{is decomposed on tensors of floating-point numbers only}}
  linalg.softmax dimension(1) ins(%x : memref<4x4xf32>) outs(%y : memref<4x4xf32>)
  return
}
