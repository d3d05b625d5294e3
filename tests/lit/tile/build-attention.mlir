// RUN: gossamer-opt %s --gossamer-build-attention | FileCheck %s

// CHECK: module attributes {gossamer.signature =
// CHECK-LABEL: tile.program @attention_program
// Blocks of 64 keys, two of which are gathered into a step of 128.
// CHECK-SAME: !tile.map<128x128xbf16>, %{{.*}}: !tile.map<64x128xbf16>, %{{.*}}: !tile.map<64x128xbf16>, %{{.*}}: !tile.map<64x128xbf16>
// CHECK: %[[Q:.*]] = tile.alloc : !tile.ring<1x128x128xbf16>
// CHECK: %[[K:.*]] = tile.alloc : !tile.ring<2x128x128xbf16>
// CHECK: %[[V:.*]] = tile.alloc : !tile.ring<2x128x128xbf16>
// CHECK: tile.role producer warpgroups(1) registers(40)
// CHECK: tile.send
// CHECK: tile.load {{.*}} into %[[Q]]
// CHECK: tile.load {{.*}} rows(%{{.*}}, %{{.*}}) into %[[K]]
// CHECK: scf.while
// CHECK: scf.for
// CHECK: tile.load {{.*}} into %[[K]]
// CHECK: tile.load {{.*}} into %[[V]]
// The next tile's queries and first keys come before this one's last values.
// CHECK: tile.send
// CHECK: scf.if
// CHECK: tile.load {{.*}} into %[[Q]]
// CHECK: tile.load {{.*}} into %[[K]]
// CHECK: tile.load {{.*}} into %[[V]]

// CHECK: tile.role consumer warpgroups(2) registers(232)
// CHECK: tile.receive
// CHECK: tile.mma
// Missing blocks and the end of the keys are masked in step 0.
// CHECK: arith.select
// CHECK: scf.while
// Without a mask: the next scores beside the last output.
// CHECK: scf.for
// CHECK: %[[S:.*]] = tile.mma {{.*}} transposed
// CHECK: %[[O:.*]] = tile.mma {{.*}} plus
// CHECK: tile.pass_turn
// CHECK: tile.await %[[S]]
// CHECK: tile.release %[[K]]
// CHECK-NOT: arith.select
// CHECK: tile.await %[[O]]
// CHECK: tile.release %[[V]]
// CHECK: tile.to_operand
// CHECK: scf.yield
// CHECK: scf.if
// CHECK: tile.store
// CHECK: tile.store_rows
// CHECK: } else {
// CHECK: tile.store

// CHECK: llvm.func @gs_entry(%{{.*}}: !llvm.ptr)
// CHECK-COUNT-4: tile.describe
// CHECK: tile.resident @attention_program
// CHECK: tile.launch @attention_program
tile.attention @attention element(bf16) head(128) blocks(128, 64) listed tail
