// RUN: gossamer-opt %s --gossamer-expose-storage -allow-unregistered-dialect --split-input-file | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 16 }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>

// Positions, coordinates, values, level sizes; once for each storage that is wanted,
// in the order of the arguments. One more argument that nobody reads is not passed.
// CHECK: module attributes {gossamer.signature = "{\22args\22:[
// CHECK-SAME: {\22dtype\22:\22f64\22,\22input\22:0,\22kind\22:\22dense\22,\22rank\22:3},
// CHECK-SAME: {\22dtype\22:\22f32\22,\22encoding\22:\22#sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 16 }>\22,\22input\22:1,\22kind\22:\22sparse\22,
// CHECK-SAME: \22levels\22:[{\22coordinates\22:false,\22positions\22:false},{\22coordinates\22:true,\22positions\22:true}],\22rank\22:2}],
// CHECK-SAME: \22entry\22:\22gs_entry\22,
// CHECK-SAME: \22report\22:[{\22op\22:\22gossamer.sddmm\22,\22road\22:\22general\22,\22why\22:\22because\22}],
// CHECK-SAME: \22results\22:[{\22dtype\22:\22f32\22,\22kind\22:\22sparse\22,\22pattern_of\22:1,\22rank\22:1},{\22dtype\22:\22bf16\22,\22kind\22:\22dense\22,\22rank\22:0}]}"}
// CHECK-LABEL: func @arrays
// CHECK-SAME: (%[[D:.*]]: tensor<?x?x?xf64>, %[[POS:.*]]: memref<?xi32>, %[[CRD:.*]]: memref<?xi16>, %[[VAL:.*]]: memref<?xf32>, %[[ROWS:.*]]: index, %[[COLUMNS:.*]]: index, %[[A:.*]]: memref<?xf32>, %[[B:.*]]: memref<bf16>)
func.func @arrays(%d: tensor<?x?x?xf64>, %s: tensor<?x?xf32, #CSR>, %unused: tensor<?x?xf32, #CSC>, %a: memref<?xf32>, %b: memref<bf16>)
    attributes {gossamer.results = [1, -1], gossamer.report = [{op = "gossamer.sddmm", road = "general", why = "because"}]} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %pos = sparse_tensor.positions %s {level = 1 : index} : tensor<?x?xf32, #CSR> to memref<?xi32>
  %crd = sparse_tensor.coordinates %s {level = 1 : index} : tensor<?x?xf32, #CSR> to memref<?xi16>
  %val = sparse_tensor.values %s : tensor<?x?xf32, #CSR> to memref<?xf32>
  %lvl = sparse_tensor.lvl %s, %c1 : tensor<?x?xf32, #CSR>
  %dim = tensor.dim %s, %c0 : tensor<?x?xf32, #CSR>
  %n = sparse_tensor.number_of_entries %s : tensor<?x?xf32, #CSR>
  // CHECK: %[[N:.*]] = memref.dim %[[VAL]], %c0
  // CHECK: "test.use"(%[[POS]], %[[CRD]], %[[VAL]], %[[COLUMNS]], %[[ROWS]], %[[N]])
  "test.use"(%pos, %crd, %val, %lvl, %dim, %n) : (memref<?xi32>, memref<?xi16>, memref<?xf32>, index, index, index) -> ()
  return
}

// -----

// The same argument as it comes and by columns: two entries, of one input. The
// sizes of a permuted and of a blocked storage are those of the tensor.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
// CHECK: gossamer.signature = "{\22args\22:[
// CHECK-SAME: (d1 : dense, d0 : compressed) }>\22,\22input\22:0,
// CHECK-SAME: (d0 floordiv 2 : dense, {{.*}}\22input\22:1,
// CHECK-LABEL: func @formats
// CHECK-SAME: %[[CSC_COLUMNS:arg[0-9]+]]: index, %[[CSC_ROWS:arg[0-9]+]]: index, %{{[^:]*}}: memref<?xindex>
// CHECK-SAME: %[[BLOCK_ROWS:arg[0-9]+]]: index, %{{[^:]*}}: index, %{{[^:]*}}: index, %{{[^:]*}}: index)
func.func @formats(%s: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32, #BSR>) attributes {gossamer.results = []} {
  %c0 = arith.constant 0 : index
  %t = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32, #CSC>
  %dim = tensor.dim %t, %c0 : tensor<?x?xf32, #CSC>
  // CHECK: %[[BLOCKED:.*]] = arith.muli %[[BLOCK_ROWS]], %c2
  %blocked = tensor.dim %b, %c0 : tensor<?x?xf32, #BSR>
  // CHECK: "test.use"(%[[CSC_ROWS]], %[[BLOCKED]])
  "test.use"(%dim, %blocked) : (index, index) -> ()
  return
}

// -----

// New values on an argument's pattern; levels for dimensions.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
#LVL = #sparse_tensor.encoding<{ map = (d0, d1, d2, d3) -> (d0 : dense, d1 : compressed, d2 : dense, d3 : dense) }>
// CHECK-LABEL: func @assembled
// CHECK-SAME: %[[POS:arg[0-9]+]]: memref<?xindex>
func.func @assembled(%s: tensor<8x8xf32, #BSR>, %new: tensor<?xf32>) attributes {gossamer.results = []} {
  %t = gossamer.assemble %s, %new : tensor<8x8xf32, #BSR>, tensor<?xf32> -> tensor<8x8xf32, #BSR>
  %r = sparse_tensor.reinterpret_map %t : tensor<8x8xf32, #BSR> to tensor<4x2x2x4xf32, #LVL>
  // CHECK: bufferization.to_buffer
  %pos = sparse_tensor.positions %r {level = 1 : index} : tensor<4x2x2x4xf32, #LVL> to memref<?xindex>
  %val = sparse_tensor.values %r : tensor<4x2x2x4xf32, #LVL> to memref<?xf32>
  // CHECK-NOT: gossamer.assemble
  // CHECK-NOT: sparse_tensor.values
  // CHECK: %[[VAL:[0-9]+]] = bufferization.to_buffer %{{.*}} : tensor<?xf32> to memref<?xf32>
  // CHECK-NEXT: "test.use"(%[[POS]], %[[VAL]])
  "test.use"(%pos, %val) : (memref<?xindex>, memref<?xf32>) -> ()
  return
}

// -----

// Values that a lowering wrote to memory of its own are that memory.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
// CHECK-LABEL: func @written
func.func @written(%s: tensor<8x8xf32, #BSR>) attributes {gossamer.results = []} {
  // CHECK: %[[MEMORY:.*]] = memref.alloc
  %size = arith.constant 16 : index
  %memory = memref.alloc(%size) : memref<?xf32>
  %new = bufferization.to_tensor %memory restrict writable : memref<?xf32> to tensor<?xf32>
  %t = gossamer.assemble %s, %new : tensor<8x8xf32, #BSR>, tensor<?xf32> -> tensor<8x8xf32, #BSR>
  %val = sparse_tensor.values %t : tensor<8x8xf32, #BSR> to memref<?xf32>
  // CHECK-NOT: bufferization.to_buffer
  // CHECK: "test.use"(%[[MEMORY]])
  "test.use"(%val) : (memref<?xf32>) -> ()
  return
}
