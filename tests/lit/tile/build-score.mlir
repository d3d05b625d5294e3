// RUN: split-file %s %t
// RUN: gossamer-opt %t/forward.mlir --gossamer-build-attention | FileCheck %t/forward.mlir
// RUN: gossamer-opt %t/backward.mlir --gossamer-build-attention | FileCheck %t/backward.mlir
// RUN: gossamer-opt %t/forward.mlir --gossamer-lower-tile | FileCheck %t/forward.mlir --check-prefix=LOWER

// A function of scores is where scores are, before they are masked.

//--- forward.mlir
// What it captures is behind the other arguments; two blocks of keys a step have places of their own.
// CHECK-LABEL: tile.program @main_program
// CHECK-SAME: %[[TABLE:[a-z0-9]+]]: memref<?xf32>, %[[ALPHA:[a-z0-9]+]]: f32) {
// CHECK: %[[PLACES:.*]] = tile.alloc : !tile.queue<2x2xi32>
// CHECK: tile.role producer
// CHECK: tile.send %[[PLACES]]
// CHECK: tile.load
// CHECK: tile.role consumer
// CHECK: %[[PLACE:.*]]:2 = tile.receive %[[PLACES]]
// CHECK: tile.mma
// CHECK: tile.await
// CHECK: tile.elementwise
// CHECK: arith.mulf {{.*}} fastmath<contract>
// CHECK: tile.look_up %[[TABLE]]
// CHECK: arith.mulf %{{.*}}, %[[ALPHA]]
// CHECK: tile.elementwise
// CHECK: tile.reduce max
// CHECK: llvm.func @gs_entry
// CHECK: tile.launch
// LOWER: llvm.load %{{.*}} invariant {{.*}} : !llvm.ptr<1> -> f32
// LOWER: tanh.approx.f32
tile.attention @main element(bf16) head(64) blocks(128, 64) listed score {
^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32, %table: memref<?xf32>, %a: f32):
  %x = tile.look_up %table[%k] : memref<?xf32>
  %y = arith.mulf %x, %a : f32
  %t = math.tanh %s : f32
  %z = arith.addf %t, %y : f32
  tile.yield %z : f32
}

//--- backward.mlir
// The program of the queries gets the first key of a step, that of the keys the head and the first query.
// CHECK-LABEL: tile.program @main_queries
// CHECK: %[[PLACES:.*]] = tile.alloc : !tile.queue<2x1xi32>
// CHECK: tile.send %[[PLACES]]
// CHECK: tile.receive %[[PLACES]]
// CHECK: math.tanh
// CHECK: math.exp2
// p times the derivative, 0 where p is.
// CHECK: math.tanh
// CHECK: arith.cmpf oeq
// CHECK-LABEL: tile.program @main_keys
// CHECK: %[[PLACES:.*]] = tile.alloc : !tile.queue<3x2xi32>
// CHECK: tile.receive %[[PLACES]]
// CHECK: math.tanh
// CHECK: math.exp2
// CHECK: math.tanh
tile.attention_backward @main element(bf16) head(128) blocks(128, 128) score {
^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32):
  %t = math.tanh %s : f32
  %u = arith.mulf %t, %t : f32
  %one = arith.constant 1.0 : f32
  %d = arith.subf %one, %u : f32
  tile.yield %t, %d : f32, f32
}
