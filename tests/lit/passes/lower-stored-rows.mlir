// Softmax and maps over vectors of stored entries; what cannot be had so is left as it is.
// RUN: gossamer-opt %s --gossamer-lower-stored-rows="vector-bytes=32" -cse --split-input-file | FileCheck %s

// A row is a run of positions: whole vectors, then a masked one. The maximum, the sum, and both in registers
// until the row is done; -inf and rows with nothing allowed are 0.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
// CHECK-LABEL: func @softmax
// CHECK-SAME: %[[OUT:[^:]*]]: memref<?xf32>)
func.func @softmax(%s: tensor<?x?xf32, #CSR>, %out: memref<?xf32>) {
  // CHECK: %[[VALUES:.*]] = sparse_tensor.values
  // CHECK: scf.parallel
  // CHECK: %[[LOWEST:.*]] = arith.constant dense<0xFF800000> : vector<8xf32>
  // CHECK: scf.for {{.*}} step %c8 iter_args(%{{.*}} = %[[LOWEST]]) -> (vector<8xf32>)
  // CHECK: vector.load %[[VALUES]]
  // CHECK: arith.maximumf
  // CHECK: scf.if
  // CHECK: %[[MASK:.*]] = vector.create_mask
  // CHECK: %[[PART:.*]] = vector.maskedload %[[VALUES]]
  // CHECK: arith.select %[[MASK]], %[[PART]], %[[LOWEST]]
  // CHECK: vector.reduction <maximumf>
  // CHECK: arith.cmpf oeq
  // CHECK: %[[FROM:.*]] = vector.broadcast
  // CHECK: scf.for
  // CHECK: %[[X:.*]] = arith.subf %{{.*}}, %[[FROM]]
  // CHECK: %[[POWER:.*]] = math.exp %[[X]]
  // CHECK: vector.store %[[POWER]], %[[OUT]]
  // CHECK: arith.addf
  // CHECK: vector.maskedstore %[[OUT]]
  // CHECK: %[[SUM:.*]] = vector.reduction <add>
  // CHECK: %[[INVERSE:.*]] = arith.divf %{{.*}}, %[[SUM]]
  // CHECK: arith.select %{{.*}}, %{{.*}}, %[[INVERSE]]
  // CHECK: scf.for
  // CHECK: vector.load %[[OUT]]
  // CHECK: arith.mulf
  // CHECK: vector.store %{{.*}}, %[[OUT]]
  // CHECK-NOT: memref.alloc
  %0 = gossamer.softmax %s dim 1 : tensor<?x?xf32, #CSR>
  gossamer.store_values %0, %out : tensor<?x?xf32, #CSR>, memref<?xf32>
  return
}

// -----

// Blocks: the rows of a block, each through all blocks of its block row, with no vector but whole ones.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 4 : dense, d1 floordiv 16 : compressed, d0 mod 4 : dense, d1 mod 16 : dense) }>
// CHECK-LABEL: func @blocks
func.func @blocks(%s: tensor<?x?xf32, #BSR>, %out: memref<?xf32>) {
  // CHECK: scf.parallel
  // CHECK: scf.for %[[ROW:.*]] = %c0 to %c4
  // CHECK: scf.for %[[BLOCK:.*]] =
  // CHECK: scf.for %{{.*}} = %c0 to %c16 step %c8
  // CHECK: arith.maximumf
  // CHECK-NOT: create_mask
  // CHECK: math.exp
  %0 = gossamer.softmax %s dim 1 : tensor<?x?xf32, #BSR>
  gossamer.store_values %0, %out : tensor<?x?xf32, #BSR>, memref<?xf32>
  return
}

// -----

// Sums of f16 are f32, and powers are rounded once, when they have been divided.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @halves
func.func @halves(%s: tensor<?x?xf16, #CSR>, %out: memref<?xf16>) {
  // CHECK: arith.extf {{.*}} : vector<8xf16> to vector<8xf32>
  // CHECK: vector.reduction <maximumf>
  // CHECK: math.exp
  // CHECK-NOT: vector.store
  // CHECK: vector.reduction <add>
  // CHECK: math.exp
  // CHECK: arith.truncf {{.*}} : vector<8xf32> to vector<8xf16>
  // CHECK: vector.store
  %0 = gossamer.softmax %s dim 1 : tensor<?x?xf16, #CSR>
  gossamer.store_values %0, %out : tensor<?x?xf16, #CSR>, memref<?xf16>
  return
}

// -----

