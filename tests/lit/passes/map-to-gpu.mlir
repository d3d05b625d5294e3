// RUN: gossamer-opt %s --gossamer-map-to-gpu --canonicalize --split-input-file | FileCheck %s

// An iteration of an outermost parallel loop is a thread.
// CHECK-LABEL: func @threads
// CHECK-SAME: (%[[N:.*]]: index, %[[X:.*]]: memref<?xf32>, %[[A:.*]]: f32)
// CHECK: %[[GRID:.*]] = arith.ceildivsi %[[N]], %c128
// CHECK: gpu.launch blocks(%[[B:.*]], %{{.*}}, %{{.*}}) in (%{{.*}} = %[[GRID]], {{.*}}) threads(%[[T:.*]], %{{.*}}, %{{.*}}) in (%{{.*}} = %c128,
// CHECK: %[[FIRST:.*]] = arith.muli %[[B]], %c128
// CHECK: %[[I:.*]] = arith.addi %[[FIRST]], %[[T]]
// CHECK: %[[INSIDE:.*]] = arith.cmpi slt, %[[I]], %[[N]]
// CHECK: scf.if %[[INSIDE]] {
// CHECK: memref.store %[[A]], %[[X]][%[[I]]]
func.func @threads(%n: index, %x: memref<?xf32>, %a: f32) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    memref.store %a, %x[%i] : memref<?xf32>
  }
  return
}

// -----

// Lanes of a warp take entries of a row in turn, their sums go through
// shuffles, and one of them stores.
// CHECK-LABEL: func @lanes
// CHECK: gpu.launch
// CHECK: %[[LANE:.*]] = arith.andi %{{.*}}, %c31
// CHECK: %[[ROW:.*]] = arith.divui %{{.*}}, %c32
// CHECK: scf.if
// CHECK: %[[SUM:.*]] = scf.for {{.*}} step %c32 iter_args
// CHECK: nvvm.shfl.sync bfly %{{.*}}, %[[SUM]], %c16_i32
// CHECK: arith.addf %[[SUM]]
// CHECK-COUNT-4: nvvm.shfl.sync bfly
// CHECK: %[[FIRST:.*]] = arith.cmpi eq, %{{.*}}, %c0
// CHECK: scf.if %[[FIRST]] {
// CHECK-NEXT: memref.store
func.func @lanes(%n: index, %x: memref<?x?xf32>, %y: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %m = memref.dim %x, %c1 : memref<?x?xf32>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %sum = scf.parallel (%j) = (%c0) to (%m) step (%c1) init (%zero) -> f32 {
      %v = memref.load %x[%i, %j] : memref<?x?xf32>
      scf.reduce(%v : f32) {
      ^bb0(%l: f32, %r: f32):
        %s = arith.addf %l, %r : f32
        scf.reduce.return %s : f32
      }
    } {gossamer.lanes = 32 : i64}
    memref.store %sum, %y[%i] : memref<?xf32>
  }
  return
}

// -----

// Nested: four entries at a time, of which each has eight lanes; where all
// lanes have as many iterations, their number is known. All lanes of the warp
// come to the shuffles: those beyond the last entry do the first of the four
// again, and do not store.
// CHECK-LABEL: func @nested
// CHECK: gpu.launch
// CHECK: scf.for %[[J:.*]] = %c0 to %[[HALF:.*]] step %c4 {
// CHECK: %[[OWN:.*]] = arith.addi %[[J]], %{{.*}}
// CHECK: %[[INSIDE:.*]] = arith.cmpi slt, %[[OWN]], %[[HALF]]
// CHECK: arith.select %[[INSIDE]], %[[OWN]], %[[J]]
// CHECK: scf.for {{.*}} = %c0 to %c64 step %c8 iter_args
// CHECK: nvvm.shfl.sync bfly %c-1_i32, %{{.*}}, %c4_i32
// CHECK: nvvm.shfl.sync bfly %c-1_i32, %{{.*}}, %c2_i32
// CHECK: nvvm.shfl.sync bfly %c-1_i32, %{{.*}}, %c1_i32
// CHECK: %[[STORES:.*]] = arith.andi {{.*}}%[[INSIDE]]{{.*}} : i1
// CHECK: scf.if %[[STORES]]
func.func @nested(%n: index, %x: memref<?x?x64xf32>, %y: memref<?x?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c64 = arith.constant 64 : index
  %zero = arith.constant 0.0 : f32
  %m = memref.dim %x, %c1 : memref<?x?x64xf32>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %half = arith.divui %m, %n : index
    scf.parallel (%j) = (%c0) to (%half) step (%c1) {
      %sum = scf.parallel (%k) = (%c0) to (%c64) step (%c1) init (%zero) -> f32 {
        %v = memref.load %x[%i, %j, %k] : memref<?x?x64xf32>
        scf.reduce(%v : f32) {
        ^bb0(%l: f32, %r: f32):
          %s = arith.addf %l, %r : f32
          scf.reduce.return %s : f32
        }
      } {gossamer.lanes = 8 : i64}
      memref.store %sum, %y[%i, %j] : memref<?x?xf32>
    } {gossamer.lanes = 4 : i64}
  }
  return
}

// -----

