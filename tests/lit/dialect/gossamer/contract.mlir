// gossamer.contract prints and parses back, in each of its forms.
// RUN: gossamer-opt %s | gossamer-opt | FileCheck %s
// RUN: gossamer-opt %s -mlir-print-op-generic | gossamer-opt | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSF = #sparse_tensor.encoding<{ map = (d0, d1, d2) -> (d0 : compressed, d1 : compressed, d2 : compressed) }>

// CHECK-LABEL: func @two
// CHECK: gossamer.contract ins(%{{[^,]*}}, %{{[^ ]*}} : tensor<?x?xf16, #{{[^>]*}}>, tensor<?x?xf16, #{{[^>]*}}>)
// CHECK-SAME: outs(%{{[^ ]*}} : tensor<?x?xf32>) maps [#{{[^,]*}}, #{{[^,]*}}, #{{[^,]*}}] -> tensor<?x?xf32>
func.func @two(%a: tensor<?x?xf16, #CSR>, %b: tensor<?x?xf16, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.contract ins(%a, %b : tensor<?x?xf16, #CSR>, tensor<?x?xf16, #CSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>]
      -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// CHECK-LABEL: func @mttkrp
// CHECK: gossamer.contract ins(%{{.*}}, %{{.*}}, %{{.*}} :
func.func @mttkrp(%x: tensor<?x?x?xf32, #CSF>, %b: tensor<?x?xf32>, %c: tensor<1x?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.contract ins(%x, %b, %c : tensor<?x?x?xf32, #CSF>, tensor<?x?xf32>, tensor<1x?xf32>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k, l) -> (i, k, l)>, affine_map<(i, j, k, l) -> (k, j)>,
            affine_map<(i, j, k, l) -> (0, j)>, affine_map<(i, j, k, l) -> (i, j)>] -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
