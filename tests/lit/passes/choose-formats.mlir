// RUN: gossamer-opt %s --gossamer-choose-formats | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
#COO = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed(nonunique), d1 : singleton(soa)), posWidth = 32, crdWidth = 32 }>
#BSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 floordiv 4 : dense, d0 floordiv 2 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
#MIXED = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 64, crdWidth = 32 }>
#STRIPE = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 floordiv 8 : compressed, d1 mod 8 : dense) }>
#CSR3 = #sparse_tensor.encoding<{ map = (d0, d1, d2) -> (d0 : dense, d1 : dense, d2 : compressed) }>

// CHECK-DAG: #[[CSR:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
// CHECK-DAG: #[[CSC:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed), posWidth = 32, crdWidth = 32 }>
// CHECK-DAG: #[[BSR:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
// CHECK-DAG: #[[PLAIN:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-DAG: #[[WIDE:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed), posWidth = 64, crdWidth = 64 }>

// Rows of the result first: stored so already.
// CHECK-LABEL: func @rows
// CHECK-NOT: gossamer.convert
func.func @rows(%w: tensor<8x8xf32, #CSR>, %x: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %0 = gossamer.matmul ins(%x, %w : tensor<8x8xf32>, tensor<8x8xf32, #CSR>) outs(%x : tensor<8x8xf32>)
      maps [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>, affine_map<(t, o, k) -> (t, o)>] {
  ^bb0(%s: f32):
    gossamer.yield %s : f32
  } -> tensor<8x8xf32>
  return %0 : tensor<8x8xf32>
}

// x @ w with w by rows scatters into the result: by columns, then. Widths stay.
// CHECK-LABEL: func @columns
// CHECK-SAME: %[[W:[^:]*]]: tensor
func.func @columns(%w: tensor<8x8xf32, #CSR>, %x: tensor<8x8xf32>) -> tensor<8x8xf32> {
  // CHECK: %[[I:.*]] = gossamer.storage_index %[[W]] : tensor<8x8xf32, #[[CSR]]> to tensor<8x8xi32, #[[CSC]]>
  // CHECK: %[[C:.*]] = gossamer.gather %[[W]], %[[I]] : {{.*}} -> tensor<8x8xf32, #[[CSC]]>
  // CHECK: gossamer.matmul ins(%{{.*}}, %[[C]] :
  %0 = gossamer.matmul ins(%x, %w : tensor<8x8xf32>, tensor<8x8xf32, #CSR>) outs(%x : tensor<8x8xf32>)
      maps [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (k, o)>, affine_map<(t, o, k) -> (t, o)>] {
  ^bb0(%s: f32):
    gossamer.yield %s : f32
  } -> tensor<8x8xf32>
  return %0 : tensor<8x8xf32>
}

// What lies in the same order is passed on as it is, with another pattern.
// CHECK-LABEL: func @in_order
func.func @in_order(%w: tensor<8x8xf32, #COO>, %x: tensor<8x8xf32>) -> tensor<8x8xf32> {
  // CHECK: gossamer.convert %{{.*}} {fill = 0.000000e+00 : f32} : tensor<8x8xf32, #{{.*}}> to tensor<8x8xf32, #[[CSR]]>
  %0 = gossamer.matmul ins(%w, %x : tensor<8x8xf32, #COO>, tensor<8x8xf32>) outs(%x : tensor<8x8xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%s: f32):
    gossamer.yield %s : f32
  } -> tensor<8x8xf32>
  return %0 : tensor<8x8xf32>
}

// Blocks stay blocks of the same shape; those of one row only do not.
// CHECK-LABEL: func @blocks
func.func @blocks(%w: tensor<8x8xf32, #BSC>, %v: tensor<8x8xf32, #STRIPE>, %x: tensor<8x8xf32>) -> (tensor<8x8xf32>, tensor<8x8xf32>) {
  // CHECK-DAG: gossamer.gather {{.*}} -> tensor<8x8xf32, #[[BSR]]>
  %0 = gossamer.matmul ins(%w, %x : tensor<8x8xf32, #BSC>, tensor<8x8xf32>) outs(%x : tensor<8x8xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%s: f32):
    gossamer.yield %s : f32
  } -> tensor<8x8xf32>
  // CHECK-DAG: gossamer.convert {{.*}} to tensor<8x8xf32, #[[PLAIN]]>
  %1 = gossamer.matmul ins(%v, %x : tensor<8x8xf32, #STRIPE>, tensor<8x8xf32>) outs(%x : tensor<8x8xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%s: f32):
    gossamer.yield %s : f32
  } -> tensor<8x8xf32>
  return %0, %1 : tensor<8x8xf32>, tensor<8x8xf32>
}

// A mask keeps its fill: what an additive one does not store is -inf.
// CHECK-LABEL: func @mask
func.func @mask(%q: tensor<8x8xf32>, %m: tensor<8x8xf32, #COO> {gossamer.fill = 0xFF800000 : f32}) -> tensor<8x8xf32> {
  // CHECK: %[[M:.*]] = gossamer.convert %{{.*}} {fill = 0xFF800000 : f32} : tensor<8x8xf32, #{{.*}}> to tensor<8x8xf32, #[[CSR]]>
  // CHECK: gossamer.attention ins(%{{.*}}, %{{.*}}, %{{.*}}, %[[M]] :
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<8x8xf32>, tensor<8x8xf32>, tensor<8x8xf32>, tensor<8x8xf32, #COO>)
      outs(%q : tensor<8x8xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>, affine_map<(i, j, d, e) -> (j, d)>, affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>, affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: f32):
    %x = arith.addf %s, %b : f32
    gossamer.yield %x : f32
  } -> tensor<8x8xf32>
  return %0 : tensor<8x8xf32>
}

