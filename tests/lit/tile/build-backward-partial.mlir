// RUN: gossamer-opt %s --gossamer-build-attention | FileCheck %s

// Steps of partial blocks come first, and read bits; the others have the code that they have without.

// CHECK-LABEL: tile.program @attention_queries
// CHECK: tile.role producer
// CHECK: tile.send {{.*}} : <2x3xi32>
// CHECK-COUNT-2: scf.for
// CHECK: tile.role consumer
// CHECK: scf.for
// CHECK: tile.load_bits {{.*}} -> <64x64xi1>
// CHECK: math.exp2
// CHECK: arith.select
// CHECK: scf.for
// CHECK-NOT: tile.load_bits
// CHECK: math.exp2
// CHECK-NOT: arith.select

// CHECK-LABEL: tile.program @attention_keys
// CHECK: tile.role consumer
// Of each head that shares the keys.
// CHECK: scf.for
// CHECK: tile.read
// CHECK: scf.for
// CHECK: tile.load_bits {{.*}} -> <64x64xi1>
// CHECK: scf.for
// CHECK-NOT: tile.load_bits
// CHECK: tile.store
tile.attention_backward @attention element(bf16) head(128) blocks(128, 128) partial
