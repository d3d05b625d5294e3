// RUN: gossamer-opt %s --gossamer-map-to-gpu --canonicalize --split-input-file | FileCheck %s

// Sums over the lanes before, by shuffles: what comes from beyond the first
// lane is not added. The last lane knows the total.
// CHECK-LABEL: func @warp
// CHECK: gpu.launch
// CHECK: %[[LANE:.*]] = arith.andi %{{.*}}, %c31
// CHECK: %[[KEPT:.*]] = memref.load
// CHECK: %[[PLACE:.*]] = arith.andi %{{.*}}, %c31_i32
// CHECK: %[[OTHER:.*]] = nvvm.shfl.sync up %c-1_i32, %[[KEPT]], %c1_i32, %c0_i32
// CHECK: %[[MORE:.*]] = arith.addi %[[KEPT]], %[[OTHER]]
// CHECK: %[[HAS:.*]] = arith.cmpi sge, %[[PLACE]], %c1_i32
// CHECK: arith.select %[[HAS]], %[[MORE]], %[[KEPT]]
// CHECK-COUNT-3: nvvm.shfl.sync up
// CHECK: nvvm.shfl.sync up %{{.*}}, %{{.*}}, %c16_i32, %c0_i32
// CHECK: %[[SUM:.*]] = arith.select
// CHECK: %[[TOTAL:.*]] = nvvm.shfl.sync idx %c-1_i32, %[[SUM]], %c31_i32, %c31_i32
// CHECK: %[[BEFORE:.*]] = arith.subi %[[SUM]], %[[KEPT]]
// CHECK: memref.store %[[BEFORE]]
// CHECK: memref.store %[[TOTAL]]
func.func @warp(%n: index, %x: memref<?x32xi32>, %before: memref<?x32xi32>, %total: memref<?x32xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c32 = arith.constant 32 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.parallel (%lane) = (%c0) to (%c32) step (%c1) {
      %kept = memref.load %x[%i, %lane] : memref<?x32xi32>
      %b, %t = gossamer.lane_prefix %kept : i32
      memref.store %b, %before[%i, %lane] : memref<?x32xi32>
      memref.store %t, %total[%i, %lane] : memref<?x32xi32>
    } {gossamer.lanes = 32 : i64}
  }
  return
}

// -----

// Eight lanes are a segment of the warp: of four iterations each knows its own.
// CHECK-LABEL: func @segments
// CHECK: %[[SHIFT:.*]] = arith.index_cast
// CHECK: %[[MASK:.*]] = arith.shli %c255_i32
// CHECK: nvvm.shfl.sync up %[[MASK]], %{{.*}}, %c1_i32, %c6144_i32
// CHECK: nvvm.shfl.sync up %[[MASK]], %{{.*}}, %c2_i32, %c6144_i32
// CHECK: nvvm.shfl.sync up %[[MASK]], %{{.*}}, %c4_i32, %c6144_i32
// CHECK-NOT: nvvm.shfl.sync up
// CHECK: nvvm.shfl.sync idx %[[MASK]], %{{.*}}, %c7_i32, %c6175_i32
func.func @segments(%n: index, %x: memref<?x8xi32>, %before: memref<?x8xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.parallel (%lane) = (%c0) to (%c8) step (%c1) {
      %kept = memref.load %x[%i, %lane] : memref<?x8xi32>
      %b, %t = gossamer.lane_prefix %kept : i32
      %both = arith.addi %b, %t : i32
      memref.store %both, %before[%i, %lane] : memref<?x8xi32>
    } {gossamer.lanes = 8 : i64}
  }
  return
}