// A map: operands on the pattern as vectors, one for each row as a number.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#id = affine_map<(i, j) -> (i, j)>
#row = affine_map<(i, j) -> (i)>
#column = affine_map<(i, j) -> (j)>
// CHECK-LABEL: func @map
// CHECK-SAME: %[[OUT:[^:]*]]: memref<?xf32>)
func.func @map(%s: tensor<?x?xi1, #CSR>, %x: tensor<?x?xf32, #CSR> {gossamer.pattern = 0 : i64}, %r: tensor<?xf32>, %out: memref<?xf32>) {
  // CHECK: %[[PER_ROW:.*]] = bufferization.to_buffer
  // CHECK: scf.parallel (%[[I:.*]]) =
  // CHECK: scf.for
  // CHECK: vector.load {{.*}} : memref<?xi8>, vector<8xi8>
  // CHECK: %[[BOOL:.*]] = arith.trunci {{.*}} : vector<8xi8> to vector<8xi1>
  // CHECK: %[[R:.*]] = memref.load %[[PER_ROW]][%[[I]]]
  // CHECK: vector.broadcast %[[R]]
  // CHECK: arith.select %[[BOOL]]
  // CHECK: vector.store {{.*}}, %[[OUT]]
  // CHECK: vector.maskedstore %[[OUT]]
  %0 = gossamer.map ins(%s : tensor<?x?xi1, #CSR>) with(%x, %r : tensor<?x?xf32, #CSR>, tensor<?xf32>) maps [#id, #id, #row] {
  ^bb0(%v: i1, %a: f32, %b: f32):
    %1 = arith.subf %a, %b : f32
    %2 = arith.select %v, %1, %b : f32
    gossamer.yield %2 : f32
  } -> tensor<?x?xf32, #CSR>
  gossamer.store_values %0, %out : tensor<?x?xf32, #CSR>, memref<?xf32>
  return
}

// A column's number is wherever its coordinate says: no vector.
// CHECK-LABEL: func @scattered
// CHECK: gossamer.map
func.func @scattered(%s: tensor<?x?xf32, #CSR>, %c: tensor<?xf32>, %out: memref<?xf32>) {
  %0 = gossamer.map ins(%s : tensor<?x?xf32, #CSR>) with(%c : tensor<?xf32>) maps [#id, #column] {
  ^bb0(%v: f32, %b: f32):
    %1 = arith.mulf %v, %b : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #CSR>
  gossamer.store_values %0, %out : tensor<?x?xf32, #CSR>, memref<?xf32>
  return
}

// -----

// Along blocks a column's numbers are a vector, too.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 4 : dense, d1 floordiv 16 : compressed, d0 mod 4 : dense, d1 mod 16 : dense) }>
// CHECK-LABEL: func @columns
func.func @columns(%s: tensor<?x?xf32, #BSR>, %c: tensor<?xf32>, %out: memref<?xf32>) {
  // CHECK: %[[PER_COLUMN:.*]] = bufferization.to_buffer
  // CHECK: scf.parallel
  // CHECK: vector.load %[[PER_COLUMN]]
  %0 = gossamer.map ins(%s : tensor<?x?xf32, #BSR>) with(%c : tensor<?xf32>) maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>] {
  ^bb0(%v: f32, %b: f32):
    %1 = arith.mulf %v, %b : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #BSR>
  gossamer.store_values %0, %out : tensor<?x?xf32, #BSR>, memref<?xf32>
  return
}

// -----

// Rows that are stored in pieces (columns outermost, entries in no row's order), and blocks too narrow.
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
#COO = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed(nonunique), d1 : singleton(soa)) }>
#NARROW = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 2 : compressed, d0 mod 2 : dense, d1 mod 2 : dense) }>
// CHECK-LABEL: func @left
// CHECK-COUNT-3: gossamer.softmax
func.func @left(%a: tensor<?x?xf32, #CSC>, %b: tensor<?x?xf32, #COO>, %c: tensor<?x?xf32, #NARROW>) -> (tensor<?x?xf32, #CSC>, tensor<?x?xf32, #COO>, tensor<?x?xf32, #NARROW>) {
  %0 = gossamer.softmax %a dim 1 : tensor<?x?xf32, #CSC>
  %1 = gossamer.softmax %b dim 1 : tensor<?x?xf32, #COO>
  %2 = gossamer.softmax %c dim 1 : tensor<?x?xf32, #NARROW>
  return %0, %1, %2 : tensor<?x?xf32, #CSC>, tensor<?x?xf32, #COO>, tensor<?x?xf32, #NARROW>
}
