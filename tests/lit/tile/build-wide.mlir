// RUN: gossamer-opt %s --gossamer-build-attention | FileCheck %s
// RUN: gossamer-opt %s --gossamer-lower-tile --gossamer-codegen="chip=sm_90a print-ptx=true" -o %t | FileCheck %s --check-prefix=PTX

// Heads of more than 128 columns: the queries stay in shared memory, steps have
// 64 keys, and the output is stored 64 columns at a time.

// CHECK-LABEL: tile.program @attention_program
// CHECK: %[[Q:.*]] = tile.alloc : !tile.ring<1x128x256xbf16>
// CHECK: %[[K:.*]] = tile.alloc : !tile.ring<2x64x256xbf16>
// CHECK: %[[V:.*]] = tile.alloc : !tile.ring<2x64x256xbf16>
// CHECK: tile.alloc : !tile.shared<128x64xbf16>
// CHECK: tile.role producer warpgroups(1) registers(40)
// CHECK: tile.load {{.*}} into %[[Q]]
// CHECK: tile.load {{.*}} into %[[K]]
// CHECK: scf.while
// CHECK: scf.for
// The next tile's queries come last, when all scores of this one are done.
// CHECK: tile.send
// CHECK: tile.load {{.*}} into %[[K]]
// CHECK: tile.load {{.*}} into %[[V]]
// CHECK: tile.load {{.*}} into %[[Q]]

// CHECK: tile.role consumer warpgroups(2) registers(232)
// CHECK-NOT: tile.load_operand
// CHECK: scf.while
// CHECK: scf.for
// CHECK: tile.wait %[[Q]]
// CHECK: %[[S:.*]] = tile.mma %{{.*}}, %{{.*}} transposed : (!tile.shared<64x256xbf16, panel = 128>, !tile.shared<64x256xbf16>) -> !tile.pending<64x64xf32>
// CHECK: tile.release %[[Q]]
// The last product of a tile begins before the next one's queries are there.
// CHECK: scf.if
// CHECK: tile.wait %[[V]]
// CHECK: tile.mma
// CHECK: tile.wait %[[Q]]
// CHECK: tile.mma
// CHECK: tile.store %{{.*}} by %{{.*}} : <64x256xf32>, <64x256xbf16>, <64x64xbf16, panel = 128>

// Each part of the output waits until the one before has left the scratch.
// PTX: cp.async.bulk.wait_group.read 0
// PTX-COUNT-4: stmatrix
// PTX-NOT: stmatrix
// PTX: cp.async.bulk.tensor.4d.global
// PTX: cp.async.bulk.commit_group
// PTX: cp.async.bulk.wait_group.read 0
// PTX-COUNT-4: stmatrix
// PTX-NOT: stmatrix
// PTX: cp.async.bulk.tensor.4d.global
// PTX: cp.async.bulk.commit_group
// PTX: cp.async.bulk.wait_group.read 0
// PTX-COUNT-4: stmatrix
// PTX-NOT: stmatrix
// PTX: cp.async.bulk.tensor.4d.global
// PTX: cp.async.bulk.commit_group
// PTX: cp.async.bulk.wait_group.read 0
// PTX-COUNT-4: stmatrix
// PTX-NOT: stmatrix
// PTX: cp.async.bulk.tensor.4d.global
// PTX: cp.async.bulk.commit_group

tile.attention @attention element(bf16) head(256) blocks(128, 64) listed