// Lanes of the inner loop are 8 apart: those of the outer one are neighbours.
// What is put together may be a vector, and goes through shuffles number by
// number. One lane of those that have the same sum stores it; how many blocks a
// multiprocessor should hold goes with the launch.
// CHECK-LABEL: func @apart
// CHECK: gpu.launch
// CHECK: %[[LANE:.*]] = arith.andi %{{.*}}, %c31
// CHECK-DAG: %[[COLUMN:.*]] = arith.andi %[[LANE]], %c7
// CHECK-DAG: %[[GROUP:.*]] = arith.divui %[[LANE]], %c8
// CHECK: vector.load
// CHECK: nvvm.shfl.sync bfly %c-1_i32, %{{.*}}, %c16_i32
// CHECK: nvvm.shfl.sync bfly %c-1_i32, %{{.*}}, %c16_i32
// CHECK: vector.from_elements
// CHECK-COUNT-2: nvvm.shfl.sync bfly %c-1_i32, %{{.*}}, %c8_i32
// CHECK-NOT: nvvm.shfl
// CHECK: %[[ALIKE:.*]] = arith.andi %{{.*}}, %c24
// CHECK: %[[FIRST:.*]] = arith.cmpi eq, %[[ALIKE]], %c0
// CHECK: scf.if %[[FIRST]] {
// CHECK-NEXT: vector.store
// CHECK: } {gossamer.resident = 8 : i64}
func.func @apart(%n: index, %x: memref<?x4x16xf32>, %y: memref<?x16xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c4 = arith.constant 4 : index
  %c8 = arith.constant 8 : index
  %zero = arith.constant dense<0.0> : vector<2xf32>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.parallel (%c) = (%c0) to (%c8) step (%c1) {
      %at = arith.muli %c, %c2 : index
      %sum = scf.parallel (%g) = (%c0) to (%c4) step (%c1) init (%zero) -> vector<2xf32> {
        %v = vector.load %x[%i, %g, %at] : memref<?x4x16xf32>, vector<2xf32>
        scf.reduce(%v : vector<2xf32>) {
        ^bb0(%l: vector<2xf32>, %r: vector<2xf32>):
          %s = arith.addf %l, %r : vector<2xf32>
          scf.reduce.return %s : vector<2xf32>
        }
      } {gossamer.lanes = 4 : i64, gossamer.apart = 8 : i64}
      vector.store %sum, %y[%i, %at] : memref<?x16xf32>, vector<2xf32>
    } {gossamer.lanes = 8 : i64}
  } {gossamer.resident = 8 : i64}
  return
}

// -----

// The second kernel may begin while the first is running, and waits for it
// where it reads what that has stored; and in the end.
// CHECK-LABEL: func @overlap
// CHECK: gpu.launch
// CHECK: llvm.inline_asm has_side_effects {{.*}}"griddepcontrol.launch_dependents;", "~{memory}"
// CHECK: memref.store
// CHECK: } {gossamer.leads}
// CHECK: gpu.launch
// CHECK-NOT: griddepcontrol
// CHECK: %[[X:.*]] = memref.load %arg1
// CHECK: scf.if
// CHECK-NEXT: llvm.inline_asm has_side_effects {{.*}}"griddepcontrol.wait;", "~{memory}"
// CHECK-NEXT: memref.load
// CHECK: memref.store
// CHECK: llvm.inline_asm has_side_effects {{.*}}"griddepcontrol.wait;", "~{memory}"
// CHECK-NEXT: gpu.terminator
// CHECK-NEXT: } {gossamer.follows}
// Where nothing says what has to wait, all does.
// CHECK: gpu.launch
// CHECK-NEXT: llvm.inline_asm has_side_effects {{.*}}"griddepcontrol.wait;", "~{memory}"
// CHECK: memref.load
// CHECK-NOT: griddepcontrol
func.func @overlap(%n: index, %x: memref<?xf32>, %t: memref<?xf32>, %y: memref<?xf32>, %a: f32) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    memref.store %a, %t[%i] : memref<?xf32>
  } {gossamer.leads}
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %v = memref.load %x[%i] : memref<?xf32>
    %is = arith.cmpf ogt, %v, %a : f32
    %s = scf.if %is -> f32 {
      %l = memref.load %t[%i] : memref<?xf32>
      scf.yield %l : f32
    } else {
      scf.yield %v : f32
    } {gossamer.follows}
    memref.store %s, %y[%i] : memref<?xf32>
  } {gossamer.follows}
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %l = memref.load %t[%i] : memref<?xf32>
    memref.store %l, %y[%i] : memref<?xf32>
  } {gossamer.follows}
  return
}

// -----

// What is serial is a kernel of one thread, and a bound that was read from
// memory is read again in the kernel that needs it, whose grid does not depend
// on it.
// CHECK-LABEL: func @serial
// CHECK-NOT: memref.load
// CHECK: gpu.launch {{.*}} in (%{{.*}} = %c1, {{.*}} threads({{.*}}) in (%{{.*}} = %c1,
// CHECK: memref.store %{{.*}}, %{{.*}}[%c0]
// CHECK: gpu.terminator
// CHECK: gpu.launch {{.*}} in (%{{.*}} = %c2048,
// CHECK: memref.load %{{.*}}[%c1]
// CHECK: scf.for {{.*}} step %c262144
func.func @serial(%p: memref<?xi32>, %x: memref<?xf32>, %a: f32) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  memref.store %a, %x[%c0] : memref<?xf32>
  %last = memref.load %p[%c1] : memref<?xi32>
  %n = arith.index_castui %last : i32 to index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    memref.store %a, %x[%i] : memref<?xf32>
  }
  return
}