// A broadcast dimension (a loop of its own, of size 1) may stay outermost.
// CHECK-LABEL: func @broadcast
// CHECK-NOT: gossamer.convert
func.func @broadcast(%s: tensor<1x8x8xf32, #CSR3>, %x: tensor<4x8x8xf32>) -> tensor<4x8x8xf32> {
  %0 = gossamer.matmul ins(%s, %x : tensor<1x8x8xf32, #CSR3>, tensor<4x8x8xf32>) outs(%x : tensor<4x8x8xf32>)
      maps [affine_map<(b, i, j, k, z) -> (z, i, k)>, affine_map<(b, i, j, k, z) -> (b, k, j)>, affine_map<(b, i, j, k, z) -> (b, i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x8x8xf32>
  return %0 : tensor<4x8x8xf32>
}

// What is computed on the argument's pattern is moved, by places that the runtime makes of that, once for all users.
// CHECK-LABEL: func @computed
// CHECK-SAME: %[[S:[^:]*]]: tensor
func.func @computed(%s: tensor<8x8xf32, #CSR>, %x: tensor<8x8xf32>) -> (tensor<8x8xf32>, tensor<8x8xf32>) {
  // CHECK: %[[P:.*]] = gossamer.softmax %[[S]] dim 1 : tensor<8x8xf32, #[[CSR]]>
  // CHECK: %[[I:.*]] = gossamer.storage_index %[[S]] : tensor<8x8xf32, #[[CSR]]> to tensor<8x8xi32, #[[CSC]]>
  // CHECK: %[[T:.*]] = gossamer.gather %[[P]], %[[I]] : tensor<8x8xf32, #[[CSR]]>, tensor<8x8xi32, #[[CSC]]> -> tensor<8x8xf32, #[[CSC]]>
  // CHECK-NOT: gossamer.gather
  %0 = gossamer.softmax %s dim 1 : tensor<8x8xf32, #CSR>
  // CHECK: gossamer.matmul ins(%{{.*}}, %[[T]] :
  // CHECK: gossamer.matmul ins(%[[T]], %{{.*}} :
  %1 = gossamer.matmul ins(%x, %0 : tensor<8x8xf32>, tensor<8x8xf32, #CSR>) outs(%x : tensor<8x8xf32>)
      maps [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (k, o)>, affine_map<(t, o, k) -> (t, o)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<8x8xf32>
  %2 = gossamer.matmul ins(%0, %x : tensor<8x8xf32, #CSR>, tensor<8x8xf32>) outs(%x : tensor<8x8xf32>)
      maps [affine_map<(t, o, k) -> (k, t)>, affine_map<(t, o, k) -> (k, o)>, affine_map<(t, o, k) -> (t, o)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<8x8xf32>
  return %1, %2 : tensor<8x8xf32>, tensor<8x8xf32>
}

// What the runtime converts has indices of one width; what stays keeps its own.
// CHECK-LABEL: func @widths
// CHECK-SAME: %[[W:[^:]*]]: tensor
func.func @widths(%w: tensor<8x8xf32, #MIXED>, %x: tensor<8x8xf32>) -> (tensor<8x8xf32>, tensor<8x8xf32>) {
  // CHECK: %[[I:.*]] = gossamer.storage_index %[[W]] : {{.*}} to tensor<8x8xi64, #[[WIDE]]>
  // CHECK: %[[C:.*]] = gossamer.gather %[[W]], %[[I]] : {{.*}} -> tensor<8x8xf32, #[[WIDE]]>
  // CHECK: gossamer.matmul ins(%[[W]], %{{.*}} :
  // CHECK: gossamer.matmul ins(%[[C]], %{{.*}} :
  %0 = gossamer.matmul ins(%w, %x : tensor<8x8xf32, #MIXED>, tensor<8x8xf32>) outs(%x : tensor<8x8xf32>)
      maps [affine_map<(i, k, j) -> (i, j)>, affine_map<(i, k, j) -> (j, k)>, affine_map<(i, k, j) -> (i, k)>] {
  ^bb0(%s: f32):
    gossamer.yield %s : f32
  } -> tensor<8x8xf32>
  %1 = gossamer.matmul ins(%w, %x : tensor<8x8xf32, #MIXED>, tensor<8x8xf32>) outs(%x : tensor<8x8xf32>)
      maps [affine_map<(i, k, j) -> (j, i)>, affine_map<(i, k, j) -> (j, k)>, affine_map<(i, k, j) -> (i, k)>] {
  ^bb0(%s: f32):
    gossamer.yield %s : f32
  } -> tensor<8x8xf32>
  return %0, %1 : tensor<8x8xf32>, tensor<8x8xf32>
}
