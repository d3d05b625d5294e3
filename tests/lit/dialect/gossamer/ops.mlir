// Every operation in each of its forms prints and parses back.
// RUN: gossamer-opt %s | gossamer-opt | FileCheck %s
// RUN: gossamer-opt %s -mlir-print-op-generic | gossamer-opt | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 64, crdWidth = 32 }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
#CSR4 = #sparse_tensor.encoding<{ map = (d0, d1, d2, d3) -> (d0 : dense, d1 : dense, d2 : dense, d3 : compressed) }>

// CHECK-DAG: #[[CSR:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 64, crdWidth = 32 }>
// CHECK-DAG: #[[CSC:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
// CHECK-DAG: #[[BSR:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
// CHECK-DAG: #[[CSR4:.*]] = #sparse_tensor.encoding<{ map = (d0, d1, d2, d3) -> (d0 : dense, d1 : dense, d2 : dense, d3 : compressed) }>

// CHECK-LABEL: func @convert
func.func @convert(%s: tensor<?x?xf32, #CSR>, %m: tensor<8x8xi1, #BSR>,
                   %d: tensor<?x4xf64>) {
  // CHECK: gossamer.convert %{{.*}} {fill = 0.000000e+00 : f32} : tensor<?x?xf32, #[[CSR]]> to tensor<?x?xf32>
  %0 = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  // Scores after an additive mask: what is not stored is -inf.
  // CHECK: gossamer.convert %{{.*}} {fill = 0xFF800000 : f32} : tensor<?x?xf32, #[[CSR]]> to tensor<?x?xf32, #[[CSC]]>
  %1 = gossamer.convert %s {fill = 0xFF800000 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32, #CSC>
  // CHECK: gossamer.convert %{{.*}} {fill = false} : tensor<8x8xi1, #[[BSR]]> to tensor<8x8xi1>
  %2 = gossamer.convert %m {fill = false} : tensor<8x8xi1, #BSR> to tensor<8x8xi1>
  // Sizes that one side knows and the other does not are the same sizes.
  // CHECK: gossamer.convert %{{.*}} {fill = 0.000000e+00 : f64} : tensor<?x4xf64> to tensor<3x?xf64, #[[CSR]]>
  %3 = gossamer.convert %d {fill = 0.0 : f64} : tensor<?x4xf64> to tensor<3x?xf64, #CSR>
  return
}

// CHECK-LABEL: func @stored
func.func @stored(%d: tensor<?x?xf32>, %m: tensor<?x?xi1, #CSR>,
                  %values: tensor<?xf32>, %buffer: memref<?xf32>) {
  // The pattern's values may be of another type.
  // CHECK: gossamer.sample %{{.*}}, %{{.*}} : tensor<?x?xf32>, tensor<?x?xi1, #[[CSR]]> -> tensor<?x?xf32, #[[CSR]]>
  %0 = gossamer.sample %d, %m : tensor<?x?xf32>, tensor<?x?xi1, #CSR> -> tensor<?x?xf32, #CSR>
  // CHECK: gossamer.softmax %{{.*}} dim 1 : tensor<?x?xf32, #[[CSR]]>
  %1 = gossamer.softmax %0 dim 1 : tensor<?x?xf32, #CSR>
  // CHECK: %[[PLACES:.*]] = gossamer.storage_index
  %places = gossamer.storage_index %m : tensor<?x?xi1, #CSR> to tensor<?x?xi64, #CSR>
  // CHECK: gossamer.softmax %{{.*}} by %[[PLACES]] : tensor<?x?xi64, #[[CSR]]> dim 1 : tensor<?x?xf32, #[[CSR]]>
  %by = gossamer.softmax %0 by %places : tensor<?x?xi64, #CSR> dim 1 : tensor<?x?xf32, #CSR>
  // CHECK: gossamer.assemble %{{.*}}, %{{.*}} : tensor<?x?xf32, #[[CSR]]>, tensor<?xf32> -> tensor<?x?xf32, #[[CSR]]>
  %2 = gossamer.assemble %1, %values : tensor<?x?xf32, #CSR>, tensor<?xf32> -> tensor<?x?xf32, #CSR>
  // CHECK: gossamer.store_values %{{.*}}, %{{.*}} : tensor<?x?xf32, #[[CSR]]>, memref<?xf32>
  gossamer.store_values %2, %buffer : tensor<?x?xf32, #CSR>, memref<?xf32>
  return
}

// CHECK-LABEL: func @matmul
func.func @matmul(%x: tensor<?x?xf32>, %w: tensor<?x?xf32, #BSR>,
                  %bias: tensor<?xf32>, %one: tensor<1x?xf32>,
                  %out: tensor<?x?xf32>) -> tensor<?x?xf32> {
  // The plain sum; the sparse operand on the left.
  // CHECK: gossamer.matmul ins(%{{.*}}, %{{.*}} : tensor<?x?xf32, #[[BSR]]>, tensor<?x?xf32>)
  // CHECK-SAME: outs(%{{.*}} : tensor<?x?xf32>) maps [#{{.*}}, #{{.*}}, #{{.*}}] {
  %0 = gossamer.matmul ins(%w, %x : tensor<?x?xf32, #BSR>, tensor<?x?xf32>)
      outs(%out : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%sum: f32):
    gossamer.yield %sum : f32
  } -> tensor<?x?xf32>
  // An epilogue with operands, of which one is broadcast, and an index.
  // CHECK: gossamer.matmul ins
  // CHECK-SAME: epilogue(%{{.*}}, %{{.*}} : tensor<?xf32>, tensor<1x?xf32>)
  // CHECK: ^bb0(%{{.*}}: f32, %{{.*}}: f32, %{{.*}}: f32):
  // CHECK: gossamer.index 1
  // CHECK: gossamer.yield %{{.*}} : f32
  // CHECK-NEXT: } -> tensor<?x?xf32>
  %1 = gossamer.matmul ins(%0, %w : tensor<?x?xf32>, tensor<?x?xf32, #BSR>)
      epilogue(%bias, %one : tensor<?xf32>, tensor<1x?xf32>)
      outs(%out : tensor<?x?xf32>)
      maps [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>,
            affine_map<(t, o, k) -> (o)>, affine_map<(t, o, k) -> (0, o)>,
            affine_map<(t, o, k) -> (t, o)>] {
  ^bb0(%sum: f32, %b: f32, %c: f32):
    %i = gossamer.index 1
    %cast = arith.index_cast %i : index to i32
    %float = arith.sitofp %cast : i32 to f32
    %2 = arith.addf %sum, %b : f32
    %3 = arith.mulf %2, %c : f32
    %4 = arith.addf %3, %float : f32
    gossamer.yield %4 : f32
  } -> tensor<?x?xf32>
  return %1 : tensor<?x?xf32>
}

// The epilogue may change the type; a product of vectors has rank 0.
// CHECK-LABEL: func @matmul_types
func.func @matmul_types(%v: tensor<?xf32, #sparse_tensor.encoding<{ map = (d0) -> (d0 : compressed) }>>,
                        %x: tensor<?xf32>, %out: tensor<bf16>) -> tensor<bf16> {
  // CHECK: gossamer.matmul
  // CHECK: } -> tensor<bf16>
  %0 = gossamer.matmul ins(%v, %x : tensor<?xf32, #sparse_tensor.encoding<{ map = (d0) -> (d0 : compressed) }>>, tensor<?xf32>)
      outs(%out : tensor<bf16>)
      maps [affine_map<(k) -> (k)>, affine_map<(k) -> (k)>, affine_map<(k) -> ()>] {
  ^bb0(%sum: f32):
    %0 = arith.truncf %sum : f32 to bf16
    gossamer.yield %0 : bf16
  } -> tensor<bf16>
  return %0 : tensor<bf16>
}

// CHECK-LABEL: func @sddmm
func.func @sddmm(%s: tensor<?x?xi1, #CSR>, %a: tensor<?x?xf32>, %b: tensor<?x?xf32>,
                 %c: tensor<?xf32>) -> tensor<?x?xf32, #CSR> {
  // CHECK: gossamer.sddmm ins(%{{.*}}, %{{.*}}, %{{.*}} : tensor<?x?xi1, #[[CSR]]>, tensor<?x?xf32>, tensor<?x?xf32>)
  // CHECK-SAME: with(%{{.*}} : tensor<?xf32>)
  // CHECK-SAME: maps
  // CHECK: } -> tensor<?x?xf32, #[[CSR]]>
  %0 = gossamer.sddmm ins(%s, %a, %b : tensor<?x?xi1, #CSR>, tensor<?x?xf32>, tensor<?x?xf32>)
      with(%c : tensor<?xf32>)
      maps [affine_map<(i, j, k) -> (i, j)>, affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (j)>] {
  ^bb0(%v: i1, %sum: f32, %e: f32):
    %1 = arith.select %v, %sum, %e : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #CSR>
  return %0 : tensor<?x?xf32, #CSR>
}

// CHECK-LABEL: func @map
func.func @map(%s: tensor<?x?xf32, #CSR>, %p: tensor<?x?xf32, #CSR>,
               %row: tensor<?x1xf32>) -> tensor<?x?xf32, #CSR> {
  // CHECK: gossamer.map ins(%{{.*}} : tensor<?x?xf32, #[[CSR]]>) maps
  %0 = gossamer.map ins(%s : tensor<?x?xf32, #CSR>)
      maps [affine_map<(i, j) -> (i, j)>] {
  ^bb0(%v: f32):
    %1 = math.exp %v : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #CSR>
  // One operand of the same pattern, one dense and broadcast.
  // CHECK: gossamer.map ins(%{{.*}} : tensor<?x?xf32, #[[CSR]]>)
  // CHECK-SAME: with(%{{.*}}, %{{.*}} : tensor<?x?xf32, #[[CSR]]>, tensor<?x1xf32>)
  %2 = gossamer.map ins(%0 : tensor<?x?xf32, #CSR>)
      with(%p, %row : tensor<?x?xf32, #CSR>, tensor<?x1xf32>)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>,
            affine_map<(i, j) -> (i, 0)>] {
  ^bb0(%v: f32, %w: f32, %r: f32):
    %i = gossamer.index 0
    %3 = arith.mulf %v, %w : f32
    %4 = arith.subf %3, %r : f32
    gossamer.yield %4 : f32
  } -> tensor<?x?xf32, #CSR>
  return %2 : tensor<?x?xf32, #CSR>
}

// A body, an operand of the pattern, one that is dense; all dimensions, or one.
// CHECK-LABEL: func @reduce
func.func @reduce(%s: tensor<?x?xf32, #CSR>, %p: tensor<?x?xf32, #CSR>,
                  %row: tensor<?xf32>, %e: tensor<?xf32>, %one: tensor<i1>) -> tensor<?xf32> {
  // CHECK: gossamer.reduce addf ins(%{{.*}} : tensor<?x?xf32, #[[CSR]]>)
  // CHECK-SAME: with(%{{.*}}, %{{.*}} : tensor<?x?xf32, #[[CSR]]>, tensor<?xf32>)
  // CHECK-SAME: outs(%{{.*}} : tensor<?xf32>) fill(0.000000e+00 : f32) maps
  // CHECK: gossamer.index 0
  // CHECK: } -> tensor<?xf32>
  %0 = gossamer.reduce addf ins(%s : tensor<?x?xf32, #CSR>)
      with(%p, %row : tensor<?x?xf32, #CSR>, tensor<?xf32>)
      outs(%e : tensor<?xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>,
            affine_map<(i, j) -> (j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32, %w: f32, %r: f32):
    %i = gossamer.index 0
    %1 = arith.mulf %v, %w : f32
    %2 = arith.subf %1, %r : f32
    gossamer.yield %2 : f32
  } -> tensor<?xf32>
  // CHECK: gossamer.reduce ori
  // CHECK-SAME: fill(false)
  %any = gossamer.reduce ori ins(%s : tensor<?x?xf32, #CSR>)
      outs(%one : tensor<i1>) fill(false)
      maps [affine_map<(i, j) -> (j, i)>, affine_map<(i, j) -> ()>] {
  ^bb0(%v: f32):
    %zero = arith.constant 0.0 : f32
    %1 = arith.cmpf une, %v, %zero : f32
    gossamer.yield %1 : i1
  } -> tensor<i1>
  return %0 : tensor<?xf32>
}

// Grouped queries: loops (batch, kv head, group, i, j, d, e); k and v have no
// group, one mask serves every batch and head (constant 0), a bias has no batch.
// CHECK-LABEL: func @attention
func.func @attention(%q: tensor<?x?x?x?x?xf32>, %k: tensor<?x?x?x?xf32>,
                     %v: tensor<?x?x?x?xf32>, %m: tensor<1x1x?x?xf32, #CSR4>,
                     %bias: tensor<?x?x?xf32>, %out: tensor<?x?x?x?x?xf32>)
    -> tensor<?x?x?x?x?xf32> {
  // CHECK: gossamer.attention ins(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} : tensor<?x?x?x?x?xf32>, tensor<?x?x?x?xf32>, tensor<?x?x?x?xf32>, tensor<1x1x?x?xf32, #[[CSR4]]>)
  // CHECK-SAME: with(%{{.*}} : tensor<?x?x?xf32>)
  // CHECK-SAME: outs(%{{.*}} : tensor<?x?x?x?x?xf32>)
  // CHECK: gossamer.index 4
  // CHECK: } -> tensor<?x?x?x?x?xf32>
  %0 = gossamer.attention ins(%q, %k, %v, %m : tensor<?x?x?x?x?xf32>,
          tensor<?x?x?x?xf32>, tensor<?x?x?x?xf32>, tensor<1x1x?x?xf32, #CSR4>)
      with(%bias : tensor<?x?x?xf32>)
      outs(%out : tensor<?x?x?x?x?xf32>)
      maps [affine_map<(b, h, g, i, j, d, e) -> (b, h, g, i, d)>,
            affine_map<(b, h, g, i, j, d, e) -> (b, h, j, d)>,
            affine_map<(b, h, g, i, j, d, e) -> (b, h, j, e)>,
            affine_map<(b, h, g, i, j, d, e) -> (0, 0, i, j)>,
            affine_map<(b, h, g, i, j, d, e) -> (h, i, j)>,
            affine_map<(b, h, g, i, j, d, e) -> (b, h, g, i, e)>] {
  ^bb0(%s: f32, %mask: f32, %b: f32):
    %j = gossamer.index 4
    %1 = arith.addf %s, %mask : f32
    %2 = arith.addf %1, %b : f32
    gossamer.yield %2 : f32
  } -> tensor<?x?x?x?x?xf32>
  return %0 : tensor<?x?x?x?x?xf32>
}

// The least that there is: no batch, static sizes, a mask of bools in blocks.
// CHECK-LABEL: func @attention_of_one
func.func @attention_of_one(%q: tensor<6x4xf64>, %k: tensor<8x4xf64>,
                            %v: tensor<8x5xf64>, %m: tensor<6x8xi1, #BSR>,
                            %out: tensor<6x5xf64>) -> tensor<6x5xf64> {
  // CHECK: gossamer.attention
  // CHECK-SAME: tensor<6x8xi1, #[[BSR]]>
  %0 = gossamer.attention ins(%q, %k, %v, %m : tensor<6x4xf64>, tensor<8x4xf64>,
          tensor<8x5xf64>, tensor<6x8xi1, #BSR>)
      outs(%out : tensor<6x5xf64>)
      maps [affine_map<(i, j, d, e) -> (i, d)>, affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>, affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f64, %mask: i1):
    %lowest = arith.constant 0xFFF0000000000000 : f64
    %1 = arith.select %mask, %s, %lowest : f64
    gossamer.yield %1 : f64
  } -> tensor<6x5xf64>
  return %0 : tensor<6x5xf64>
}

// CHECK-LABEL: func @lane_prefix
func.func @lane_prefix(%kept: i32, %x: memref<32xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c32 = arith.constant 32 : index
  scf.parallel (%lane) = (%c0) to (%c32) step (%c1) {
    // CHECK: %{{.*}}, %{{.*}} = gossamer.lane_prefix %{{.*}} : i32
    %before, %total = gossamer.lane_prefix %kept : i32
    %both = arith.addi %before, %total : i32
    memref.store %both, %x[%lane] : memref<32xi32>
  } {gossamer.lanes = 32 : i64}
  return
}
