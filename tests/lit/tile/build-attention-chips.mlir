// RUN: gossamer-opt %s --split-input-file --gossamer-build-attention | FileCheck %s

// Steps of 64 keys, and as many stages as shared memory has room for, of 163 KB here: the next queries beside these,
// which stay there.

// CHECK-LABEL: tile.program @a_program
// CHECK-SAME: chip = "sm_80"
// CHECK: %[[Q:.*]] = tile.alloc : !tile.ring<2x128x128xbf16>
// CHECK: tile.alloc : !tile.ring<3x64x128xbf16>
// CHECK: tile.alloc : !tile.ring<3x64x128xbf16>
// Two blocks of 32 keys make a step.
// CHECK: tile.load {{.*}} rows(%{{.*}}, %{{.*}}) into
// CHECK: tile.role consumer warpgroups(2) registers(168)
// CHECK: %[[TILE:.*]] = tile.wait %[[Q]]
// CHECK-NOT: tile.load_operand
// CHECK: %[[ROWS:.*]] = tile.subtile %[[TILE]]
// CHECK: tile.mma %[[ROWS]], %{{.*}} transposed
// CHECK: scf.while
// Given back behind the loop over the steps.
// CHECK: scf.for
// CHECK: tile.release %[[Q]]
tile.attention @a element(bf16) head(128) blocks(128, 32) listed chip("sm_80")

// -----

// Of 99 KB.
// CHECK-LABEL: tile.program @b_program
// CHECK-SAME: chip = "sm_89"
// CHECK: tile.alloc : !tile.ring<1x128x128xbf16>
// CHECK: tile.alloc : !tile.ring<2x64x128xbf16>
// CHECK: tile.alloc : !tile.ring<2x64x128xbf16>
// The diagonal of a block of 128 queries is in two steps; the second is masked before the loop over the others.
// CHECK: tile.role consumer warpgroups(2)
// CHECK: scf.while
// CHECK: scf.for %{{.*}} = %{{.*}} to %[[TWO:.*]] step
// CHECK: arith.select
// CHECK: scf.for %{{.*}} = %[[TWO]] to
// CHECK-NOT: arith.select
// CHECK: tile.release
tile.attention @b element(bf16) head(128) blocks(128, 64) causal chip("sm_89")

// -----

// Gradients: do is read from shared memory until the tile is done.
// CHECK-LABEL: tile.program @c_queries
// CHECK: tile.alloc : !tile.ring<1x64x128xbf16>
// CHECK: %[[OUT:.*]] = tile.alloc : !tile.ring<1x64x128xbf16>
// CHECK: tile.alloc : !tile.ring<2x64x128xbf16>
// CHECK: tile.role consumer warpgroups(1) registers(248)
// CHECK: tile.release %[[OUT]]
// CHECK: scf.for
// CHECK: tile.release %[[OUT]]
// CHECK-LABEL: tile.program @c_keys
// CHECK-SAME: chip = "sm_89"
// CHECK: tile.alloc : !tile.series<2x2x64xf32>
tile.attention_backward @c element(bf16) head(128) blocks(64, 64) chip("sm_89")
