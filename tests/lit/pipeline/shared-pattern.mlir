// RUN: gossamer-opt %s --gossamer-raise | FileCheck %s --check-prefix=RAISE
// RUN: gossamer-opt %s --gossamer-raise --gossamer-choose-formats --gossamer-bind-results --gossamer-lower-stored --gossamer-expose-storage | FileCheck %s --check-prefix=EXPOSE

// a * (c @ d) + b at the stored entries of a, on whose pattern b is, too: one
// gossamer.sddmm, and of b the values alone are passed.

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
#map = affine_map<(d0, d1) -> (d0, d1)>

// EXPOSE: {\22dtype\22:\22f32\22,\22encoding\22:{{.*}}\22input\22:1,\22kind\22:\22sparse\22,\22levels\22:{{.*}},\22pattern_of\22:0,\22rank\22:2}
// EXPOSE: func.func @main(%{{.*}}: memref<?xi32>, %{{.*}}: memref<?xi32>, %[[A:.*]]: memref<?xf32>, %{{.*}}: index, %{{.*}}: index, %[[B:.*]]: memref<?xf32>, %{{.*}}: tensor<?x?xf32>, %{{.*}}: tensor<?x?xf32>, %[[OUT:.*]]: memref<?xf32>)
// EXPOSE: memref.load %[[A]][%[[AT:.*]]]
// EXPOSE: memref.load %[[B]][%[[AT]]]
// EXPOSE: memref.store %{{.*}}, %[[OUT]][%[[AT]]]

// RAISE: gossamer.sddmm ins(%arg0, %arg2, %arg3 :
// RAISE-SAME: with(%arg1 : tensor<?x?xf32, #{{.*}}>)
func.func @main(%a: tensor<?x?xf32, #CSR> {gossamer.fill = 0.0 : f32},
                %b: tensor<?x?xf32, #CSR> {gossamer.fill = 0.0 : f32, gossamer.pattern = 0},
                %c: tensor<?x?xf32>, %d: tensor<?x?xf32>) -> tensor<?x?xf32, #CSR> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %ad = gossamer.convert %a {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %bd = gossamer.convert %b {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %m = tensor.dim %c, %c0 : tensor<?x?xf32>
  %n = tensor.dim %d, %c1 : tensor<?x?xf32>
  %e = tensor.empty(%m, %n) : tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  %p = linalg.matmul ins(%c, %d : tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<?x?xf32>) -> tensor<?x?xf32>
  %r = linalg.generic {indexing_maps = [#map, #map, #map, #map], iterator_types = ["parallel", "parallel"]}
      ins(%ad, %p, %bd : tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %z: f32, %o: f32):
    %0 = arith.mulf %x, %y : f32
    %1 = arith.addf %0, %z : f32
    linalg.yield %1 : f32
  } -> tensor<?x?xf32>
  %s = gossamer.sample %r, %a : tensor<?x?xf32>, tensor<?x?xf32, #CSR> -> tensor<?x?xf32, #CSR>
  return %s : tensor<?x?xf32, #CSR>
}
