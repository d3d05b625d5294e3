// RUN: gossamer-opt %s --gossamer-build-attention | FileCheck %s

// A list with blocks that are allowed in part: masked steps come first.

// CHECK-LABEL: tile.program @attention_program
// CHECK: tile.alloc : !tile.queue<2x6xi32>
// CHECK: tile.role producer warpgroups(1) registers(40)
// CHECK: tile.send
// CHECK: scf.while
// Masked steps, of either list or, behind the last entry, of the end of the keys; then those of whole blocks.
// CHECK: scf.for
// CHECK: scf.if
// CHECK: tile.read
// CHECK: } else {
// CHECK: scf.if
// CHECK: tile.load
// CHECK: tile.load
// CHECK: scf.for
// CHECK-NOT: scf.if
// CHECK: tile.load
// CHECK: tile.load
// CHECK: tile.send

// CHECK: tile.role consumer warpgroups(2) registers(232)
// CHECK: tile.receive {{.*}} : <2x6xi32>
// Where bits are is read before a product begins, the bits behind it.
// CHECK: tile.read
// CHECK: tile.mma
// CHECK: %[[FIRST:.*]] = tile.load_bits
// CHECK: tile.await
// CHECK: tile.elementwise %{{.*}}, %[[FIRST]]
// CHECK: scf.while
// CHECK: scf.for
// CHECK: tile.read
// CHECK: tile.mma
// CHECK: tile.mma
// CHECK: %[[BITS:.*]] = tile.load_bits
// CHECK: tile.await
// CHECK: tile.elementwise %{{.*}}, %[[BITS]]
// The loop over whole blocks has no mask.
// CHECK: scf.for
// CHECK-NOT: tile.load_bits
// CHECK: scf.if
// CHECK: tile.load_bits

// CHECK: llvm.func @gs_entry
// CHECK: llvm.getelementptr %arg0[36]
// CHECK-NOT: llvm.getelementptr %arg0[37]
tile.attention @attention element(bf16) head(128) blocks(128, 128) listed partial
