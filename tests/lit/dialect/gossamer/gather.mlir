// RUN: gossamer-opt %s | gossamer-opt | FileCheck %s
// RUN: gossamer-opt %s -mlir-print-op-generic | gossamer-opt | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed), posWidth = 32, crdWidth = 32 }>
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
#BSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 floordiv 4 : dense, d0 floordiv 2 : compressed, d1 mod 4 : dense, d0 mod 2 : dense) }>

// CHECK-LABEL: func @entries
func.func @entries(%m: tensor<?x?xi1, #CSR>, %p: tensor<?x?xf32, #CSR>) -> tensor<?x?xf32, #CSC> {
  // CHECK: gossamer.storage_index %{{.*}} : tensor<?x?xi1, #{{.*}}> to tensor<?x?xi32, #{{.*}}>
  %i = gossamer.storage_index %m : tensor<?x?xi1, #CSR> to tensor<?x?xi32, #CSC>
  // CHECK: gossamer.gather %{{.*}}, %{{.*}} : tensor<?x?xf32, #{{.*}}>, tensor<?x?xi32, #{{.*}}> -> tensor<?x?xf32, #{{.*}}>
  %t = gossamer.gather %p, %i : tensor<?x?xf32, #CSR>, tensor<?x?xi32, #CSC> -> tensor<?x?xf32, #CSC>
  return %t : tensor<?x?xf32, #CSC>
}

// Blocks stay blocks, whichever way they are stored inside.
// CHECK-LABEL: func @blocks
func.func @blocks(%m: tensor<8x8xf32, #BSR>) -> tensor<8x8xf32, #BSC> {
  // CHECK: gossamer.storage_index %{{.*}} : tensor<8x8xf32, #{{.*}}> to tensor<8x8xi64, #{{.*}}>
  %i = gossamer.storage_index %m : tensor<8x8xf32, #BSR> to tensor<8x8xi64, #BSC>
  %t = gossamer.gather %m, %i : tensor<8x8xf32, #BSR>, tensor<8x8xi64, #BSC> -> tensor<8x8xf32, #BSC>
  return %t : tensor<8x8xf32, #BSC>
}
