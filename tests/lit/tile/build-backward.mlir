// RUN: gossamer-opt %s --gossamer-build-attention | FileCheck %s

// CHECK: module attributes {gossamer.signature = "{{.*}}\22kernels\22: 2{{.*}}tile.attention_backward

// A block of 128 queries; the keys pass by in halves of a block of 128.
// CHECK-LABEL: tile.program @attention_queries
// CHECK: %[[Q:.*]] = tile.alloc : !tile.ring<2x128x128xbf16>
// CHECK: %[[O:.*]] = tile.alloc : !tile.ring<2x128x128xbf16>
// CHECK: %[[K:.*]] = tile.alloc : !tile.ring<2x64x128xbf16>
// CHECK: %[[V:.*]] = tile.alloc : !tile.ring<2x64x128xbf16>
// CHECK: tile.role producer warpgroups(1) registers(40)
// CHECK: tile.send
// The output and its gradient by turns, and the queries.
// CHECK: tile.load {{.*}} into %[[O]]
// CHECK: tile.load {{.*}} into %[[O]]
// CHECK: tile.load {{.*}} into %[[Q]]
// CHECK: scf.for
// CHECK: tile.load {{.*}} into %[[K]]
// CHECK: tile.load {{.*}} into %[[V]]
// CHECK: tile.next
// CHECK: tile.role consumer warpgroups(2) registers(232)
// CHECK: tile.receive
// CHECK: tile.to_fragment
// CHECK: tile.reduce sum
// CHECK: tile.load_rows
// What the other program needs of rows.
// CHECK-COUNT-2: tile.store_rows
// CHECK: scf.for
// CHECK: %[[S:.*]] = tile.mma {{.*}} transposed
// CHECK: tile.mma {{.*}} transposed
// CHECK: tile.await %[[S]]
// CHECK: math.exp2
// CHECK: tile.to_operand
// CHECK: tile.mma {{.*}} plus
// CHECK: tile.store

// A block of 128 keys; its rows are multiplied from the left.
// CHECK-LABEL: tile.program @attention_keys
// CHECK: %[[K:.*]] = tile.alloc : !tile.ring<1x128x128xbf16>
// CHECK: %[[V:.*]] = tile.alloc : !tile.ring<1x128x128xbf16>
// CHECK: %[[Q:.*]] = tile.alloc : !tile.ring<3x64x128xbf16>
// CHECK: %[[O:.*]] = tile.alloc : !tile.ring<3x64x128xbf16>
// CHECK: %[[N:.*]] = tile.alloc : !tile.series<3x2x64xf32>
// CHECK: tile.role producer
// Over the heads that share the keys: how many steps there are, and then the steps.
// CHECK: scf.for
// CHECK: tile.read
// CHECK: tile.send
// CHECK: tile.load {{.*}} into %[[K]]
// CHECK: tile.load {{.*}} into %[[V]]
// CHECK: scf.for
// CHECK: scf.for
// CHECK: tile.load {{.*}} into %[[Q]]
// CHECK: tile.load {{.*}} into %[[O]]
// CHECK: tile.load_numbers {{.*}} into %[[N]]
// CHECK: tile.role consumer
// CHECK: scf.for
// CHECK: tile.mma {{.*}} transposed : (!tile.shared<64x128xbf16, panel = 128>, !tile.shared<64x128xbf16>)
// CHECK: tile.columns %[[N]]
// Behind the products that were made of what was read.
// CHECK: tile.mma {{.*}} plus
// CHECK: tile.mma {{.*}} plus
// CHECK: tile.release %[[N]]
// CHECK-COUNT-2: tile.store

// CHECK: llvm.func @gs_entry
// CHECK: tile.launch @attention_queries
// CHECK: tile.launch @attention_keys
tile.attention_backward @attention element(bf16) head(128) blocks(128, 128)
