// RUN: gossamer-opt %s --gossamer-build-attention | FileCheck %s

// Keys that thread blocks share: each takes its part of a list, and the last merges what they leave in memory.

// CHECK-LABEL: tile.program @attention_program
// Blocks of 128 keys make steps of 128, whatever the number of queries; the output is a buffer.
// CHECK-SAME: !tile.map<64x128xbf16>, %{{.*}}: !tile.map<128x128xbf16>, %{{.*}}: !tile.map<128x128xbf16>, %{{.*}}: memref<?xbf16>
// CHECK: tile.alloc : !tile.ring<1x64x128xbf16>
// CHECK: tile.alloc : !tile.ring<3x128x128xbf16>
// CHECK: tile.alloc : !tile.ring<3x128x128xbf16>
// Nothing is stored by way of shared memory.
// CHECK-NOT: !tile.shared
// CHECK: tile.alloc : !tile.queue<2x7xi32>
// CHECK: tile.role producer
// A part's share of whole blocks, and of partial ones.
// CHECK-DAG: tile.read
// CHECK-DAG: tile.read
// CHECK: arith.remui
// CHECK: arith.divui
// CHECK: arith.minsi
// CHECK: arith.minsi
// CHECK: tile.send
// Tiles are not taken from a counter.
// CHECK-NOT: tile.next
// CHECK: tile.role consumer warpgroups(1) registers(240)
// CHECK: scf.while
// CHECK: tile.store_rows %{{.*}} : !tile.fragment<64x128xf32>, memref<?xf32>
// CHECK: tile.store_rows %{{.*}} : !tile.rows<64xf32>, memref<?xf32>
// CHECK: %[[LAST:.*]] = tile.arrive
// CHECK: scf.if %[[LAST]]
// Pieces of 16 columns, of eight parts at once.
// CHECK: scf.for
// CHECK: scf.for
// CHECK: tile.load_rows %{{.*}} span(8) : memref<?xf32> to !tile.rows<64xf32>
// CHECK: tile.load_rows %{{.*}} : memref<?xf32> to !tile.fragment<64x16xf32>
// CHECK-COUNT-7: span(8) : memref<?xf32> to !tile.rows<64xf32>
// CHECK: scf.yield
// CHECK: tile.store_rows %{{.*}} : !tile.fragment<64x16xf32>, memref<?xbf16>
// CHECK: tile.store_rows %{{.*}} span(8) : !tile.rows<64xf32>, memref<?xf32>
// CHECK: llvm.func @gs_entry
// CHECK: llvm.getelementptr %arg0[39]
// CHECK-NOT: llvm.getelementptr %arg0[40]
// CHECK-COUNT-3: tile.describe
// CHECK-NOT: tile.describe
tile.attention @attention element(bf16) head(128) blocks(64, 128) listed partial split
