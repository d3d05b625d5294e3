// RUN: gossamer-opt %s --gossamer-build-attention --split-input-file | FileCheck %s

// Keys that are packed come before the others: nothing of the program is other than without, but for its maps.

// CHECK-LABEL: tile.program @forward_program
// CHECK-SAME: !tile.map<128x128xbf16>, %{{.*}}: !tile.map<64x128xbf16, joined>, %{{.*}}: !tile.map<64x128xbf16, joined>, %{{.*}}: !tile.map<64x128xbf16>
// CHECK: tile.load {{.*}} rows(%{{.*}}, %{{.*}}) into {{.*}} : <64x128xbf16, joined> into <2x128x128xbf16>

// CHECK: llvm.func @gs_entry(%{{.*}}: !llvm.ptr)
// CHECK: tile.describe
// CHECK: %[[KEYS:.*]] = tile.describe
// CHECK: %[[PACKED:.*]] = tile.describe
// CHECK: %[[MAP:.*]] = tile.join %[[PACKED]], %[[KEYS]] at(%[[ROW:.*]])
// CHECK: tile.join %{{.*}}, %{{.*}} at(%[[ROW]])
// CHECK: tile.launch @forward_program {{.*}}%[[MAP]]
tile.attention @forward element(bf16) head(128) blocks(128, 64) listed partial packed

// -----

// CHECK-LABEL: tile.program @backward_queries
// CHECK: tile.load {{.*}} : <64x64xf16, joined> into
// CHECK: tile.load {{.*}} : <64x64xf16, joined> into

// The gradients of packed keys are stored where they are packed.
// CHECK-LABEL: tile.program @backward_keys
// CHECK: tile.load {{.*}} : <128x64xf16, joined> into
// CHECK: tile.load {{.*}} : <128x64xf16, joined> into
// CHECK: tile.store {{.*}} : <64x64xf32>, <64x64xf16, joined>
// CHECK: tile.store {{.*}} : <64x64xf32>, <64x64xf16, joined>

// Its tiles are those of packed keys and of the others.
// CHECK-LABEL: llvm.func @gs_entry
// CHECK-COUNT-2: tile.join
// CHECK: tile.launch @backward_queries
// CHECK-COUNT-4: tile.join
// CHECK: tile.launch @backward_keys
tile.attention_backward @backward element(f16) head(64) blocks(128, 128) packed
