// RUN: gossamer-opt %s --gossamer-lower-block-attention="vector-bytes=32" -cse --split-input-file | FileCheck %s

// Rows of a block as lanes, two vectors of them: block rows in parallel; q transposed once, in registers; a
// block whose values are all true is not masked, the mask of another transposed; no memory but tiles.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 16 : dense, d1 floordiv 16 : compressed, d0 mod 16 : dense, d1 mod 16 : dense) }>
// CHECK-LABEL: func @blocks
func.func @blocks(%q: tensor<?x?xf32>, %k: tensor<?x?xf32>, %v: tensor<?x?xf32>, %m: tensor<?x?xi1, #BSR>, %out: memref<?x?xf32>) -> tensor<?x?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x?xf32> to tensor<?x?xf32>
  // CHECK: scf.parallel
  // CHECK-COUNT-4: memref.alloc(
  // CHECK-NOT: memref.alloc(
  // CHECK: vector.shuffle
  // CHECK: scf.if
  // CHECK: vector.fma
  // CHECK: vector.shuffle {{.*}} vector<8xi8>
  // CHECK: arith.select {{.*}} vector<8xi1>, vector<8xf32>
  // CHECK: math.exp {{.*}} : vector<8xf32>
  // CHECK-NOT: gossamer.attention
  // CHECK: return
  %0 = gossamer.attention ins(%q, %k, %v, %m : tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xi1, #BSR>)
      outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>, affine_map<(i, j, d, e) -> (j, d)>, affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>, affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %mask: i1):
    %lowest = arith.constant 0xFF800000 : f32
    %1 = arith.select %mask, %s, %lowest : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// -----

// Left to the rows: entries instead of blocks, blocks lower than a vector, a body
// that is not elementwise.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#LOW = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 16 : compressed, d0 mod 2 : dense, d1 mod 16 : dense) }>
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 16 : dense, d1 floordiv 16 : compressed, d0 mod 16 : dense, d1 mod 16 : dense) }>
#id = affine_map<(i, j, d, e) -> (i, d)>
#jd = affine_map<(i, j, d, e) -> (j, d)>
#je = affine_map<(i, j, d, e) -> (j, e)>
#ij = affine_map<(i, j, d, e) -> (i, j)>
#ie = affine_map<(i, j, d, e) -> (i, e)>
// CHECK-LABEL: func @others
// CHECK-COUNT-3: gossamer.attention ins
// CHECK: return
func.func @others(%q: tensor<?x?xf32>, %c: tensor<?x?xi1, #CSR>, %l: tensor<?x?xi1, #LOW>, %b: tensor<?x?xf32, #BSR>, %out: tensor<?x?xf32>)
    -> (tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xf32>) {
  %lowest = arith.constant 0xFF800000 : f32
  %0 = gossamer.attention ins(%q, %q, %q, %c : tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xi1, #CSR>)
      outs(%out : tensor<?x?xf32>) maps [#id, #jd, #je, #ij, #ie] {
  ^bb0(%s: f32, %mask: i1):
    %1 = arith.select %mask, %s, %lowest : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32>
  %2 = gossamer.attention ins(%q, %q, %q, %l : tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xi1, #LOW>)
      outs(%out : tensor<?x?xf32>) maps [#id, #jd, #je, #ij, #ie] {
  ^bb0(%s: f32, %mask: i1):
    %1 = arith.select %mask, %s, %lowest : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32>
  %3 = gossamer.attention ins(%q, %q, %q, %b : tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xf32, #BSR>)
      outs(%out : tensor<?x?xf32>) maps [#id, #jd, #je, #ij, #ie] {
  ^bb0(%s: f32, %mask: f32):
    %i = gossamer.index 0
    %c0 = arith.constant 0 : index
    %first = arith.cmpi eq, %i, %c0 : index
    %1 = scf.if %first -> f32 {
      scf.yield %s : f32
    } else {
      %4 = arith.addf %s, %mask : f32
      scf.yield %4 : f32
    }
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32>
  return %0, %2, %3 : tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xf32>
}

// -----

// q, k and v of 16 bits: blocks of them are extended once, sums and the softmax are f32.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 16 : dense, d1 floordiv 16 : compressed, d0 mod 16 : dense, d1 mod 16 : dense) }>
// CHECK-LABEL: func @narrow
func.func @narrow(%q: tensor<?x?xbf16>, %k: tensor<?x?xbf16>, %v: tensor<?x?xbf16>, %m: tensor<?x?xi1, #BSR>, %out: memref<?x?xbf16>) -> tensor<?x?xbf16> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x?xbf16> to tensor<?x?xbf16>
  // CHECK: scf.parallel
  // CHECK: memref.load {{.*}} : memref<?x?xbf16>
  // CHECK: arith.extf {{.*}} : bf16 to f32
  // CHECK: vector.fma {{.*}} : vector<8xf32>
  // CHECK: arith.truncf {{.*}} : vector<8xf32> to vector<8xbf16>
  // CHECK: math.exp {{.*}} : vector<8xf32>
  // CHECK: vector.store {{.*}} vector<8xbf16>
  %0 = gossamer.attention ins(%q, %k, %v, %m : tensor<?x?xbf16>, tensor<?x?xbf16>, tensor<?x?xbf16>, tensor<?x?xi1, #BSR>)
      outs(%e : tensor<?x?xbf16>)
      maps [affine_map<(i, j, d, e) -> (i, d)>, affine_map<(i, j, d, e) -> (j, d)>, affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>, affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: bf16, %mask: i1):
    %lowest = arith.constant 0xFF80 : bf16
    %1 = arith.select %mask, %s, %lowest : bf16
    gossamer.yield %1 : bf16
  } -> tensor<?x?xbf16>
  return %0 : tensor<?x?xbf16>
}
